/* SPDX-License-Identifier: MIT */
#include "check/driver/show.h"
#include "check/driver/shrink.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "check/report/memory.h"
#include "check/report/picture.h"
#include "check/report/words.h"

static unsigned terminal_width(FILE *out)
{
	const char *columns = getenv("COLUMNS");
	struct winsize size;

	if (isatty(fileno(out)) && ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col)
		return size.ws_col;
	return columns && atoi(columns) > 0 ? (unsigned)atoi(columns) : 150;
}

enum tso show_ask_tso(const struct subject *subject, double seconds, const char **words)
{
	struct subject tso = *subject;
	struct options options = { .preemptions = -1, .stale = -1 };
	struct verdict *verdict = memory_get(sizeof(*verdict));
	enum tso answer = TSO_UNSEEN;
	char text[160];

	tso.tso = true;
	plan_run(&tso, &options, seconds, NULL, verdict);
	if (verdict->failed && verdict->failure.verdict < CHECK_MIXED) {
		answer = TSO_FAILS;
		snprintf(text, sizeof(text), "fails as well (%s): an x86 host shows it",
		         check_verdict_name(verdict->failure.verdict));
	} else if (!verdict->failed && verdict->extent == EXTENT_EXHAUSTIVE) {
		answer = TSO_PASSES;
		snprintf(text, sizeof(text),
		         "does not fail (exhaustive): a compiler or an Arm host may show it, x86 does not");
	} else {
		snprintf(text, sizeof(text), "not seen to fail in %llu executions",
		         (unsigned long long)verdict->executions);
	}
	free(verdict);
	if (words)
		*words = memory_text(text);
	return answer;
}

static const char *search_text(const struct verdict *verdict)
{
	char text[160];

	snprintf(text, sizeof(text), "%s, %s%s%s, %llu executions, %.1f s",
	         verdict->found_by.model == CHECK_TSO ? "TSO" : "C11",
	         check_strategy_name(verdict->found_by.strategy), strcmp(verdict->bound, "none") ? ", " : "",
	         strcmp(verdict->bound, "none") ? verdict->bound : "", (unsigned long long)verdict->executions,
	         verdict->seconds);
	return memory_text(text);
}

static const char *replay_command(const struct show *show, const char *seed)
{
	size_t room = strlen(seed) + strlen(show->weaken_options) + 4200;
	char *text = memory_get(room);

	if (show->replay_before) {
		snprintf(text, room, "%s%s%s", show->replay_before, seed, show->replay_after);
		return text;
	}
	snprintf(text, room, "vmmu-check replay%s %s", show->weaken_options, seed);
	return text;
}

static void draw(const struct show *show, struct picture *picture, FILE *out)
{
	picture_text(picture, out, terminal_width(out), isatty(fileno(out)), show->all);
	if (show->html) {
		FILE *page = fopen(show->html, "w");

		if (!page) {
			fprintf(out, "  %s cannot be written: is its folder there?\n", show->html);
			return;
		}
		picture_html(picture, page);
		fclose(page);
		fprintf(out, "  as a page: %s\n", show->html);
	}
}

static struct picture picture_of(const struct show *show, const char *seed)
{
	const struct check_scenario *scenario = show->subject->scenario;

	return (struct picture){
		.scenario = scenario->name,
		.claim = scenario->claim ? scenario->claim : "",
		.protocol = scenario->protocol ? scenario->protocol : "",
		.weakened = show->weakened,
		.seed = seed,
		.replay = replay_command(show, seed),
		.full = show->all,
	};
}

/* Setup failed. No thread ran, so there is nothing to shrink or to draw. */
static void setup_put(const struct show *show, const struct check_result *result, FILE *out)
{
	fprintf(out, "\n%s: %s in setup, before any thread began\n  %s\n", show->subject->scenario->name,
	        check_verdict_name(result->verdict), words_without_dots(result->message));
	if (show->weakened)
		fprintf(out, "  weakened   %s\n", show->weakened);
}

void show_failure(const struct show *show, struct verdict *verdict, FILE *out)
{
	struct picture picture;
	struct check_result *again;

	if (verdict->failure.in_setup) {
		setup_put(show, &verdict->failure, out);
		return;
	}
	again = memory_get(sizeof(*again));
	if (show->shrink_seconds > 0)
		shrink(show->subject, show->shrink_seconds, verdict);
	picture = picture_of(show, verdict->failure.seed);
	picture.search = search_text(verdict);
	picture_take(&picture, show->subject->scenario, verdict->failure.seed, show->subject->tso,
	             show->subject->weak, show->subject->weak_count, again);
	/* say so: the picture would be of another execution */
	if (again->verdict == CHECK_PASSED || !picture.count) {
		picture.kind = check_verdict_name(verdict->failure.verdict);
		picture.message = verdict->failure.message;
		fprintf(out, "\nThe seed of this failure did not fail again when it was replayed (%s).\n",
		        check_verdict_name(again->verdict));
	}
	if (!show->subject->tso && show->tso_seconds > 0)
		show_ask_tso(show->subject, show->tso_seconds, &picture.tso);
	draw(show, &picture, out);
	free(again);
}

int show_seed(const struct show *show, const char *seed, FILE *out)
{
	struct picture picture = picture_of(show, seed);
	struct check_result *result = memory_get(sizeof(*result));
	int code;

	picture_take(&picture, show->subject->scenario, seed, show->subject->tso, show->subject->weak,
	             show->subject->weak_count, result);
	picture.search = "a seed";
	code = result->verdict == CHECK_UNSTABLE ? 2 : result->verdict != CHECK_PASSED;
	if (code == 2)
		fprintf(stderr, "vmmu-check: this is not an execution of %s as it is compiled now: %s\n",
		        show->subject->scenario->name, result->message);
	else if (code == 0)
		fprintf(out, "%s does not fail in this execution.\n", show->subject->scenario->name);
	if (result->in_setup)
		setup_put(show, result, out);
	else if (code < 2 && (code == 1 || show->all || show->html))
		draw(show, &picture, out);
	free(result);
	return code;
}

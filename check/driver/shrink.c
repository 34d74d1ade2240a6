/* SPDX-License-Identifier: MIT */
/*
 * A failure is shrunk in two steps. First the search is repeated with small bounds; if there is time, it finds a
 * failure with the fewest preemptions. Then the failing execution is edited: a thread's turns are moved next to other
 * turns of the thread, and stale reads are made fresh, as long as the execution still fails.
 */
#include "check/driver/shrink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/driver/jobs.h"
#include "check/report/memory.h"

#define MOST_COST 5u

struct shrinking {
	const struct subject *subject;
	struct verdict *verdict;
	double end;
};

static bool time_is_up(const struct shrinking *s)
{
	return jobs_clock() >= s->end;
}

static bool is_failure(const struct check_result *result)
{
	return result->verdict != CHECK_PASSED && result->verdict < CHECK_MIXED;
}

/* A stale read is harder to follow than a preemption, so it counts for two. */
static bool by_bounds(struct shrinking *s)
{
	struct check_result *result = memory_get(sizeof(*result));
	bool found = false;

	for (unsigned cost = 0; cost <= MOST_COST && !found; cost++)
		for (unsigned stale = 0; 2 * stale <= cost && !found && !time_is_up(s); stale++) {
			struct check_search search = { .scenario = s->subject->scenario,
				                       .strategy = CHECK_DFS,
				                       .model = s->subject->tso ? CHECK_TSO : CHECK_C11,
				                       .preemptions = cost - 2 * stale,
				                       .stale = stale,
				                       .seconds = (s->end - jobs_clock()) / 2,
				                       .weak = s->subject->weak,
				                       .weak_count = s->subject->weak_count };

			check_run(&search, result);
			found = is_failure(result);
		}
	if (found)
		s->verdict->failure = *result;
	free(result);
	return found;
}

/* --- editing --- */

/*
 * The choices of a seed, "SCENARIO:MODEL:CHOICES" (runtime/seed.h). A letter is a thread, a number after it
 * repeats it, and ".N" is its option.
 */
struct turn {
	char thread;
	unsigned option;
};

struct script {
	char *head; /* the seed up to the choices */
	unsigned count;
	struct turn *turn;
};

static bool script_read(const char *seed, struct script *script)
{
	const char *at = strchr(seed, ':');

	at = at ? strchr(at + 1, ':') : NULL;
	if (!at || strchr(seed, '!'))
		return false;
	*script = (struct script){ .head = memory_text(seed) };
	script->head[++at - seed] = '\0';
	while (*at >= 'a' && *at <= 'z') {
		char thread = *at++, *end = (char *)at;
		unsigned repeat = 1, option = 0;

		if (*at == '.')
			option = (unsigned)strtoul(at + 1, &end, 10);
		else if (*at >= '0' && *at <= '9')
			repeat = (unsigned)strtoul(at, &end, 10);
		at = end;
		script->turn = memory_resize(script->turn, (script->count + repeat) * sizeof(*script->turn));
		while (repeat--)
			script->turn[script->count++] = (struct turn){ thread, option };
	}
	return !*at;
}

static char *script_text(const struct script *script)
{
	size_t room = strlen(script->head) + script->count * 12 + 16, used;
	char *text = memory_get(room);

	used = (size_t)snprintf(text, room, "%s", script->head);
	for (unsigned i = 0; i < script->count; i++) {
		used += (size_t)snprintf(text + used, room - used, "%c", script->turn[i].thread);
		if (script->turn[i].option)
			used += (size_t)snprintf(text + used, room - used, ".%u", script->turn[i].option);
	}
	return text;
}

/* The end of the run of one thread's turns that begins at `at`. */
static unsigned run_end(const struct script *script, unsigned at)
{
	unsigned end = at;

	while (end < script->count && script->turn[end].thread == script->turn[at].thread)
		end++;
	return end;
}

static bool still_fails(const struct shrinking *s, const struct script *script, struct check_result *result)
{
	char *text = script_text(script);
	struct check_search search = { .scenario = s->subject->scenario,
		                       .strategy = CHECK_REPLAY,
		                       .model = s->subject->tso ? CHECK_TSO : CHECK_C11,
		                       .preemptions = CHECK_NO_BOUND,
		                       .stale = CHECK_NO_BOUND,
		                       .replay = text,
		                       .weak = s->subject->weak,
		                       .weak_count = s->subject->weak_count };

	check_run(&search, result);
	free(text);
	return result->verdict == s->verdict->failure.verdict;
}

/* Move the turns [from, end) to `to`. */
static void turns_move(struct script *script, unsigned from, unsigned end, unsigned to)
{
	unsigned count = end - from;
	struct turn *moved = memory_get(count * sizeof(*moved));

	memcpy(moved, script->turn + from, count * sizeof(*moved));
	if (to < from) {
		memmove(script->turn + to + count, script->turn + to, (from - to) * sizeof(*moved));
		memcpy(script->turn + to, moved, count * sizeof(*moved));
	} else {
		memmove(script->turn + from, script->turn + end, (to - end) * sizeof(*moved));
		memcpy(script->turn + to - count, moved, count * sizeof(*moved));
	}
	free(moved);
}

/* Try an edited script. If it fails it is the new failure, else the edit is undone. */
static bool edit_holds(struct shrinking *s, struct script *script, const struct turn *before,
                       struct check_result *result)
{
	if (still_fails(s, script, result)) {
		s->verdict->failure = *result;
		return true;
	}
	memcpy(script->turn, before, script->count * sizeof(*before));
	return false;
}

/*
 * Try to move each run next to the next run of its thread, and next to the one before. Returns:
 * whether anything got better.
 */
static bool runs_join(struct shrinking *s, struct script *script, struct turn *before, struct check_result *result)
{
	for (unsigned at = 0, next; at < script->count && !time_is_up(s); at = next) {
		unsigned end = run_end(script, at), other = next = end;

		while (other < script->count && script->turn[other].thread != script->turn[at].thread)
			other = run_end(script, other);
		if (other >= script->count)
			continue;
		memcpy(before, script->turn, script->count * sizeof(*before));
		turns_move(script, other, run_end(script, other), end); /* move the later run forward */
		if (edit_holds(s, script, before, result))
			return true;
		turns_move(script, at, end, other); /* move the earlier run back */
		if (edit_holds(s, script, before, result))
			return true;
	}
	return false;
}

static bool options_drop(struct shrinking *s, struct script *script, struct turn *before, struct check_result *result)
{
	for (unsigned i = 0; i < script->count && !time_is_up(s); i++) {
		if (!script->turn[i].option)
			continue;
		memcpy(before, script->turn, script->count * sizeof(*before));
		script->turn[i].option = 0;
		if (edit_holds(s, script, before, result))
			return true;
	}
	return false;
}

static void by_editing(struct shrinking *s)
{
	struct check_result *result = memory_get(sizeof(*result));
	bool better = true;

	while (better && !time_is_up(s)) {
		struct script script;
		struct turn *before;

		/* An edited execution may differ from the script. Its new seed says what it really was. */
		if (!script_read(s->verdict->failure.seed, &script))
			break;
		before = memory_get((script.count + 1) * sizeof(*before));
		better = options_drop(s, &script, before, result) || runs_join(s, &script, before, result);
		free(before);
		free(script.turn);
		free(script.head);
	}
	free(result);
}

void shrink(const struct subject *subject, double seconds, struct verdict *verdict)
{
	struct shrinking s = { .subject = subject, .verdict = verdict, .end = jobs_clock() + seconds * 0.7 };

	if (verdict->failure.verdict == CHECK_HANG)
		return; /* each try would run as long */
	by_bounds(&s);
	s.end = jobs_clock() + seconds * 0.3;
	by_editing(&s);
}

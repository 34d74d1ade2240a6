/* SPDX-License-Identifier: MIT */
/* The commands `sites`, `weigh` and `confirm`, which are about all sites. */
#include "check/driver/weigh.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "check/driver/jobs.h"
#include "check/driver/record.h"
#include "check/driver/show.h"
#include "check/driver/shrink.h"
#include "check/driver/weight.h"
#include "check/report/memory.h"

#define WEIGH_SECONDS   20.0 /* for each site */
#define BASELINE_SHARE   0.1  /* the part of it for each scenario with nothing made weaker */
#define CONFIRM_SECONDS 8.0
#define SHRINK_SECONDS  3.0

int command_sites(const struct options *options)
{
	const struct sites *sites = sites_of_core();
	unsigned missing = 0;

	for (unsigned i = 0; i < sites->count; i++) {
		const struct seam *seam = sites->site[i].seam;
		const struct record *record = options->tabs ? NULL : record_find(seam->key);

		if (options->tabs) {
			printf("%s\t%s\t%u\t%s\t%s\t%u\n", seam->key, seam->file, seam->line, seam->name,
			       seam_order_name(seam->order), sites->site[i].calls);
			continue;
		}
		missing += !record;
		printf("%s:%u  %s in %s: ", seam->file, seam->line, seam->name, seam->function);
		if (!record)
			puts("no entry in check/ordering.tsv");
		else if (!strcmp(record->verdict, "needed"))
			printf("needed; made %s, %s fails\n", record->way, record->scenario);
		else
			puts(!strcmp(record->verdict, "kept") ? "not shown to be needed" : "no scenario runs it");
	}
	for (unsigned i = 0; i < sites->strays; i++)
		fprintf(stderr,
		        "vmmu-check: an ordered access in core/ that the scan of the source did not find: return "
		        "address %#x\n",
		        sites->stray[i]);
	if (!options->tabs)
		printf("%u sites, %u of them without an entry\n", sites->count, missing);
	return sites->strays ? 3 : missing ? 1 : 0;
}

/* --- work on sites, shared among processes --- */

struct work {
	const struct site **site;
	unsigned count;
	double seconds;  /* for each site */
	double baseline; /* for each scenario with nothing made weaker, at the beginning */
	struct {
		unsigned next, passed, failed;
	} *shared;
	void (*one)(const struct work *work, const struct site *site);
};

static void work_child(struct job *job)
{
	const struct work *work = job->arg;
	unsigned i;

	while ((i = __atomic_fetch_add(&work->shared->next, 1, __ATOMIC_RELAXED)) < work->count)
		work->one(work, work->site[i]);
}

static bool work_run(struct work *work, unsigned cores)
{
	struct job *job = memory_get((cores + 1) * sizeof(*job));
	struct jobs jobs = { .job = job, .count = cores, .at_once = cores };
	bool good = true;

	work->shared = jobs_shared(sizeof(*work->shared));
	meetings_prepare(work->baseline);
	for (unsigned i = 0; i < cores; i++)
		job[i] = (struct job){ .run = work_child, .arg = work };
	jobs_run(&jobs);
	for (unsigned i = 0; i < cores; i++)
		good &= WIFEXITED(job[i].status) && !WEXITSTATUS(job[i].status);
	free(job);
	return good;
}

static bool work_add(struct work *work, const char *name)
{
	const struct site *site = site_find(name);

	if (!site)
		return false;
	work->site = memory_resize(work->site, (work->count + 1) * sizeof(*work->site));
	work->site[work->count++] = site;
	return true;
}

/* The sites that the command's words name. "-": the sites of standard input. No words: all sites. */
static bool work_take(struct work *work, const struct options *options)
{
	const struct sites *sites = sites_of_core();
	char line[1024];

	for (unsigned i = 0; i < options->words; i++) {
		bool input = !strcmp(options->word[i], "-");

		if (!input && !work_add(work, options->word[i]))
			return false;
		while (input && fgets(line, sizeof(line), stdin)) {
			line[strcspn(line, "\n")] = '\0';
			if (line[0] && !work_add(work, line))
				return false;
		}
	}
	for (unsigned i = 0; i < sites->count && !options->words; i++)
		work_add(work, sites->site[i].seam->key);
	return true;
}

/* --- weigh --- */

/* Write a line by one write, because several processes print. */
static void weight_put(const struct weight *weight)
{
	const char *key = weight->site->seam->key, *stays = weight->stayed ? weight->stays.name : "";
	struct verdict *verdict = memory_get(sizeof(*verdict));
	struct check_weak *weak = weak_room(weight->site);
	struct subject subject = subject_with(weight->scenario, weight->site, weight->fails.how, weak);
	static const char *const tso[] = { [TSO_FAILS] = "fails", [TSO_PASSES] = "passes", [TSO_UNSEEN] = "not seen" };

	if (!weight->scenarios) {
		printf("%s\tunmet\n", key);
	} else if (!weight->failed) {
		printf("%s\tkept\t\t%s\t\t\t\t\t%u scenario%s, %u of them exhausted, %llu executions\n", key, stays,
		       weight->effort.scenarios, weight->effort.scenarios == 1 ? "" : "s", weight->effort.exhausted,
		       (unsigned long long)weight->effort.executions);
	} else {
		*verdict = weight->verdict;
		shrink(&subject, SHRINK_SECONDS, verdict);
		printf("%s\tneeded\t%s\t%s\t%s\t%s\t%s\t%s\n", key, weight->fails.name, stays,
		       weight->scenario->name, tso[show_ask_tso(&subject, SHRINK_SECONDS, NULL)],
		       check_verdict_name(verdict->failure.verdict), verdict->failure.seed);
	}
	fflush(stdout);
	free(verdict);
	free(weak);
}

static void weigh_one(const struct work *work, const struct site *site)
{
	struct weight *weight = memory_get(sizeof(*weight));

	site_weigh(site, work->seconds, weight);
	weight_put(weight);
	free(weight);
}

int command_weigh(const struct options *options)
{
	struct work work = { .seconds = options->budget > 0 ? options->budget : WEIGH_SECONDS, .one = weigh_one };

	work.baseline = work.seconds * BASELINE_SHARE;
	if (!work_take(&work, options))
		return 2;
	setvbuf(stdout, NULL, _IOFBF, 65536);
	return work_run(&work, options->jobs ? options->jobs : jobs_cores()) ? 0 : 3;
}

/* --- confirm: does each record of a needed site still fail? --- */

/* Replay the recorded seed first. Changed code may have other executions; then search the scenario. */
static bool record_holds(const struct site *site, const struct record *record)
{
	const struct check_scenario *scenario = check_scenario_find(record->scenario);
	struct meeting meeting = { scenario, 1 };
	struct check_weak *weak = weak_room(site);
	struct check_result *result = memory_get(sizeof(*result));
	struct weight *weight = memory_get(sizeof(*weight));
	struct effort effort;
	struct way way;

	if (!scenario || !way_named(site, record->way, &way))
		return false;
	site_weaken(site, way.how, weak);
	check_run(&(struct check_search){ .scenario = scenario,
	                                  .strategy = CHECK_REPLAY,
	                                  .replay = record->seed,
	                                  .stale = CHECK_NO_BOUND,
	                                  .preemptions = CHECK_NO_BOUND,
	                                  .weak = weak,
	                                  .weak_count = site->calls },
	          result);
	return (result->verdict != CHECK_PASSED && result->verdict < CHECK_MIXED) ||
	       way_fails(site, &way, &meeting, 1, CONFIRM_SECONDS, weight, &effort);
}

static void confirm_one(const struct work *work, const struct site *site)
{
	const struct record *record = record_find(site->seam->key);

	if (!record || strcmp(record->verdict, "needed"))
		return;
	if (record_holds(site, record)) {
		__atomic_fetch_add(&work->shared->passed, 1, __ATOMIC_RELAXED);
		return;
	}
	__atomic_fetch_add(&work->shared->failed, 1, __ATOMIC_RELAXED);
	printf("%s: made %s, %s does not fail any more\n", site->seam->key, record->way, record->scenario);
	fflush(stdout);
}

int command_confirm(const struct options *options)
{
	struct work work = { .one = confirm_one };

	if (!work_take(&work, options))
		return 2;
	if (!work_run(&work, options->jobs ? options->jobs : jobs_cores()))
		return 3;
	printf("%u passed, %u failed\n", work.shared->passed, work.shared->failed);
	return work.shared->failed ? 1 : 0;
}

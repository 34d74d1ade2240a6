/* SPDX-License-Identifier: MIT */
#include "check/driver/weigh.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check/driver/files.h"
#include "check/driver/jobs.h"
#include "check/driver/record.h"
#include "check/driver/show.h"
#include "check/report/memory.h"
#include "check/report/sites.h"
#include "check/report/source.h"

#define MEETING_EXECUTIONS 60   /* to see which sites a scenario meets */
#define WEIGH_SECONDS      20.0 /* of a site, in all scenarios that meet it */
#define WHY_SECONDS        8.0
#define MOST_SCENARIOS     256

/* --- which scenarios meet a site --- */

struct meeting {
	const struct check_scenario *scenario;
	uint64_t met;
};

/* Those that meet it seldom come first: they are about it, and small. */
static int by_meetings(const void *a, const void *b)
{
	const struct meeting *x = a, *y = b;

	return x->met < y->met ? -1 : x->met > y->met;
}

/* The sites that a scenario meets are found once, in this process, for all sites. */
static struct {
	const struct check_scenario *scenario;
	struct check_site *site;
	unsigned count;
} known[MOST_SCENARIOS];

static void scenarios_meet(void)
{
	const struct check_scenario *scenario;

	for (unsigned i = 0; (scenario = check_scenario_at(i)) && i < MOST_SCENARIOS; i++) {
		struct check_search search = { .scenario = scenario,
			                       .strategy = CHECK_RANDOM,
			                       .stale = CHECK_NO_BOUND,
			                       .seed = 1,
			                       .executions = MEETING_EXECUTIONS,
			                       .seconds = 2,
			                       .collect_sites = true };
		struct check_result *result = memory_get(sizeof(*result));
		const struct check_site *site;

		check_sites_forget();
		check_run(&search, result);
		known[i].scenario = scenario;
		known[i].count = check_sites(&site);
		known[i].site = memory_get((known[i].count + 1) * sizeof(*site));
		memcpy(known[i].site, site, known[i].count * sizeof(*site));
		free(result);
	}
}

static unsigned meetings_of(const struct site *site, struct meeting *meeting)
{
	unsigned count = 0;

	if (!known[0].scenario)
		scenarios_meet();
	for (unsigned i = 0; i < MOST_SCENARIOS && known[i].scenario; i++) {
		uint64_t met = 0;

		for (unsigned s = 0; s < known[i].count; s++)
			if (site_is_met(site, &known[i].site[s]))
				met += known[i].site[s].met;
		if (met && !(known[i].scenario->flags & CHECK_EXPECT_FAILURE))
			meeting[count++] = (struct meeting){ known[i].scenario, met };
	}
	qsort(meeting, count, sizeof(*meeting), by_meetings);
	return count;
}

/* --- one site --- */

struct weight {
	const struct site *site;
	struct way fails, stays;     /* the strongest way that fails; the weakest that does not */
	bool failed, stayed;
	const struct check_scenario *scenario;
	struct verdict verdict;      /* of the failure */
	unsigned scenarios, complete; /* searched without a failure; those of them that were exhausted */
	uint64_t executions;
};

static struct subject subject_of(const struct check_scenario *scenario, const struct site *site, enum check_weakening how, struct check_weak *weak)
{
	site_weaken(site, how, weak);
	return (struct subject){ .scenario = scenario, .weak = weak, .weak_count = site->calls };
}

/* Every scenario gets a moment first: what fails, fails soon. Then what is left is shared among those that were not exhausted. */
static bool way_fails(struct weight *weight, const struct way *way, const struct meeting *meeting, unsigned count, double seconds)
{
	struct check_weak *weak = memory_get((weight->site->calls + 1) * sizeof(*weak));
	struct options options = { .preemptions = -1, .stale = -1 };
	bool *done = memory_get(count + 1), fails = false;
	double end = jobs_clock() + seconds;
	struct verdict *verdict = memory_get(sizeof(*verdict));
	unsigned left = count;

	weight->scenarios = count;
	weight->complete = 0;
	weight->executions = 0;
	for (unsigned round = 0; round < 2 && !fails && left; round++)
		for (unsigned i = 0; i < count && !fails; i++) {
			struct subject subject = subject_of(meeting[i].scenario, weight->site, way->how, weak);
			double share = (end - jobs_clock()) / left;

			if (done[i])
				continue;
			if (round == 0 && share > 0.5)
				share = 0.5;
			plan_run(&subject, &options, share > 0.05 ? share : 0.05, NULL, verdict);
			weight->executions += verdict->executions;
			fails = verdict->failed && verdict->failure.verdict < CHECK_MIXED;
			if (fails) {
				weight->verdict = *verdict;
				weight->scenario = meeting[i].scenario;
			} else if (verdict->extent == EXTENT_EXHAUSTIVE) {
				done[i] = true;
				weight->complete++;
				left--;
			} else if (round == 1) {
				left--;
			}
		}
	free(weak);
	free(done);
	free(verdict);
	return fails;
}

/* The ways go from the weakest up: the last that fails is what the site is needed for. A split says nothing of orders, and is asked on its own. */
static void site_weigh(struct weight *weight, double seconds)
{
	struct meeting meeting[MOST_SCENARIOS];
	unsigned count = meetings_of(weight->site, meeting), ways;
	struct way way[5];

	ways = site_ways(weight->site, way);
	weight->scenarios = count;
	if (!count)
		return;
	for (unsigned i = 0; i < ways; i++) {
		struct weight tried = { .site = weight->site };

		if (way_fails(&tried, &way[i], meeting, count, seconds / ways)) {
			tried.fails = way[i];
			tried.failed = true;
			tried.stays = weight->stays;
			tried.stayed = weight->stayed;
			*weight = tried;
		} else if (way[i].how != CHECK_SPLIT && !weight->stayed) {
			weight->stays = way[i];
			weight->stayed = true;
			if (!weight->failed) {
				weight->complete = tried.complete;
				weight->executions = tried.executions;
			}
			if (way[i].how == CHECK_TO_RELAXED || way[i].how == CHECK_DROP)
				i = ways - 1 - (way[ways - 1].how == CHECK_SPLIT); /* what is stronger does not fail either */
		}
	}
}

/* --- the commands --- */

static void weight_put(const struct weight *weight)
{
	const char *verdict = !weight->scenarios ? "unmet" : weight->failed ? "needed" : "kept";
	bool tso = false;

	printf("%s\t%s\t%s\t%s\t", weight->site->seam->key, verdict, weight->failed ? weight->fails.name : "", weight->stayed ? weight->stays.name : "");
	if (!weight->failed) {
		printf("\t\t\t\t%u scenarios, %u of them exhausted, %llu executions\n", weight->scenarios, weight->complete, (unsigned long long)weight->executions);
	} else {
		struct check_weak *weak = memory_get((weight->site->calls + 1) * sizeof(*weak));
		struct subject subject = subject_of(weight->scenario, weight->site, weight->fails.how, weak);
		struct verdict *verdict_now = memory_get(sizeof(*verdict_now));

		*verdict_now = weight->verdict;
		plan_shrink(&subject, 3, verdict_now);
		show_ask_tso(&subject, 3, &tso);
		printf("%s\t%s\t%s\t%s\t\n", weight->scenario->name, tso ? "fails" : "passes", check_verdict_name(verdict_now->failure.verdict),
		       verdict_now->failure.seed);
	}
	fflush(stdout);
}

struct weighing {
	const struct site **site;
	unsigned count;
	unsigned *next; /* shared: the next site that nobody has taken */
	double seconds;
};

static void weigh_child(struct job *job)
{
	const struct weighing *weighing = job->arg;
	unsigned i;

	while ((i = __atomic_fetch_add(weighing->next, 1, __ATOMIC_RELAXED)) < weighing->count) {
		struct weight *weight = memory_get(sizeof(*weight));

		weight->site = weighing->site[i];
		site_weigh(weight, weighing->seconds);
		weight_put(weight);
		free(weight);
	}
}

int command_weigh(const struct options *options)
{
	const struct sites *sites = sites_of_core();
	struct weighing weighing = { .next = jobs_shared(sizeof(unsigned)), .seconds = options->budget > 0 ? options->budget : WEIGH_SECONDS };
	unsigned cores = options->jobs ? options->jobs : jobs_cores();
	struct job *job = memory_get(cores * sizeof(*job));
	struct jobs jobs = { .job = job, .count = cores, .at_once = cores };

	weighing.site = memory_get((sites->count + options->words) * sizeof(*weighing.site));
	for (unsigned i = 0; i < options->words; i++) {
		const struct site *site = site_find(options->word[i]);

		if (!site)
			return 2;
		weighing.site[weighing.count++] = site;
	}
	for (unsigned i = 0; i < sites->count && !options->words; i++)
		weighing.site[weighing.count++] = &sites->site[i];
	scenarios_meet();
	for (unsigned i = 0; i < cores; i++)
		job[i] = (struct job){ .run = weigh_child, .arg = &weighing };
	jobs_run(&jobs);
	for (unsigned i = 0; i < cores; i++)
		if (!WIFEXITED(job[i].status) || WEXITSTATUS(job[i].status))
			return 3;
	return 0;
}

int command_sites(const struct options *options)
{
	const struct sites *sites = sites_of_core();
	unsigned missing = 0;

	for (unsigned i = 0; i < sites->count; i++) {
		const struct seam *seam = sites->site[i].seam;
		const struct record *record = record_find(seam->key);

		if (options->tabs) {
			printf("%s\t%s\t%u\t%s\t%s\t%u\n", seam->key, seam->file, seam->line, seam->name, seam_order_name(seam->order), sites->site[i].calls);
			continue;
		}
		missing += !record;
		printf("%s:%u  %s in %s  %s", seam->file, seam->line, seam->name, seam->function,
		       !record ? "not in doc/ordering.tsv" : !strcmp(record->verdict, "needed") ? "needed: " : record->verdict);
		if (record && !strcmp(record->verdict, "needed"))
			printf("%s, %s fails", record->way, record->scenario);
		putchar('\n');
	}
	for (unsigned i = 0; i < sites->strays; i++)
		fprintf(stderr, "vmmu-check: an ordered access in core/ that the scan of the source did not find: return address %#x\n", sites->stray[i]);
	if (!options->tabs)
		printf("%u sites, %u of them without an entry\n", sites->count, missing);
	return sites->strays ? 3 : missing ? 1 : 0;
}

static int why_needed(const struct options *options, const struct site *site, struct weight *weight)
{
	struct check_weak *weak = memory_get((site->calls + 1) * sizeof(*weak));
	struct subject subject = subject_of(weight->scenario, site, weight->fails.how, weak);
	char words[512], option[512], page[4400];
	struct show show = { .subject = &subject, .weakened = words, .weaken_options = option, .shrink_seconds = 2, .tso_seconds = 1, .all = options->all,
		             .html = page };

	snprintf(words, sizeof(words), "%s:%u, %s in %s: %s", site->seam->file, site->seam->line, site->seam->name, site->seam->function, weight->fails.name);
	snprintf(option, sizeof(option), " --weaken '%s=%s'", site->seam->key, weight->fails.name);
	files_path(page, sizeof(page), options->html, "why", "html");
	printf("Needed: made %s, %s fails.\n", weight->fails.name, weight->scenario->name);
	show_failure(&show, &weight->verdict, stdout);
	return 0;
}

/* What is known already is tried first: the scenario that failed when the site was last weighed. */
static bool why_as_recorded(const struct site *site, const struct record *record, struct weight *weight)
{
	const struct check_scenario *scenario = record && !strcmp(record->verdict, "needed") ? check_scenario_find(record->scenario) : NULL;
	struct meeting meeting = { scenario, 1 };
	struct way way[5];
	unsigned ways = site_ways(site, way);

	for (unsigned i = 0; i < ways && scenario; i++)
		if (!strcmp(way[i].name, record->way) && way_fails(weight, &way[i], &meeting, 1, WHY_SECONDS / 2)) {
			weight->fails = way[i];
			return weight->failed = true;
		}
	return false;
}

int command_why(const struct options *options)
{
	const struct site *site = options->words == 1 ? site_find(options->word[0]) : NULL;
	const struct record *record;
	struct weight *weight = memory_get(sizeof(*weight));
	const char *reason;

	if (options->words != 1)
		fprintf(stderr, "vmmu-check: why wants one site: vmmu-check why FILE:LINE\n");
	if (!site)
		return 2;
	if (!files_make(options->html))
		return 3;
	printf("%s:%u: %s in %s (%s)\n  %s\n", site->seam->file, site->seam->line, site->seam->name, site->seam->function, seam_order_name(site->seam->order),
	       source_text(site->seam->file, site->seam->line));
	record = record_find(site->seam->key);
	weight->site = site;
	if (!why_as_recorded(site, record, weight))
		site_weigh(weight, options->budget > 0 ? options->budget : WHY_SECONDS);
	if (weight->failed)
		return why_needed(options, site, weight);
	if (!weight->scenarios)
		printf("No scenario runs it.\n");
	else
		printf("Not shown to be needed: nothing failed when it was made %s; %u scenarios, %u of them exhausted, %llu executions.\n",
		       weight->stayed ? weight->stays.name : "weaker", weight->scenarios, weight->complete, (unsigned long long)weight->executions);
	reason = record_reason(site->seam->key);
	printf("Why it stays: %s\n", reason ? reason : "nobody has written that down (doc/ordering.reasons).");
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include "check/driver/meeting.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "check/driver/jobs.h"
#include "check/driver/plan.h"
#include "check/report/memory.h"
#include "check/runtime/search.h"

#define EXECUTIONS 60
#define MOST_SITES 1024u /* the most of one scenario */

/*
 * What is known of each scenario. `met` is shared with the process that finds it out, because a scenario whose
 * setup fails ends its process.
 */
static struct known {
	const struct check_scenario *scenario;
	double seconds;
	struct met {
		bool fails; /* it fails with nothing made weaker, so it says nothing of a site */
		unsigned count;
		struct check_site site[MOST_SITES];
	} *met;
} known[MOST_SCENARIOS];

/*
 * Random executions meet most sites. With more time also search with one preemption at each place:
 * some sites need a certain order.
 */
static void scenario_try(struct job *job)
{
	struct known *k = job->arg;
	struct check_result *result = memory_get(sizeof(*result));
	struct check_search random = {
		.scenario = k->scenario, .strategy = CHECK_RANDOM, .stale = CHECK_NO_BOUND, .seed = 1,
		.executions = EXECUTIONS, .seconds = 2, .collect_sites = true
	};
	struct check_search ordered = {
		.scenario = k->scenario, .strategy = CHECK_DFS, .preemptions = 1, .executions = 8 * EXECUTIONS,
		.seconds = 0.2, .collect_sites = true
	};
	const struct check_site *site;
	unsigned count;

	check_run(&random, result);
	k->met->fails = result->verdict != CHECK_PASSED;
	if (!k->met->fails && k->seconds > 0) {
		struct options options = { .preemptions = -1, .stale = -1 };
		struct verdict *verdict = memory_get(sizeof(*verdict));

		check_run(&ordered, result);
		plan_run(&(struct subject){ .scenario = k->scenario, .collect = true }, &options, k->seconds, NULL,
		         verdict);
		k->met->fails = result->verdict != CHECK_PASSED || verdict->failed;
	}
	count = check_sites(&site);
	k->met->count = count < MOST_SITES ? count : MOST_SITES;
	memcpy(k->met->site, site, k->met->count * sizeof(*site));
}

void meetings_prepare(double seconds)
{
	struct job job[MOST_SCENARIOS] = { 0 };
	struct jobs jobs = { .job = job };
	const struct check_scenario *scenario;

	if (known[0].scenario)
		return;
	for (unsigned i = 0; (scenario = check_scenario_at(i)) && i < MOST_SCENARIOS; i++) {
		known[i] = (struct known){ scenario, seconds, jobs_shared(sizeof(struct met)) };
		job[jobs.count++] = (struct job){ .run = scenario_try, .arg = &known[i], .limit = 20 + 2 * seconds };
	}
	jobs_run(&jobs);
	for (unsigned i = 0; i < jobs.count; i++)
		known[i].met->fails |= !WIFEXITED(job[i].status) || WEXITSTATUS(job[i].status);
}

static int by_meetings(const void *a, const void *b)
{
	const struct meeting *x = a, *y = b;

	return x->met < y->met ? -1 : x->met > y->met;
}

unsigned meetings_of(const struct site *site, struct meeting meeting[MOST_SCENARIOS])
{
	unsigned count = 0;

	meetings_prepare(0);
	for (unsigned i = 0; i < MOST_SCENARIOS && known[i].scenario; i++) {
		uint64_t met = 0;

		for (unsigned s = 0; s < known[i].met->count; s++)
			if (site_is_met(site, &known[i].met->site[s]))
				met += known[i].met->site[s].met;
		if (met && !known[i].met->fails)
			meeting[count++] = (struct meeting){ known[i].scenario, met };
	}
	qsort(meeting, count, sizeof(*meeting), by_meetings);
	return count;
}

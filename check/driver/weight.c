/* SPDX-License-Identifier: MIT */
#include "check/driver/weight.h"

#include <stdlib.h>
#include <string.h>

#include "check/driver/jobs.h"
#include "check/report/memory.h"

#define MOMENT 0.5 /* seconds for a scenario in the first round */

struct check_weak *weak_room(const struct site *site)
{
	return memory_get((site->calls + 1) * sizeof(struct check_weak));
}

struct subject subject_with(const struct check_scenario *scenario, const struct site *site,
                            enum check_weakening how, struct check_weak *weak)
{
	site_weaken(site, how, weak);
	return (struct subject){ .scenario = scenario, .weak = weak, .weak_count = site->calls };
}

bool way_named(const struct site *site, const char *name, struct way *way)
{
	struct way ways[5];
	unsigned count = site_ways(site, ways);

	for (unsigned i = 0; i < count; i++)
		if (!strcmp(ways[i].name, name)) {
			*way = ways[i];
			return true;
		}
	return false;
}

/* Reaching a limit of the checker, or an execution that it cannot repeat, is no failure of the code. */
static bool counts_as_failure(const struct verdict *verdict)
{
	return verdict->failed && verdict->failure.verdict < CHECK_MIXED;
}

bool way_fails(const struct site *site, const struct way *way, const struct meeting *meeting, unsigned count,
               double seconds, struct weight *weight, struct effort *effort)
{
	struct options options = { .preemptions = -1, .stale = -1 };
	struct verdict *verdict = memory_get(sizeof(*verdict));
	struct check_weak *weak = weak_room(site);
	bool *over = memory_get(count + 1), fails = false;
	double end = jobs_clock() + seconds;
	unsigned left = count;

	*effort = (struct effort){ .scenarios = count };
	/*
	 * First every scenario gets a moment: a failure mostly shows soon. Then the scenarios that were not
	 * exhausted share the time left.
	 */
	for (unsigned turn = 0; turn < 2 * count && left && !fails; turn++) {
		unsigned i = turn % count;
		struct subject subject = subject_with(meeting[i].scenario, site, way->how, weak);
		double share = (end - jobs_clock()) / left;

		if (over[i])
			continue;
		if (turn >= count && share <= 0)
			break;
		if (turn < count && share > MOMENT)
			share = MOMENT;
		plan_run(&subject, &options, share > 0.05 ? share : 0.05, NULL, verdict);
		effort->executions += verdict->executions;
		fails = counts_as_failure(verdict);
		if (fails) {
			weight->fails = *way;
			weight->verdict = *verdict;
			weight->scenario = meeting[i].scenario;
		}
		over[i] = turn >= count || verdict->extent == EXTENT_EXHAUSTIVE;
		left -= over[i];
		effort->exhausted += verdict->extent == EXTENT_EXHAUSTIVE;
	}
	free(weak);
	free(over);
	free(verdict);
	return fails;
}

/*
 * From the weakest order up. The last order that fails is less than the site needs; the first that does not fail is
 * enough. Orders stronger than that are not tried. A split says nothing of orders: it is tried when no order fails.
 */
void site_weigh(const struct site *site, double seconds, struct weight *weight)
{
	struct meeting meeting[MOST_SCENARIOS];
	struct way way[5];
	unsigned ways = site_ways(site, way);

	*weight = (struct weight){ .site = site, .scenarios = meetings_of(site, meeting) };
	for (unsigned i = 0; i < ways && weight->scenarios; i++) {
		struct effort effort;

		if (way[i].how == CHECK_SPLIT ? weight->failed : weight->stayed)
			continue;
		if (way_fails(site, &way[i], meeting, weight->scenarios, seconds / ways, weight, &effort)) {
			weight->failed = true;
		} else if (way[i].how != CHECK_SPLIT || ways == 1) {
			weight->stayed = true;
			weight->stays = way[i];
			weight->effort = effort;
		}
	}
}

/* SPDX-License-Identifier: MIT */
#include "check/driver/meeting.h"

#include <stdlib.h>
#include <string.h>

#include "check/report/memory.h"
#include "check/runtime/search.h"

#define EXECUTIONS 60

static struct {
	const struct check_scenario *scenario;
	struct check_site *site;
	unsigned count;
} known[MOST_SCENARIOS];

void meetings_prepare(void)
{
	struct check_result *result = memory_get(sizeof(*result));
	const struct check_scenario *scenario;

	for (unsigned i = 0; !known[i].scenario && (scenario = check_scenario_at(i)) && i < MOST_SCENARIOS; i++) {
		struct check_search search = { .scenario = scenario,
			                       .strategy = CHECK_RANDOM,
			                       .stale = CHECK_NO_BOUND,
			                       .seed = 1,
			                       .executions = EXECUTIONS,
			                       .seconds = 2,
			                       .collect_sites = true };
		const struct check_site *site;

		check_sites_forget();
		check_run(&search, result);
		known[i].scenario = scenario;
		known[i].count = check_sites(&site);
		known[i].site = memory_get((known[i].count + 1) * sizeof(*site));
		memcpy(known[i].site, site, known[i].count * sizeof(*site));
	}
	free(result);
}

static int by_meetings(const void *a, const void *b)
{
	const struct meeting *x = a, *y = b;

	return x->met < y->met ? -1 : x->met > y->met;
}

unsigned meetings_of(const struct site *site, struct meeting meeting[MOST_SCENARIOS])
{
	unsigned count = 0;

	meetings_prepare();
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

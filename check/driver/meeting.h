/* SPDX-License-Identifier: MIT */
/* Which scenarios run a site. It is found once for all scenarios, by a few random executions of each. */
#ifndef CHECK_DRIVER_MEETING_H
#define CHECK_DRIVER_MEETING_H

#include <stdint.h>

#include "check/report/sites.h"

struct check_scenario;

#define MOST_SCENARIOS 256

struct meeting {
	const struct check_scenario *scenario;
	uint64_t met; /* how often it meets the site */
};

/**
 * Run the executions now, so that children made later know the results. Each scenario is searched for `seconds` more,
 * with nothing made weaker. One that fails is left out.
 */
void meetings_prepare(double seconds);

/**
 * The scenarios that meet the site. Those that meet it seldom come first: they are small, and
 * about it. Returns: how many.
 */
unsigned meetings_of(const struct site *site, struct meeting meeting[MOST_SCENARIOS]);

#endif

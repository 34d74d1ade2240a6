/* SPDX-License-Identifier: MIT */
/* Which scenarios run a site. Found once for all of them, by a few random executions each. */
#ifndef CHECK_DRIVER_MEETING_H
#define CHECK_DRIVER_MEETING_H

#include <stdint.h>

#include "check/report/sites.h"

struct check_scenario;

#define MOST_SCENARIOS 256

struct meeting {
	const struct check_scenario *scenario;
	uint64_t met; /* times */
};

/**
 * Run the executions now, so that children that are made later know what came of them. Scenarios that fail as it is
 * are left out; each is searched for `seconds` more to see whether it does.
 */
void meetings_prepare(double seconds);

/** Scenarios that meet the site, those first that meet it seldom: they are small, and about it. Returns: how many. */
unsigned meetings_of(const struct site *site, struct meeting meeting[MOST_SCENARIOS]);

#endif

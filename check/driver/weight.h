/* SPDX-License-Identifier: MIT */
/* Weighs a site: makes it weaker, and searches the scenarios that meet it. */
#ifndef CHECK_DRIVER_WEIGHT_H
#define CHECK_DRIVER_WEIGHT_H

#include "check/driver/meeting.h"
#include "check/driver/plan.h"

struct effort {
	unsigned scenarios, exhausted; /* scenarios searched without a failure; how many of them were exhausted */
	uint64_t executions;
};

struct weight {
	const struct site *site;
	unsigned scenarios;     /* how many meet the site */
	bool failed, stayed;
	struct way fails;       /* the strongest way that was seen to fail */
	struct way stays;       /* the weakest order that was not seen to fail */
	const struct check_scenario *scenario; /* the scenario that fails */
	struct verdict verdict;
	struct effort effort;   /* of the way that stays */
};

/** Try all ways of the site, in all scenarios that meet it, for about `seconds`. */
void site_weigh(const struct site *site, double seconds, struct weight *weight);

/**
 * Does one of the scenarios fail with the site made weaker in this way? Then weight->fails, scenario and verdict say
 * how; else *effort is filled in.
 */
bool way_fails(const struct site *site, const struct way *way, const struct meeting *meeting, unsigned count,
               double seconds, struct weight *weight, struct effort *effort);

/** The way of a site with this name. Returns: false when there is none. */
bool way_named(const struct site *site, const char *name, struct way *way);

/** A scenario with a site made weaker. `weak`: room for site->calls. */
struct subject subject_with(const struct check_scenario *scenario, const struct site *site,
                            enum check_weakening how, struct check_weak *weak);

/** Memory for subject_with. */
struct check_weak *weak_room(const struct site *site);

#endif

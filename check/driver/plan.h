/* SPDX-License-Identifier: MIT */
/*
 * What is searched, in which order, when a budget is given and nothing else: first everything, unbounded and reduced;
 * what is too big for that, bounded and not reduced, with growing bounds; and samples with the rest of the time. The
 * answer says which of the three it is: nothing that was cut short is called exhaustive.
 */
#ifndef CHECK_DRIVER_PLAN_H
#define CHECK_DRIVER_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "check/driver/options.h"
#include "check/runtime/search.h"

enum extent {
	EXTENT_EXHAUSTIVE, /* all executions that the memory model has, of this scenario */
	EXTENT_BOUNDED,    /* all within the bounds */
	EXTENT_SAMPLED,    /* some */
};

struct verdict {
	enum extent extent;
	char bound[48];          /* the same in words */
	uint64_t executions, points;
	double seconds;
	bool failed;
	struct check_result failure;
	struct check_search found_by; /* how */
};

/** Where a search stands: written by it, read by another process. */
struct progress {
	uint64_t executions, points; /* of searches that have ended, and of the one under way */
	int stage;
};

/* What is searched. */
struct subject {
	const struct check_scenario *scenario;
	const struct check_weak *weak; /* places made weaker */
	unsigned weak_count;
	bool tso;
	bool collect; /* the sites that are met */
};

/** Search as the options say, for at most `seconds`. `progress` may be NULL. */
void plan_run(const struct subject *subject, const struct options *options, double seconds,
              struct progress *progress, struct verdict *verdict);

const char *extent_name(enum extent extent);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The order of searches when only a budget is given. First everything, unbounded and reduced. What is too big for
 * that is searched within growing bounds, not reduced. Samples take the rest of the time. The answer says which of
 * the three it is; a search that was cut short is never called exhaustive.
 */
#ifndef CHECK_DRIVER_PLAN_H
#define CHECK_DRIVER_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "check/driver/options.h"
#include "check/runtime/search.h"

enum extent {
	EXTENT_EXHAUSTIVE, /* all executions of this scenario that the memory model has */
	EXTENT_BOUNDED,    /* all executions within the bounds */
	EXTENT_SAMPLED,    /* some executions */
};

struct verdict {
	enum extent extent;
	char bound[48];          /* the same in words */
	uint64_t executions, points;
	double seconds, cpu;     /* on the wall; of the searches alone */
	bool failed;
	struct check_result failure;
	struct check_search found_by; /* the search that found the failure */
};

/** The progress of a search. The search writes it, another process reads it. */
struct progress {
	uint64_t executions, points; /* of all searches that have ended and of the current one */
	int stage;
};

/* What to search. */
struct subject {
	const struct check_scenario *scenario;
	const struct check_weak *weak; /* the sites made weaker */
	unsigned weak_count;
	bool tso;
	bool collect; /* keep the sites that are met */
};

/** Search as the options say, for at most `seconds`. `progress` may be NULL. */
void plan_run(const struct subject *subject, const struct options *options, double seconds,
              struct progress *progress, struct verdict *verdict);

const char *extent_name(enum extent extent);

#endif

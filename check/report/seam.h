/* SPDX-License-Identifier: MIT */
/*
 * The ordering sites as they are written in core/: every call, stronger than relaxed, of an accessor of
 * core/sync/atomic.h; every compare-and-swap; every fence; every call of a function that takes a lock. They are found
 * by reading the source, so a site that no search has ever run is listed too.
 *
 * A site's key has no line number: "core/memslot/gate.c gate_enter spin_lock 1" is the first spin_lock in gate_enter.
 */
#ifndef CHECK_REPORT_SEAM_H
#define CHECK_REPORT_SEAM_H

#include <stdbool.h>

enum seam_kind {
	SEAM_LOAD,
	SEAM_STORE,
	SEAM_RMW,
	SEAM_CAS,
	SEAM_FENCE,
	SEAM_LOCK,
};

struct seam {
	char *key;
	const char *file; /* relative to the root of the source */
	char *function, *name;
	unsigned ordinal;
	unsigned line, column;
	enum seam_kind kind;
	int order; /* __ATOMIC_*. For a compare-and-swap the order of success, for a lock __ATOMIC_ACQUIRE */
};

struct seams {
	unsigned count;
	struct seam *seam; /* by file, then by line */
};

/** All sites of core/; the source is read once. Returns: never NULL; a tree that cannot be read has no sites. */
const struct seams *seams_of_core(void);

const char *seam_order_name(int order);

/** Does this function take a lock for its caller? Then the site is its caller, not the code within. */
bool seam_is_lock(const char *function);

#endif

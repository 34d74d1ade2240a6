/* SPDX-License-Identifier: MIT */
/*
 * The ordering sites as they are written: every call in core/ of a name of core/sync/atomic.h that is stronger than relaxed, of a
 * compare-and-swap, of a fence, and of a function that takes a lock. Found by reading the source, so that one that no search ever ran is
 * listed, too.
 *
 * A site's key says where it is without a line number: "core/memslot/gate.c gate_enter spin_lock 1" is the first spin_lock in gate_enter.
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
	int order; /* __ATOMIC_*; of a compare-and-swap, when it succeeds. Of a lock, __ATOMIC_ACQUIRE */
};

struct seams {
	unsigned count;
	struct seam *seam; /* by file, then by line */
};

/** All of core/, read once. Returns: never NULL; a tree that cannot be read has no seams. */
const struct seams *seams_of_core(void);

const char *seam_order_name(int order);

/** Is this function one that takes a lock by itself and for its caller: is its caller the site, and not the code within? */
bool seam_is_lock(const char *function);

#endif

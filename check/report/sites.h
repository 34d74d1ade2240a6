/* SPDX-License-Identifier: MIT */
/*
 * Every ordering site of core/: as it is written (seam.h), and the calls that it was compiled to. Inlining makes
 * several calls of one line. A function that nobody calls has none.
 */
#ifndef CHECK_REPORT_SITES_H
#define CHECK_REPORT_SITES_H

#include "check/report/seam.h"
#include "check/runtime/sites.h"

struct site {
	const struct seam *seam;
	unsigned calls;
	uint32_t *call; /* return addresses */
};

struct sites {
	unsigned count;
	struct site *site;   /* in the order of seams */
	unsigned strays;     /* ordered calls in core/ that belong to no seam: a hole in seam.c */
	uint32_t *stray;
};

/** Returns: never NULL. */
const struct sites *sites_of_core(void);

/**
 * Find a site by its key ("core/sync/srcu.c srcu_read_lock add_seqcst 1"), by "FILE:LINE", where FILE is enough of
 * the path to tell it apart, or by words of the key that no other key has ("notifier_ended", "gate_publish spin_lock
 * 2"). Returns: NULL after a message.
 */
const struct site *site_find(const char *text);

/** Is `met`, a call that a search met, one of the site's? */
bool site_is_met(const struct site *site, const struct check_site *met);

/* A way to make a site weaker. */
struct way {
	enum check_weakening how;
	/* on the command line and in reports: "relaxed", "acquire", ..., "dropped", "skipped", "split" */
	const char *name;
};

/** The ways of a site, the weakest first. Returns: how many (at most 5). */
unsigned site_ways(const struct site *site, struct way ways[5]);

/** Fill in what a search needs to make the site weaker. `weak`: room for site->calls entries. */
void site_weaken(const struct site *site, enum check_weakening how, struct check_weak *weak);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Every ordering site of core/: as it is written (seam.h), and the calls that it was compiled to. One line may be compiled to several, by inlining, and to
 * none, where the compiler dropped a function that nobody calls.
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
	unsigned strays;     /* ordered calls in core/ that no seam accounts for: a hole in seam.c */
	uint32_t *stray;
};

/** Returns: never NULL. */
const struct sites *sites_of_core(void);

/**
 * By key ("core/sync/srcu.c srcu_read_lock add_seqcst 1") by "FILE:LINE", FILE as much of the path as tells it apart, or by words of the key that
 * no other has ("notifier_ended", "gate_publish spin_lock 2"). Returns: NULL after a message.
 */
const struct site *site_find(const char *text);

/** Is this one of the site's calls, as searches meet them? */
bool site_is_met(const struct site *site, const struct check_site *met);

/* A way to make a site weaker. */
struct way {
	enum check_weakening how;
	const char *name; /* on the command line and in reports: "relaxed", "acquire", ..., "dropped", "skipped", "split" */
};

/** Ways of a site, the weakest first. Returns: how many (at most 5). */
unsigned site_ways(const struct site *site, struct way ways[5]);

/** What a search wants for a site made weaker in a way: room for site->calls. */
void site_weaken(const struct site *site, enum check_weakening how, struct check_weak *weak);

#endif

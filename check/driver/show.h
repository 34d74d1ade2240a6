/* SPDX-License-Identifier: MIT */
/* Shows a failure: shrinks it and draws it. */
#ifndef CHECK_DRIVER_SHOW_H
#define CHECK_DRIVER_SHOW_H

#include <stdio.h>

#include "check/driver/plan.h"

struct show {
	const struct subject *subject;
	const char *weakened;       /* what is made weaker, in words; NULL: nothing */
	const char *weaken_options; /* the same as command-line options; "" */
	const char *replay_before, *replay_after; /* the command that replays, around a seed; NULL: vmmu-check's */
	double shrink_seconds, tso_seconds; /* 0: leave it out */
	bool all;                   /* also rows that concern one thread only */
	const char *html;           /* the page's path; NULL: none */
};

/** Shrink the verdict's failure, find out whether TSO has it too, and draw it on `out` and as a page. */
void show_failure(const struct show *show, struct verdict *verdict, FILE *out);

/**
 * Draw the execution of a seed. Returns: an exit code, which says whether it fails; 2 after a message
 * when there is no such execution.
 */
int show_seed(const struct show *show, const char *seed, FILE *out);

enum tso {
	TSO_FAILS,
	TSO_PASSES, /* it passes, exhaustively */
	TSO_UNSEEN, /* it did not fail in the time there was */
};

/** Does it fail under TSO? *words: the answer in words, which live as long as the program. `words` may be NULL. */
enum tso show_ask_tso(const struct subject *subject, double seconds, const char **words);

#endif

/* SPDX-License-Identifier: MIT */
/* A failure, made small and drawn. */
#ifndef CHECK_DRIVER_SHOW_H
#define CHECK_DRIVER_SHOW_H

#include <stdio.h>

#include "check/driver/plan.h"

struct show {
	const struct subject *subject;
	const char *weakened;       /* in words; NULL: nothing */
	const char *weaken_options; /* as they are given on the command line; "" */
	double shrink_seconds, tso_seconds; /* 0: not done */
	bool all;                   /* rows of one thread's own, too */
	const char *html;           /* path of the page; NULL: none */
};

/** Shrink the verdict's failure, ask whether TSO has it too, draw it on `out` and as a page. */
void show_failure(const struct show *show, struct verdict *verdict, FILE *out);

/**
 * Draw the execution of a seed. Returns: an exit code: whether it fails; 2 after a message
 * when there is no such execution.
 */
int show_seed(const struct show *show, const char *seed, FILE *out);

enum tso {
	TSO_FAILS,
	TSO_PASSES, /* exhaustively */
	TSO_UNSEEN, /* did not fail in the time there was */
};

/** Does it fail under TSO? *words: the answer in words that live as long as the program; may be NULL. */
enum tso show_ask_tso(const struct subject *subject, double seconds, const char **words);

#endif

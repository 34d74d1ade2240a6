/* SPDX-License-Identifier: MIT */
#ifndef CHECK_LITMUS_TESTS_H
#define CHECK_LITMUS_TESTS_H

#define C11 1u
#define TSO 2u

struct litmus {
	const char *name;
	const char *program; /* axiom/parse.h */
	/* the reads of all threads in order, then the last values of the locations; '.' is any value */
	const char *outcome;
	unsigned allowed;    /* the models that allow it */
};

extern const struct litmus litmus_tests[];
extern const unsigned litmus_count;

#endif

/* SPDX-License-Identifier: MIT */
#ifndef CHECK_LITMUS_TESTS_H
#define CHECK_LITMUS_TESTS_H

#define C11 1u
#define TSO 2u

struct litmus {
	const char *name;
	const char *program; /* axiom/parse.h */
	const char *outcome; /* reads of all threads in order, then last values of the locations; '.' is any */
	unsigned allowed;    /* by which models */
};

extern const struct litmus litmus_tests[];
extern const unsigned litmus_count;

#endif

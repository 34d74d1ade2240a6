/* SPDX-License-Identifier: MIT */
/* The calls in this program's own code, found by decoding the code: which instruction calls which function. */
#ifndef CHECK_REPORT_CALLS_H
#define CHECK_REPORT_CALLS_H

#include <stdbool.h>
#include <stdint.h>

struct call {
	uintptr_t pc;       /* the address that the call returns to */
	const char *callee; /* its symbol */
	const char *caller; /* the symbol of the code around it */
	long argument[4];   /* the first four arguments: their constants, else CALL_UNKNOWN */
};

#define CALL_UNKNOWN (-1l)

struct calls {
	unsigned count;
	struct call *call; /* by address */
};

/**
 * Find every direct call of a symbol for which `wanted` is true; a jump at a function's end counts as a call.
 * Returns: false when the program cannot be read.
 */
bool calls_find(bool (*wanted)(const char *symbol), struct calls *calls);

#endif

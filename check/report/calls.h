/* SPDX-License-Identifier: MIT */
/* The calls of this program's own code, found by decoding it: which instruction calls what. */
#ifndef CHECK_REPORT_CALLS_H
#define CHECK_REPORT_CALLS_H

#include <stdbool.h>
#include <stdint.h>

struct call {
	uintptr_t pc;       /* where the call returns to */
	const char *callee; /* its symbol */
	const char *caller; /* the symbol of the code around it */
	long argument[4];   /* the first four, as far as they are constants; else CALL_UNKNOWN */
};

#define CALL_UNKNOWN (-1l)

struct calls {
	unsigned count;
	struct call *call; /* by address */
};

/** Every direct call (and jump, for a call at a function's end) to a symbol that `wanted` says yes to. Returns: false when the program cannot be read. */
bool calls_find(bool (*wanted)(const char *symbol), struct calls *calls);

#endif

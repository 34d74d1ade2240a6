/* SPDX-License-Identifier: MIT */
#ifndef CHECK_RUNTIME_WEAKEN_H
#define CHECK_RUNTIME_WEAKEN_H

#include "check/runtime/rt.h"

/** Return address of the function whose code runs: the wrapper's caller. 0: not known. */
static inline uint32_t weaken_caller(void)
{
	const struct thread *t = rt.self >= 0 ? self_thread() : &rt.thread[THREADS];

	return t->depth ? t->stack[(t->depth < CALL_DEPTH ? t->depth : CALL_DEPTH) - 1] : 0;
}

/**
 * Note the site of `op` and weaken its orders. Returns: true if the operation is to be left out
 * (a fence) or split (CAS, RMW).
 */
bool weaken_site(struct op *op);
bool weaken_drops_lock(struct op *op);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Sites: places in the code under test with an order or a lock that may turn out not to be needed. A site is the return address of a call of a __tsan_atomic*
 * function, a fence, check_lock or check_rcu_read_lock; for a call from an out-of-line wrapper, also the return address of the wrapper. Inlined copies of
 * one source line are sites of their own.
 */
#ifndef CHECK_RUNTIME_SITES_H
#define CHECK_RUNTIME_SITES_H

#include <stdbool.h>
#include <stdint.h>

enum check_operation {
	CHECK_LOAD,
	CHECK_STORE,
	CHECK_RMW,   /* exchange and fetch-and-operate */
	CHECK_CAS,
	CHECK_FENCE,
	CHECK_LOCK_SITE,
};

/* How a site is made weaker. An order that is not stronger than the one asked for stays as it is. */
enum check_weakening {
	CHECK_TO_RELAXED, /* loads, stores, RMW, CAS; a fence is dropped */
	CHECK_TO_ACQUIRE, /* from acq_rel or seq_cst; a store becomes relaxed */
	CHECK_TO_RELEASE, /* from acq_rel or seq_cst; a load becomes relaxed */
	CHECK_TO_ACQ_REL, /* from seq_cst: a load becomes acquire, a store release */
	CHECK_DROP,       /* fence: as if it were not there; lock, read section: not taken, and its unlock does nothing */
	CHECK_SPLIT,      /* CAS and RMW: a load, then a store */
};

struct check_weak {
	uint32_t pc;     /* return address; 0 matches any (with `caller`) */
	uint32_t caller; /* 0: any */
	enum check_weakening how;
};

struct check_site {
	uint32_t pc, caller;
	enum check_operation operation;
	int order;       /* __ATOMIC_*; of a CAS the order of success */
	uint64_t met;    /* times, in this process */
};

/** The sites met by searches with collect_sites so far, by pc and caller. Valid until the next search. */
unsigned check_sites(const struct check_site **sites);
void check_sites_forget(void);

#endif

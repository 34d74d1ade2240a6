/* SPDX-License-Identifier: MIT */
/*
 * Sites: the places in the code under test with an order or a lock that may turn out not to be needed. A site
 * is the return address of a call: of a __tsan_atomic* function, a fence, check_lock or check_rcu_read_lock.
 * When the call is in an out-of-line wrapper, the wrapper's return address belongs to the site. Each inlined
 * copy of a source line is a site.
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

/* How a site is made weaker. An order that is no stronger than the one asked for stays as it is. */
enum check_weakening {
	CHECK_TO_RELAXED, /* loads, stores, RMW, CAS; a fence is dropped */
	CHECK_TO_ACQUIRE, /* from acq_rel or seq_cst; a store becomes relaxed */
	CHECK_TO_RELEASE, /* from acq_rel or seq_cst; a load becomes relaxed */
	CHECK_TO_ACQ_REL, /* from seq_cst: a load becomes acquire, a store release */
	CHECK_DROP,       /* a fence is left out; a lock or read section is not taken, and its unlock does nothing */
	CHECK_SPLIT,      /* a CAS or RMW becomes a load, then a store */
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
	uint64_t met;    /* how often, in this process */
};

/** The sites that searches with collect_sites have met, by pc and caller. Valid until the next search. */
unsigned check_sites(const struct check_site **sites);
void check_sites_forget(void);

#endif

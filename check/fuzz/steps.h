/* SPDX-License-Identifier: MIT */
/* Random programs of everything that a scenario can do. */
#ifndef CHECK_FUZZ_STEPS_H
#define CHECK_FUZZ_STEPS_H

#include "check/axiom/axiom.h"
#include "check/check.h"

#define STEP_THREADS   4
#define STEPS          8
#define STEP_LOCATIONS 3

enum step_kind {
	STEP_LOAD, STEP_STORE, STEP_ADD, STEP_SWAP, STEP_CAS, STEP_FENCE, /* as in axiom/axiom.h, in its order */
	STEP_READ, STEP_WRITE,    /* plain, to a location without atomics */
	STEP_LOCK, STEP_UNLOCK,   /* value: exclusive */
	STEP_TRYLOCK,             /* and unlocks if it got the lock */
	STEP_SPIN,                /* until the location is not `expected` */
	STEP_SPIN_SWAP,           /* until an exchange with `value` finds `expected` */
	STEP_WAIT,                /* sleeps until the location is not `expected` */
	STEP_WAKE,
	STEP_CHOOSE,
	STEP_RCU_LOCK, STEP_RCU_UNLOCK, STEP_SYNCHRONIZE,
	STEP_RW_LOCK, STEP_RW_UNLOCK, /* `value`: exclusive */
	STEP_CALL,                /* after a grace period, store `value` */
	STEP_KINDS
};

struct step {
	enum step_kind kind;
	enum ax_order order;
	unsigned location, value, expected;
};

struct steps {
	bool silent; /* loops do not say that they spin */
	unsigned threads;
	struct {
		unsigned count;
		struct step step[STEPS];
	} thread[STEP_THREADS];
};

const struct check_scenario *steps_scenario(const struct steps *steps);

#endif

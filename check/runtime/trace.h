/* SPDX-License-Identifier: MIT */
/* The events that a replay reports: one for each operation, in the order in which they happen. */
#ifndef CHECK_RUNTIME_TRACE_H
#define CHECK_RUNTIME_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "check/runtime/sites.h"

enum check_event_kind {
	CHECK_EV_LOAD,
	CHECK_EV_STORE,
	CHECK_EV_RMW,         /* also a CAS that succeeded */
	CHECK_EV_CAS_FAILED,
	CHECK_EV_FENCE,
	CHECK_EV_READ,        /* plain */
	CHECK_EV_WRITE,       /* plain; `new` is not known yet */
	CHECK_EV_ALLOC,       /* value: size */
	CHECK_EV_FREE,
	CHECK_EV_LOCK,        /* value: 1 exclusive */
	CHECK_EV_UNLOCK,
	CHECK_EV_RCU_LOCK,    /* a read section begins */
	CHECK_EV_RCU_UNLOCK,
	CHECK_EV_SYNC_BEGIN,  /* check_synchronize */
	CHECK_EV_SYNC_END,
	CHECK_EV_RCU_CALL,
	CHECK_EV_WAIT,        /* check_wait; value: expected */
	CHECK_EV_WAKE,
	CHECK_EV_BLOCK,       /* the thread stands still from here on, at `address` */
	CHECK_EV_UNBLOCK,
	CHECK_EV_PAUSE,
	CHECK_EV_CHOOSE,      /* value: the choice; old: of how many */
	CHECK_EV_BEGIN,       /* a thread begins */
	CHECK_EV_END,
	CHECK_EV_LOG,         /* text: check_log's line */
	CHECK_EV_FAIL,        /* text: the message; always the last */
};

#define CHECK_MAX_STACK 64

struct check_event {
	unsigned step;         /* number of the event in the trace, from 0 */
	int thread;            /* -1: finish */
	enum check_event_kind kind;
	uint64_t address;
	unsigned size;
	uint64_t old;          /* the value read (loads, RMW) */
	uint64_t value;        /* the value written (stores, RMW), or as said above */
	int order;             /* __ATOMIC_*, as executed */
	bool weakened;         /* the code asked for a stronger order */
	bool synchronizes;     /* an acquire that synchronizes with the store it read */
	int reads_from;        /* step of the store that was read; -1: initial value, or not known */
	unsigned stale;        /* how many newer stores a load passed over, or a store was placed before */
	uint32_t pc, caller;   /* site */
	unsigned stack_count;  /* return addresses, innermost first, without pc */
	uint32_t stack[CHECK_MAX_STACK];
	const char *text;
};

struct check_tracer {
	void (*event)(void *arg, const struct check_event *event);
	bool plain;            /* also report plain accesses */
};

/** The function that the thread ran in the last execution; NULL: none, or a thread of check_rcu_call. */
const void *check_thread_fn(unsigned thread);

/** The name that check_name gave the location, "name" or "name+8" (static buffer); NULL: none. */
const char *check_name_of(uint64_t address);
/**
 * The block of check_alloc that `address` is in: its start, the thread that allocated it (-1: setup), and which of that
 * thread's blocks it is, from 1. False: none.
 */
bool check_block_of(uint64_t address, uint64_t *start, int *thread, unsigned *number);
/** The thread on whose stack, or among whose thread-local variables, `address` is. False: none. */
bool check_stack_of(uint64_t address, int *thread, bool *local);

#endif

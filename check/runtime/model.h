/* SPDX-License-Identifier: MIT */
/*
 * The memory model: C11 as RC11 repairs it (Lahav, Vafeiadis, Kang, Hur, Dreyer, PLDI 2017), without out-of-thin-air values.
 *
 * An execution grows by one event at a time. The new event is the last of its thread and reads from a store that is already there, so program order and
 * reads-from have no cycle: load buffering is not produced. A load may read any store that coherence and the order of sequentially consistent
 * events allow; a store may be placed anywhere in the modification order where they allow it. Nothing else is decided:
 *
 *     coherence    a load reads no store that is older than one which happens before it, or which was read before it (floor); a store likewise
 *     atomicity    nothing comes between a read-modify-write and what it read
 *     order_allows sequentially consistent accesses and fences (order_sc.c), or x86's memory order (order_tso.c)
 *
 * A compare-and-swap never fails by accident. All accesses to a location have one size; other sizes on the same bytes must be ordered by
 * happens-before with everything before (shadow.h), else the execution fails as CHECK_MIXED.
 */
#ifndef CHECK_RUNTIME_MODEL_H
#define CHECK_RUNTIME_MODEL_H

#include "check/runtime/rt.h"

/** Wait for this thread's turn, then do it. Returns: the value read; of a choice, the choice. */
uint64_t model_do(struct op *op);

/* ---- location.c ---- */

/** A location that begins with value 0, in no memory. */
uint32_t location_make(uint64_t key, unsigned size);
/** The location of something abstract: made when it is first asked for. */
uint32_t location_abstract(uint64_t key);
/** Its newest value, to memory. */
void location_write(const struct location *l, uint64_t value);

/* ---- spin.c ---- */

/** The thread that runs has read this store: it is part of a turn, if it is in a loop. */
void spin_note(uint32_t location, event_id from);
/** It has stored: a turn begins. */
void spin_forget(void);
uint64_t spin_pause(struct op *op);

/* ---- model.c ---- */

/** Has the abstract location been stored to, and does all of that happen before what this thread does next? */
bool model_knows(uint64_t key);

/** May the thread's OP_AWAIT or OP_AWAIT_RMW go on? Is its OP_PAUSE in vain, as nothing that it read has a newer store? */
bool model_ready(unsigned thread);
bool model_spins(unsigned thread);

/** The event may be added as it stands: with its `from` and `rank`, and itself in the lists. Only what leaves it is looked at: what leads to it
 * cannot close a cycle by itself. */
bool order_allows(struct event *e);
bool order_sc_allows(struct event *e);
bool order_tso_allows(struct event *e);

/** The oldest rank that `e` may read, or a store of it may follow. */
unsigned model_floor(const struct location *l, const struct event *e);

/** Is the store at `rank` followed by the read-modify-write that read it? */
bool model_is_taken(const struct location *l, unsigned rank);

void model_insert(struct location *l, struct event *e, unsigned rank);
void model_remove(struct location *l, struct event *e);

static inline unsigned rank_of(event_id store)
{
	return store ? event_of(store)->rank : 0;
}

static inline uint64_t value_of(const struct location *l, event_id store)
{
	return store ? event_of(store)->value : l->first;
}

static inline event_id *readers_of(struct location *l, event_id store)
{
	return store ? &event_of(store)->readers : &l->readers;
}

static inline bool acquires(unsigned order)
{
	return order == __ATOMIC_ACQUIRE || order == __ATOMIC_CONSUME || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

static inline bool releases(unsigned order)
{
	return order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

#endif

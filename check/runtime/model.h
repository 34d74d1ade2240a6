/* SPDX-License-Identifier: MIT */
/*
 * The memory model: C11 as RC11 repairs it (Lahav, Vafeiadis, Kang, Hur, Dreyer, PLDI 2017),
 * without out-of-thin-air values.
 *
 * An execution grows by one event at a time. The new event is the last of its thread and reads from a store that is
 * already there. So program order and reads-from have no cycle, and load buffering is not produced. A load may read
 * any store, and a store may take any place in the modification order, that these rules allow:
 *
 *     coherence    a load reads no store older than one that happens before the load, or that was read before it (the
 *                  floor); a store takes no place before such a store
 *     atomicity    nothing comes between a read-modify-write and the store that it read
 *     order_allows sequentially consistent accesses and fences (order_sc.c), or x86's memory order (order_tso.c)
 *
 * A compare-and-swap never fails by accident. All accesses to a location have one size. Accesses of another
 * size to the same bytes must be ordered by happens-before with all earlier ones (shadow.h), else the
 * execution fails as CHECK_MIXED.
 */
#ifndef CHECK_RUNTIME_MODEL_H
#define CHECK_RUNTIME_MODEL_H

#include "check/runtime/rt.h"

/** Wait for this thread's turn, then do the operation. Returns: the value read; of a choice, the choice. */
uint64_t model_do(struct op *op);

/* ---- location.c ---- */

/** Make a location that begins with value 0 and is not in memory. */
uint32_t location_make(uint64_t key, unsigned size);
/** The location of something abstract, made at the first call. */
uint32_t location_abstract(uint64_t key);
/** Write `value` to the location's memory. */
void location_write(const struct location *l, uint64_t value);

/* ---- spin.c ---- */

/** The running thread has read this store. In a loop the read is part of a turn. */
void spin_note(uint32_t location, event_id from);
/** The running thread has stored, so a turn begins. */
void spin_forget(void);
uint64_t spin_pause(struct op *op);
/**
 * The running thread is about to load. Is it exactly where it was at an earlier load, having done nothing since? Then
 * what it read in between is what the next spin_pause waits for.
 */
bool spin_turns(const struct op *op);
/** The same load has read this store. */
void spin_visit(const struct op *op, uint32_t location, event_id from);
/** How many registers a hook saves below its frame, for spin_turns. */
#define SAVED_REGISTERS 5

/* ---- model.c ---- */

/** Has the abstract location been stored to, and does every store of it happen before what this thread does next? */
bool model_knows(uint64_t key);

/**
 * May the thread's OP_AWAIT or OP_AWAIT_RMW go on? model_spins: is its OP_PAUSE in vain, as nothing
 * that it read has a newer store?
 */
bool model_ready(unsigned thread);
bool model_spins(unsigned thread);

/**
 * May the event be added as it stands, with its `from` and `rank`, and itself in the lists? Only edges that leave the
 * event are looked at: those that lead to it cannot close a cycle alone.
 */
bool order_allows(struct event *e);
bool order_sc_allows(struct event *e);
bool order_tso_allows(struct event *e);

/** The oldest rank that `e` may read, or that a store of it may follow. */
unsigned model_floor(const struct location *l, const struct event *e);

/** Did a read-modify-write read the store at `rank` and follow it? */
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
	return order == __ATOMIC_ACQUIRE || order == __ATOMIC_CONSUME || order == __ATOMIC_ACQ_REL ||
	       order == __ATOMIC_SEQ_CST;
}

static inline bool releases(unsigned order)
{
	return order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

#endif

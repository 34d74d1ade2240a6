/* SPDX-License-Identifier: MIT */
/*
 * The gate between invalidations and memslot changes (P5). Begin and end of an invalidation see the same set of slots,
 * and most invalidations take no mmu_lock.
 *
 * An invalidation is "in flight" from gate_enter to gate_leave. A slot change publishes its new set only when none is
 * in flight, and inside the gate's lock, so none can begin meanwhile. The gate is unfair on purpose: invalidations
 * never wait for a slot change, because a fair lock deadlocks with the host's own locks. There is at most one waiter,
 * the holder of slots_lock.
 */
#ifndef CORE_MEMSLOT_GATE_H
#define CORE_MEMSLOT_GATE_H

#include "core/sync/mutex.h"

struct gate {
	struct spin lock;     /* gate.lock of doc/locking.md */
	uint64_t active;      /* invalidations in flight; under lock */
	bool waiting;         /* a publication waits for active == 0; under lock */
	uint32_t event;       /* a: the publication sleeps on it; moved, under lock, when active becomes 0 meanwhile */
};

void gate_init(struct gate *gate);

/** An invalidation begins. From here to gate_leave the active sets do not change. Never sleeps for long. */
void gate_enter(struct gate *gate);

/**
 * An invalidation ends.
 * Returns: false, with no effect, if none is in flight: an end without its begin, or after gate_force_open.
 */
bool gate_leave(struct gate *gate);

/**
 * Wait until no invalidation is in flight, then call publish(arg) with the gate shut.
 * Holds: slots_lock. Sleeps. publish must not sleep.
 */
void gate_publish(struct gate *gate, void (*publish)(void *arg), void *arg);

/** VM destruction: forget invalidations whose end will never come. */
void gate_force_open(struct gate *gate);

#endif

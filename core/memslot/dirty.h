/* SPDX-License-Identifier: MIT */
/* What was written: the bitmap of a slot and the ring of a vCPU (P11). Neither knows of page tables. */
#ifndef CORE_MEMSLOT_DIRTY_H
#define CORE_MEMSLOT_DIRTY_H

#include <vmmu/dirty.h>

#include "core/memslot/slots.h"

static inline bool memslot_logs(const struct memslot *slot)
{
	return slot->flags & VMMU_SLOT_LOG_DIRTY;
}

/* A vCPU's ring. `entries` is shared with the program that harvests it: flags are read with acquire, everything read there is distrusted. */
struct dirty_ring {
	struct vmmu_dirty_gfn *entries; /* NULL until set */
	uint32_t size;                  /* a power of two; 0: no ring */
	uint32_t next;                  /* o: the next entry to fill, free running */
	uint32_t reset;                 /* under slots_lock: the next entry to take back, free running; a: read by the owner */
};

/**
 * `gfn` of `slot` was written by this vCPU, or is about to be through an entry that was installed before this call (P6: marked after).
 * Into the ring when the VM has rings, else into the bitmap. No effect when the slot is not logged.
 * `ring`: the vCPU's, or NULL for a write by the hypervisor outside any vCPU (bitmap only).
 * Returns: true when the ring is nearly full and the vCPU should ask for an exit (REQ_RING_FULL).
 */
bool dirty_mark(struct vm *vm, const struct memslot *slot, gfn_t gfn, struct dirty_ring *ring);

bool dirty_ring_nearly_full(const struct dirty_ring *ring);

/** Take 64 pages' bits from the bitmap: returns those that were set in `mask`, and clears them. `word`: page / 64. Atomic. */
uint64_t dirty_take(const struct memslot *slot, uint64_t word, uint64_t mask);

#endif

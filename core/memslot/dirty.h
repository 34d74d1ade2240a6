/* SPDX-License-Identifier: MIT */
/*
 * What was written: the bitmap of a slot and the ring of a vCPU (P11). Neither knows of page tables.
 *
 * Why nothing is lost. A page is marked after it became writable; it is taken before it is write-protected. If the mark comes before the take,
 * the take finds it, and the write protection after the take finds the writable entry. If it comes after, it is there for the next take.
 * What the guest writes between a take and the flush that follows is in the page when the flush is done, and so is seen by who reads the page
 * after that: hence a page's contents are read only when the call that took its mark has returned.
 */
#ifndef CORE_MEMSLOT_DIRTY_H
#define CORE_MEMSLOT_DIRTY_H

#include <vmmu/dirty.h>

#include "core/memslot/slots.h"

static inline bool memslot_logs(const struct memslot *slot)
{
	return slot->flags & VMMU_SLOT_LOG_DIRTY;
}

/*
 * A vCPU's ring, and its count of what it marked. `entries` is shared with the program that harvests it: everything read there is distrusted.
 * Where the ring stands is known from `next` and `reset` alone, and nobody else can write those.
 *   o  the vCPU's thread; atomic, since others look
 *   S  under slots_lock; atomic, since the vCPU looks
 */
struct dirty_ring {
	struct vmmu_dirty_gfn *entries; /* NULL until set */
	uint32_t size;                  /* a power of two; 0: no ring */
	uint32_t next;                  /* o: entries filled, ever */
	uint32_t reset;                 /* S: entries taken back, ever: next - size <= reset <= next */
	uint64_t marked;                /* o: pages newly marked dirty, in the ring or in bitmaps; only statistics look */
};

/**
 * `gfn` of `slot` was written by this vCPU, or is about to be through an entry that was installed before this call (P6: marked after).
 * Into the ring when the VM has rings, else into the bitmap. No effect when the slot is not logged.
 * `ring`: the vCPU's, whether it has entries or not, or NULL for a write by the hypervisor outside any vCPU (bitmap only).
 * Returns: true when the ring is nearly full and the vCPU should ask for an exit (REQ_RING_FULL).
 */
bool dirty_mark(struct vm *vm, const struct memslot *slot, gfn_t gfn, struct dirty_ring *ring);

/** No more than VMMU_DIRTY_RING_RESERVED entries are left (or the ring was never set): the vCPU must not enter the guest. On its thread. */
bool dirty_ring_nearly_full(const struct dirty_ring *ring);

/**
 * May the vCPU of this ring write a page of the slot once more? Asked before each write that a fault or a walk allows
 * or makes; at the reserve the answer is no, so that however many faults there are between two entries to the guest,
 * they leave it alone. `ring`: NULL for the bitmap. On the vCPU's thread.
 * Returns: false: nothing may be written; ask for an exit (REQ_RING_FULL).
 */
static inline bool dirty_has_room(const struct memslot *slot, const struct dirty_ring *ring)
{
	return !memslot_logs(slot) || !ring || !dirty_ring_nearly_full(ring);
}

/** Is there room for so many entries, or no ring that could overflow? On the vCPU's thread. */
bool dirty_ring_has_room(const struct dirty_ring *ring, uint64_t entries);

/** Every entry was taken back (or there never was one). On the vCPU's thread. Holds: vcpus.lock, or nobody takes back. */
bool dirty_ring_is_empty(const struct dirty_ring *ring);

/** Give the ring its memory, and start it empty. `marked` stays. Before the vCPU first enters. */
void dirty_ring_init(struct dirty_ring *ring, struct vmmu_dirty_gfn *entries, uint32_t size);

/* What an entry of a ring says: not to be believed. */
struct dirty_claim {
	uint32_t slot;   /* address space << 16 | slot number */
	uint64_t offset;
};

/**
 * Take back the oldest entry if the harvester has marked it RESET; the vCPU may fill it again at once.
 * Holds: slots_lock. Returns: false when there is none.
 */
bool dirty_ring_take_back(struct dirty_ring *ring, struct dirty_claim *claim);

/** Take 64 pages' bits from the bitmap: returns those that were set in `mask`, and clears them. `word`: page / 64. Atomic. */
uint64_t dirty_take(const struct memslot *slot, uint64_t word, uint64_t mask);

/**
 * Marks that were taken by the last dirty_take of that word, and that nobody was told of, are there again. The pages may be write-protected
 * already: a mark too many is harmless. Holds: slots_lock, since that dirty_take.
 */
void dirty_put_back(const struct memslot *slot, uint64_t word, uint64_t mask);

/** 64-bit words of the bitmap of a slot. */
static inline uint64_t dirty_words(const struct memslot *slot)
{
	return (slot->npages + 63) / 64;
}

/** The second half of a slot's bitmap. Holds: slots_lock. */
static inline uint64_t *dirty_snapshot(const struct memslot *slot)
{
	return slot->dirty + dirty_words(slot);
}

#endif

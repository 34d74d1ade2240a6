/* SPDX-License-Identifier: MIT */
/*
 * What was written: the bitmap of a slot and the ring of a vCPU (P11). Neither knows of page tables.
 *
 * Why nothing is lost. A page is marked after it became writable. A mark is taken before its page is write-protected.
 * If the mark comes before the take, the take finds it, and the write protection that follows finds the writable
 * entry. If the mark comes after the take, the next take finds it.
 *
 * The guest may still write the page between the take and the flush that follows. Such a write is in the page when the
 * flush is done. So a harvester reads the contents of a page only after the call that took its mark has returned.
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
 * A vCPU's ring, and its count of the pages it marked. `entries` is shared with the program that harvests the ring, so
 * nothing read there is trusted. Only `next` and `reset` say where the ring stands, and the program cannot write
 * those.
 *   o  the vCPU's thread; atomic, because other threads look
 *   S  under slots_lock; atomic, because the vCPU looks
 */
struct dirty_ring {
	struct vmmu_dirty_gfn *entries; /* NULL until set */
	uint32_t size;                  /* a power of two; 0: no ring */
	uint32_t next;                  /* o: entries filled, ever */
	uint32_t reset;                 /* S: entries taken back, ever: next - size <= reset <= next */
	bool reserve_open;              /* o: half of the reserve may be filled */
	uint64_t marked;                /* o: pages newly marked dirty, in the ring or in bitmaps; for statistics */
};

/**
 * This vCPU wrote `gfn` of `slot`, or is about to, through an entry that was installed before this call (P6: mark
 * after). The mark goes into the ring if the VM has rings, else into the bitmap. No effect if the slot is not logged.
 * `ring`: the vCPU's, with or without entries; NULL if the hypervisor writes outside any vCPU (bitmap only).
 * Returns: true if the ring is nearly full; the vCPU should then ask for an exit (REQ_RING_FULL).
 */
bool dirty_mark(struct vm *vm, const struct memslot *slot, gfn_t gfn, struct dirty_ring *ring);

/**
 * Are VMMU_DIRTY_RING_RESERVED entries or fewer left, or half of that while the reserve is open, or was the ring never
 * set? Then the vCPU must not enter the guest. On the vCPU's thread.
 */
bool dirty_ring_nearly_full(const struct dirty_ring *ring);

/**
 * May the vCPU of this ring write a page of the slot once more? Ask before each write that a fault or a walk allows or
 * makes. Once only the reserve is left, the answer is no. So any number of faults between two entries to the guest
 * leave the reserve alone. `ring`: NULL for the bitmap. On the vCPU's thread.
 * Returns: false if nothing may be written; ask for an exit (REQ_RING_FULL).
 */
static inline bool dirty_has_room(const struct memslot *slot, const struct dirty_ring *ring)
{
	return !memslot_logs(slot) || !ring || !dirty_ring_nearly_full(ring);
}

/** Is there room for `entries` more entries, or no ring that could overflow? On the vCPU's thread. */
bool dirty_ring_has_room(const struct dirty_ring *ring, uint64_t entries);

/**
 * Was every entry taken back, or was there none? On the vCPU's thread. Holds: vcpus.lock, unless no thread takes back.
 */
bool dirty_ring_is_empty(const struct dirty_ring *ring);

/** Give the ring its memory, and start it empty. `marked` stays. Call it before the vCPU first enters. */
void dirty_ring_init(struct dirty_ring *ring, struct vmmu_dirty_gfn *entries, uint32_t size);

/* What an entry of a ring says. Do not believe it. */
struct dirty_claim {
	uint32_t slot;   /* address space << 16 | slot number */
	uint64_t offset;
};

/**
 * Take back the oldest entry if the harvester has marked it RESET. The vCPU may fill it again at once.
 * Holds: slots_lock. Returns: false if there is none.
 */
bool dirty_ring_take_back(struct dirty_ring *ring, struct dirty_claim *claim);

/** Take one word, 64 pages, of the bitmap, atomically: returns the bits of `mask` that were set, and clears them. */
uint64_t dirty_take(const struct memslot *slot, uint64_t word, uint64_t mask);

/**
 * Put back marks that the last dirty_take of that word took and that were reported to nobody. The pages may be
 * write-protected already; a mark too many is harmless. Holds: slots_lock, without a break since that dirty_take.
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

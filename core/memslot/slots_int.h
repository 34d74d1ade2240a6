/* SPDX-License-Identifier: MIT */
/*
 * The parts of a slot change: rules.c decides what the change is, slots.c reserves and commits, publish.c swaps the
 * sets. For this folder only.
 */
#ifndef CORE_MEMSLOT_SLOTS_INT_H
#define CORE_MEMSLOT_SLOTS_INT_H

#include "core/memslot/slots.h"

/* A change that passed the rules. */
struct slot_plan {
	enum slot_change change;
	struct memslot *old; /* NULL for CREATE */
};

/**
 * Is this request allowed now, and what does it amount to? Changes nothing. Holds: slots_lock.
 * Returns: VMMU_OK with *plan set; VMMU_OK with *nothing set if the slot is already as asked; VMMU_EINVAL;
 * VMMU_EEXIST.
 */
enum vmmu_status rules_check(struct vm *vm, const struct vmmu_region *region, struct slot_plan *plan, bool *nothing);

/** The inactive set of an address space, which a change is made to. Holds: slots_lock. */
struct memslots *slots_inactive(struct vm *vm, unsigned as_id);

/**
 * Make the inactive set the active one, and wait until nobody uses the other.
 * Holds: slots_lock; slots_arch_lock, which it releases before the grace period (I1.4).
 * After: nobody reads the set that is inactive now. The generation has moved.
 */
void slots_publish(struct vm *vm, unsigned as_id);

/* --- the bitmap of a slot (bitmap.c) --- */

/** Bytes of both halves of a bitmap for `npages` pages. */
size_t bitmap_bytes(uint64_t npages);

/** Give a slot its bitmap: clear, or set under VMMU_DIRTY_INITIALLY_SET. Allocates. Returns: false without memory. */
bool bitmap_make(struct vm *vm, struct memslot *slot);

void bitmap_free(struct vm *vm, const struct memslot *slot);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The arrays of a slot that only shadow paging needs (P1): rmap heads for each level, write tracking, and the blocks
 * where huge leaves are forbidden. A VM without shadow paging does not pay for them: they are allocated for every
 * slot when the VM's first shadow root is loaded, and from then on together with each new slot.
 */
#ifndef CORE_SHADOW_ARRAYS_H
#define CORE_SHADOW_ARRAYS_H

#include "core/memslot/memslot.h"
#include "core/shadow/rmap.h"

#define ARRAY_LEVELS 3

struct slot_arrays {
	struct rmap *rmap[ARRAY_LEVELS];      /* [level - 1][block] */
	/* W. For each 4K page: the number of shadow pages above 4K level, in this address space, that mirror it. */
	uint16_t *tracked;
	/* W. [level - 2][block]: the number of shadow pages, in this address space, that mirror a table in it. */
	uint32_t *no_huge[ARRAY_LEVELS - 1];
	/* a. A bit for each 2M block: a 4K or 2M leaf maps part of it, or did. Cleared under mmu_lock for write. */
	uint64_t *used;
	uint64_t blocks[ARRAY_LEVELS];        /* c: length of the arrays */
};

/** The index of the block of `level` that holds gfn, counted from the block that holds the slot's first gfn. */
static inline uint64_t slot_block(const struct memslot *slot, gfn_t gfn, int level)
{
	return gfn.v / level_pages(level) - slot->base.v / level_pages(level);
}

/**
 * Note that a leaf of gfn is about to go on its rmap, so that walks do not skip the block. Stores only if the bit is
 * not set yet: otherwise every fault of a slot would write this cache line. Holds: mmu_lock.
 */
static inline void slot_block_use(const struct memslot *slot, gfn_t gfn)
{
	uint64_t block = slot_block(slot, gfn, VMMU_LEVEL_2M), bit = BIT(block % 64),
	         *word = &slot->arrays->used[block / 64];

	if (!(load_relaxed(word) & bit))
		or_relaxed(word, bit);
}

/** Arrays for a slot of a VM that may shadow: slots_hooks.arrays_reserve. */
bool arrays_reserve(struct vm *vm, const struct memslot *slot, struct slot_arrays **out);
void arrays_free(struct vm *vm, struct slot_arrays *arrays);

/**
 * P1: call before the VM's first shadow root is made. Gives every slot of every active set its arrays, and then sets
 * the flag. May be called again at any time. When it fails, the arrays made so far are kept for the next call.
 * Holds: SRCU read side, no other lock. Sleeps. Returns: VMMU_ENOMEM.
 */
enum vmmu_status arrays_first_root(struct vm *vm, struct srcu_read srcu);

#endif

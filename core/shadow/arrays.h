/* SPDX-License-Identifier: MIT */
/*
 * The arrays of a slot that shadow paging needs, and that nobody else pays for (P1): rmap heads for each level, write tracking, and where huge
 * leaves are forbidden. Allocated for every slot when the VM's first shadow root is loaded; from then on with each slot.
 */
#ifndef CORE_SHADOW_ARRAYS_H
#define CORE_SHADOW_ARRAYS_H

#include "core/memslot/memslot.h"
#include "core/shadow/rmap.h"

#define ARRAY_LEVELS 3

struct slot_arrays {
	struct rmap *rmap[ARRAY_LEVELS];      /* [level - 1][block] */
	uint16_t *tracked;                    /* W: per 4K page: shadow pages above 4K level, of this address space, that mirror it */
	uint32_t *no_huge[ARRAY_LEVELS - 1];  /* W: [level - 2][block]: shadow pages of this address space that mirror a table in the block */
	uint64_t *used;                       /* a: a bit for each 2M block: a 4K or 2M leaf maps something in it, or did. Cleared under mmu_lock for write */
	uint64_t blocks[ARRAY_LEVELS];        /* c: length of the arrays */
};

/** Blocks of `level` that a slot touches, and the number of gfn's block. */
static inline uint64_t slot_block(const struct memslot *slot, gfn_t gfn, int level)
{
	return gfn.v / level_pages(level) - slot->base.v / level_pages(level);
}

/** A leaf of gfn is about to go on its rmap: walks must not skip the block. Holds: mmu_lock. Writes once a block, so that faults share no line here. */
static inline void slot_block_use(const struct memslot *slot, gfn_t gfn)
{
	uint64_t block = slot_block(slot, gfn, VMMU_LEVEL_2M), bit = BIT(block % 64), *word = &slot->arrays->used[block / 64];

	if (!(load_relaxed(word) & bit))
		or_relaxed(word, bit);
}

/** Arrays for a slot. Sleeps. Returns: NULL when the host has no memory. */
struct slot_arrays *arrays_make(struct vm *vm, const struct memslot *slot);
void arrays_free(struct vm *vm, struct slot_arrays *arrays);

/**
 * P1: the VM's first shadow root. Every slot of every active set gets its arrays, then the flag rises. Idempotent; on failure what was made is kept.
 * Holds: SRCU read side, no other lock. Sleeps. Returns: VMMU_ENOMEM.
 */
enum vmmu_status arrays_first_root(struct vm *vm, struct srcu_read srcu);

/** The flag. acquire: who sees it sees all arrays (pairs with arrays_first_root), P1. */
static inline bool arrays_exist(const struct vm *vm)
{
	return load_acquire(&vm->shadow_root_allocated);
}

#endif

/* SPDX-License-Identifier: MIT */
/* What is done to the leaves of a range of guest frames, found through the rmaps. */
#include "core/shadow/shadow_int.h"

/*
 * P1: each walk looks at the flag (acquire) before it looks at a slot's arrays; no flag, no leaf. Holding mmu_lock for write is not enough: who makes the first
 * shadow root fills the arrays in under other locks. And a slot of a set that was replaced before that has none.
 */
static bool slot_may_have_leaves(const struct vm *vm, const struct memslot *slot)
{
	return arrays_exist(vm) && slot->arrays;
}

/* Call fn for every entry of every block of [first, end) at levels >= min_level, until the block's chain is empty or each was visited once. */
static void rmap_zap(struct mmu_token *token, struct rmap *rmap)
{
	spte_t *entry;

	while ((entry = rmap_any(rmap)))
		entry_zap(token, shadow_of(entry), entry);
}

void shadow_rmap_recycle(struct mmu_write *token, struct shadow_vcpu *sv)
{
	rmap_zap(&token->token, sv->crowded);
	sv->crowded = NULL;
}

static struct rmap *block_rmap(const struct memslot *slot, uint64_t block, int level)
{
	return &slot->arrays->rmap[level - 1][block];
}

/* gfns [first, end) of a slot as blocks [*from, *to] of a level. Returns: false when there is nothing to do. */
static bool blocks_of(const struct memslot *slot, gfn_t first, gfn_t end, int level, uint64_t *from, uint64_t *to)
{
	if (first.v >= end.v)
		return false;
	*from = slot_block(slot, first, level);
	*to = slot_block(slot, GFN(end.v - 1), level);
	return true;
}

void shadow_zap_range(struct mmu_write *token, const struct memslot *slot, gfn_t first, gfn_t end)
{
	uint64_t from, to;

	if (!slot_may_have_leaves(token->token.vm, slot))
		return;
	for (int level = 1; level <= ARRAY_LEVELS; level++)
		if (blocks_of(slot, first, end, level, &from, &to))
			for (uint64_t block = from; block <= to; block++)
				rmap_zap(&token->token, block_rmap(slot, block, level));
}

static bool entry_write_protect(spte_t *entry)
{
	spte_t old = load_relaxed(entry);

	while (old & VMMU_NPT_W)
		if (cas_acqrel(entry, &old, old & ~VMMU_NPT_W))
			return true;
	return false;
}

static void rmap_write_protect(struct mmu_token *token, struct rmap *rmap)
{
	struct rmap_iter iter;
	spte_t *entry;

	rmap_for_each(entry, rmap, &iter)
		if (entry_write_protect(entry))
			token->flush = true;
}

void shadow_write_protect(struct mmu_write *token, const struct memslot *slot, gfn_t first, gfn_t end, int min_level)
{
	uint64_t from, to;

	if (!slot_may_have_leaves(token->token.vm, slot))
		return;
	for (int level = min_level; level <= ARRAY_LEVELS; level++) {
		if (!blocks_of(slot, first, end, level, &from, &to))
			return;
		for (uint64_t block = from; block <= to; block++) {
			rmap_write_protect(&token->token, block_rmap(slot, block, level));
			/* The chain is walked anew for each block: a yield makes nothing stale. */
			if (!(block % 512) && mmu_lock_contended(&token->token))
				mmu_yield(&token->token);
		}
	}
}

/* Huge leaves, if there are any, once for each block that the mask touches: 64 pages lie in two at most. */
static void mask_protect_huge(struct mmu_token *token, const struct memslot *slot, gfn_t first, gfn_t last)
{
	for (int level = 2; level <= ARRAY_LEVELS; level++) {
		rmap_write_protect(token, gfn_rmap(slot, first, level));
		rmap_write_protect(token, gfn_rmap(slot, last, level));
	}
}

void shadow_write_protect_mask(struct mmu_write *token, const struct memslot *slot, gfn_t base, uint64_t mask)
{
	if (!slot_may_have_leaves(token->token.vm, slot) || !mask)
		return;
	mask_protect_huge(&token->token, slot, GFN(base.v + __builtin_ctzll(mask)), GFN(base.v + 63 - __builtin_clzll(mask)));
	for (; mask; mask &= mask - 1)
		rmap_write_protect(&token->token, gfn_rmap(slot, GFN(base.v + __builtin_ctzll(mask)), 1));
}

void shadow_zap_huge(struct mmu_write *token, const struct memslot *slot, gfn_t first, gfn_t end)
{
	uint64_t from, to;

	if (!slot_may_have_leaves(token->token.vm, slot))
		return;
	for (int level = 2; level <= ARRAY_LEVELS; level++)
		if (blocks_of(slot, first, end, level, &from, &to))
			for (uint64_t block = from; block <= to; block++)
				rmap_zap(&token->token, block_rmap(slot, block, level));
}

void shadow_zap_collapsible(struct mmu_write *token, const struct memslot *slot)
{
	gfn_t end = GFN(slot->base.v + slot->npages);

	if (!slot_may_have_leaves(token->token.vm, slot))
		return;
	for (gfn_t gfn = slot->base; gfn.v < end.v; gfn.v++) {
		struct rmap *rmap = gfn_rmap(slot, gfn, 1);
		spte_t *entry = rmap_any(rmap);

		/* Only pieces of a guest's large page can become one leaf. */
		if (entry && (shadow_of(entry)->role & ROLE_DIRECT) && memslot_max_level(slot, gfn) > 1)
			rmap_zap(&token->token, rmap);
	}
}

/*
 * P2. Holds only the lock bit of the chain: what it reads there stays live (I2.3), and so do the tables of the entries, since an entry leaves its chain
 * before its table is freed. The entry itself may be cleared at any moment: it is read once, and changed by one compare-and-swap without retry (I2.4).
 */
static bool entry_age(spte_t *entry, int level, bool clear)
{
	spte_t old = load_relaxed(entry);

	if (!spte_is_leaf(old, level) || !(old & VMMU_NPT_A))
		return false;
	if (clear)
		cas_relaxed(entry, &old, old & ~VMMU_NPT_A);
	return true;
}

static bool rmap_age(struct rmap *rmap, int level, bool clear)
{
	uintptr_t head = rmap_lock(rmap);
	struct rmap_iter iter;
	bool young = false;
	spte_t *entry;

	if (!head)
		return false;
	rmap_for_each(entry, rmap, &iter)
		young |= entry_age(entry, level, clear);
	rmap_unlock(rmap, head);
	return young;
}

bool shadow_age(struct vm *vm, const struct memslot *slot, gfn_t first, gfn_t end, bool clear)
{
	bool young = false;
	uint64_t from, to;

	/* Not by a counter read relaxed: that would be right only on x86. */
	if (!slot_may_have_leaves(vm, slot))
		return false;
	for (int level = 1; level <= ARRAY_LEVELS; level++)
		if (blocks_of(slot, first, end, level, &from, &to))
			for (uint64_t block = from; block <= to; block++)
				young |= rmap_age(block_rmap(slot, block, level), level, clear);
	return young;
}

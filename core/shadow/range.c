/* SPDX-License-Identifier: MIT */
/* What is done to the leaves of a range of guest frames, found through the rmaps. */
#include "core/shadow/shadow_int.h"

/*
 * P1: each walk reads the flag (acquire) before it looks at a slot's arrays. No flag, no leaf. Holding mmu_lock for
 * write is not enough: the thread that makes the first shadow root fills the arrays in under other locks. Look at
 * the arrays, too: a slot of a set that was replaced before that has none.
 */
static bool slot_may_have_leaves(const struct vm *vm, const struct memslot *slot)
{
	return arrays_exist(vm) && slot->arrays;
}

/* The first used 2M block of [block, last]; a number beyond `last` if there is none. */
static uint64_t next_used(const struct slot_arrays *arrays, uint64_t block, uint64_t last)
{
	while (block <= last) {
		uint64_t bits = load_relaxed(&arrays->used[block / 64]) >> (block % 64);

		if (bits)
			return block + __builtin_ctzll(bits);
		block = (block | 63) + 1;
	}
	return block;
}

/* What a walk does with one chain, that of (gfn, level). */
typedef void visit(void *arg, struct rmap *rmap, const struct memslot *slot, gfn_t gfn, int level);

/*
 * Walk the chains of one level in [first, end). `token`: of mmu_lock for write, which the walk yields between
 * chains when others wait. All that a walk reads is read anew for each chain, so a yield makes nothing stale. It
 * comes after a chain that is done, so there is progress. NULL: no lock is held (P2).
 * Returns: was there a chain that was not empty?
 */
static always_inline bool level_walk(struct mmu_token *token, const struct memslot *slot, gfn_t first, gfn_t end,
                                     int level, visit *fn, void *arg)
{
	struct rmap *rmap = gfn_rmap(slot, first, level);
	bool any = false;

	for (gfn_t gfn = first; gfn.v < end.v; gfn.v = gfn_round(gfn, level).v + level_pages(level), rmap++) {
		if (rmap_is_empty(rmap))
			continue;
		any = true;
		fn(arg, rmap, slot, gfn, level);
		if (token && gfn.v + level_pages(level) < end.v && mmu_lock_contended(token))
			mmu_yield(token);
	}
	return any;
}

/*
 * Walk every chain of [first, end) of a slot, without a look at memory where nothing is mapped. The slot stays
 * while the lock is dropped: the caller holds slots_lock, or is in the gate (an invalidation).
 */
static always_inline void slot_walk(struct mmu_token *token, const struct memslot *slot, gfn_t first, gfn_t end,
                                    visit *fn, void *arg)
{
	struct slot_arrays *arrays = slot->arrays;
	uint64_t last;

	if (first.v >= end.v)
		return;
	last = slot_block(slot, GFN(end.v - 1), VMMU_LEVEL_2M);
	level_walk(token, slot, first, end, VMMU_LEVEL_1G, fn, arg);
	for (uint64_t block = slot_block(slot, first, VMMU_LEVEL_2M); (block = next_used(arrays, block, last)) <= last;
	     block++) {
		uint64_t start = gfn_round(slot->base, VMMU_LEVEL_2M).v + block * level_pages(VMMU_LEVEL_2M),
		         stop = start + level_pages(VMMU_LEVEL_2M);
		gfn_t from = GFN(max_u64(first.v, start)), to = GFN(min_u64(end.v, stop));
		bool whole = from.v <= max_u64(start, slot->base.v) && to.v >= min_u64(stop, memslot_end(slot).v), any;

		any = level_walk(token, slot, from, to, VMMU_LEVEL_2M, fn, arg);
		any |= level_walk(token, slot, from, to, VMMU_LEVEL_4K, fn, arg);
		/* All chains were empty, so the lock was not dropped, and nobody has added to one. */
		if (token && whole && !any)
			and_relaxed(&arrays->used[block / 64], ~BIT(block % 64));
		if (token && block < last && mmu_lock_contended(token))
			mmu_yield(token);
	}
}

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

static void chain_zap(void *arg, struct rmap *rmap, const struct memslot *slot, gfn_t gfn, int level)
{
	(void)slot, (void)gfn, (void)level;
	rmap_zap(arg, rmap);
}

void shadow_zap_range(struct mmu_write *token, const struct memslot *slot, gfn_t first, gfn_t end)
{
	if (slot_may_have_leaves(token->token.vm, slot))
		slot_walk(&token->token, slot, first, end, chain_zap, &token->token);
}

static void rmap_write_protect(struct mmu_token *token, struct rmap *rmap)
{
	struct rmap_iter iter;
	spte_t *entry;

	rmap_for_each(entry, rmap, &iter)
		if (entry_write_protect(entry))
			token->flush = true;
}

static void chain_write_protect(void *arg, struct rmap *rmap, const struct memslot *slot, gfn_t gfn, int level)
{
	(void)slot, (void)gfn, (void)level;
	rmap_write_protect(arg, rmap);
}

void shadow_write_protect(struct mmu_write *token, const struct memslot *slot, gfn_t first, gfn_t end)
{
	if (slot_may_have_leaves(token->token.vm, slot))
		slot_walk(&token->token, slot, first, end, chain_write_protect, &token->token);
}

/* Protect huge leaves, if any, in each block that the mask touches: 64 pages lie in two blocks at most. */
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
	mask_protect_huge(&token->token, slot, GFN(base.v + __builtin_ctzll(mask)),
	                  GFN(base.v + 63 - __builtin_clzll(mask)));
	for (; mask; mask &= mask - 1)
		rmap_write_protect(&token->token, gfn_rmap(slot, GFN(base.v + __builtin_ctzll(mask)), 1));
}

static void chain_zap_collapsible(void *arg, struct rmap *rmap, const struct memslot *slot, gfn_t gfn, int level)
{
	spte_t *entry = rmap_any(rmap);

	/* Only pieces of a guest's large page can become one leaf. */
	if (level == VMMU_LEVEL_4K && entry && (shadow_of(entry)->role & ROLE_DIRECT) &&
	    memslot_max_level(slot, gfn) > 1)
		rmap_zap(arg, rmap);
}

void shadow_zap_collapsible(struct mmu_write *token, const struct memslot *slot)
{
	if (slot_may_have_leaves(token->token.vm, slot))
		slot_walk(&token->token, slot, slot->base, memslot_end(slot), chain_zap_collapsible, &token->token);
}

/*
 * P2. The walk holds only the lock bit of the chain. What it reads in the chain stays live (I2.3). So do the tables
 * of the entries, since an entry leaves its chain before its table is freed. The entry itself may be cleared at any
 * moment: read it once, and change it by one compare-and-swap without retry (I2.4).
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

struct age {
	bool clear, young;
};

static void chain_age(void *arg, struct rmap *rmap, const struct memslot *slot, gfn_t gfn, int level)
{
	struct age *age = arg;

	(void)slot, (void)gfn;
	age->young |= rmap_age(rmap, level, age->clear);
}

bool shadow_age(struct vm *vm, const struct memslot *slot, gfn_t first, gfn_t end, bool clear)
{
	struct age age = { .clear = clear };

	/* Ask the flag, not a counter that is read relaxed: that would be right only on x86. */
	if (slot_may_have_leaves(vm, slot))
		slot_walk(NULL, slot, first, end, chain_age, &age);
	return age.young;
}

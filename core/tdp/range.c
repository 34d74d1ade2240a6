/* SPDX-License-Identifier: MIT */
/* What is done to ranges of leaves: zap, write-protect, split, age. */
#include "core/table/mirror.h"
#include "core/tdp/tdp_int.h"

void tdp_zap_range(struct mmu_token *token, unsigned as_id, gfn_t first, gfn_t end)
{
	struct vm *vm = token->vm;
	struct tdp_iter iter;

	tdp_for_each_root(root, vm, as_id, false) {
		port_rcu_read_lock();
		tdp_for_each(&iter, root, first, end, 1) {
			if (iter.goal.v != first.v && tdp_iter_yield(token, &iter))
				continue;
			while (spte_is_leaf(iter.old, iter.level) && !tdp_set(token, &iter, 0))
				continue;
		}
		port_rcu_read_unlock();
	}
}

void mirror_begins(struct mmu_token *token, gfn_t gfn)
{
	struct vm *vm = token->vm;
	struct tdp_iter iter;

	/* In invalid roots, too: not for the CPUs, which have left them, but so that N1.1 has no exception. */
	tdp_for_each_root(root, vm, -1, false) {
		port_rcu_read_lock();
		tdp_for_each(&iter, root, gfn, GFN(gfn.v + 1), 1)
			/* A table to split a huge leaf with cannot be had here. What it mapped is faulted in again. */
			while (spte_is_leaf(iter.old, iter.level) &&
			       !tdp_set(token, &iter,
			                iter.level > 1 ? 0 : spte_write_tracked(vm->fmt, iter.old)))
				continue;
		port_rcu_read_unlock();
	}
}

static void leaf_write_protect(struct mmu_token *token, struct tdp_iter *iter)
{
	spte_t write = token->vm->fmt->any_write; /* a right laid aside, too: a CPU may still use it */

	while (spte_is_leaf(iter->old, iter->level) && (iter->old & write))
		if (tdp_set(token, iter, iter->old & ~write))
			return;
}

void tdp_write_protect(struct mmu_token *token, const struct memslot *slot, gfn_t first, gfn_t end, int min_level)
{
	struct vm *vm = token->vm;
	struct tdp_iter iter;

	tdp_for_each_root(root, vm, slot->as_id, true) {
		port_rcu_read_lock();
		tdp_for_each(&iter, root, first, end, min_level)
			if (!tdp_iter_yield(token, &iter))
				leaf_write_protect(token, &iter);
		port_rcu_read_unlock();
	}
}

/* One walk for all 64 gfns, from the first in the mask to the last. It skips those that are not in it. */
void tdp_write_protect_mask(struct mmu_token *token, const struct memslot *slot, gfn_t base, uint64_t mask)
{
	struct vm *vm = token->vm;
	struct tdp_iter iter;
	gfn_t first, end;

	if (!mask)
		return;
	first = GFN(base.v + __builtin_ctzll(mask));
	end = GFN(base.v + 64 - __builtin_clzll(mask));
	tdp_for_each_root(root, vm, slot->as_id, true) {
		port_rcu_read_lock();
		tdp_for_each(&iter, root, first, end, 1)
			if (iter.level > 1 || (mask >> (iter.gfn.v - base.v) & 1))
				leaf_write_protect(token, &iter);
		port_rcu_read_unlock();
	}
}

/*
 * Get a table to split with. If the cache is empty, drop the lock to fill it.
 * Returns: false when the lock was dropped: the walk starts again. `*failed`: the host has no memory.
 */
static bool split_table_ready(struct mmu_token *token, struct tdp_iter *iter, struct table_cache *cache, bool *failed)
{
	if (cache->count)
		return true;
	port_rcu_read_unlock();
	mmu_drop(token);
	*failed = !table_cache_fill(token->vm, cache, TABLE_CACHE_MAX) && !cache->count;
	mmu_retake(token);
	port_rcu_read_lock();
	tdp_iter_restart(iter);
	return false;
}

static void leaf_split(struct mmu_token *token, struct tdp_iter *iter, struct table_cache *cache)
{
	struct table *table = table_get(cache);

	while (spte_is_leaf(iter->old, iter->level))
		if (tdp_split_leaf(token, iter, table))
			return;
	table_free(table);
}

void tdp_split(struct mmu_token *token, const struct memslot *slot, gfn_t first, gfn_t end, int level)
{
	struct vm *vm = token->vm;
	struct table_cache cache = { .count = 0 };
	struct tdp_iter iter;
	bool failed = false;

	tdp_for_each_root(root, vm, slot->as_id, true) {
		port_rcu_read_lock();
		tdp_for_each(&iter, root, first, end, level + 1) {
			if (tdp_iter_yield(token, &iter) || !spte_is_leaf(iter.old, iter.level))
				continue;
			if (failed)
				leaf_write_protect(token, &iter); /* a fault splits it when it is next written */
			else if (split_table_ready(token, &iter, &cache, &failed))
				leaf_split(token, &iter, &cache);
		}
		port_rcu_read_unlock();
	}
	table_cache_drain(vm, &cache);
}

/*
 * P2, without mmu_lock: one compare-and-swap, no retry. If it loses, somebody else changed the entry just now. The
 * page then counts as young, and an entry that was cleared does not come back.
 */
static always_inline bool leaf_age(const struct format *format, spte_t *entry, int level, bool clear)
{
	spte_t old = load_relaxed(entry);

	if (!spte_is_leaf(old, level) || !(old & format->young))
		return false;
	if (clear)
		cas_relaxed(entry, &old, spte_aged(format, old));
	return true;
}

/* Age the 4K leaves of [first, end) in one table. No iterator: this is where the time goes. */
static bool table_age(const struct format *format, spte_t *entries, uint64_t first, uint64_t end, bool clear)
{
	bool young = false;

	for (uint64_t i = first; i < end; i++)
		young |= leaf_age(format, &entries[i], 1, clear);
	return young;
}

/* Age the entry at the iterator, at level 2 or above. If it points to a table of 4K leaves, age those. */
static bool entry_age(const struct format *format, const struct tdp_iter *iter, gfn_t first, gfn_t end, bool clear)
{
	uint64_t from, to;

	if (!spte_is_table(iter->old, iter->level))
		return leaf_age(format, iter->entry, iter->level, clear);
	if (iter->level > 2)
		return false;
	from = max_u64(first.v, iter->gfn.v) - iter->gfn.v;
	to = min_u64(end.v - iter->gfn.v, ENTRIES);
	return table_age(format, port_pfn_to_ptr(spte_pfn(iter->old).v), from, to, clear);
}

bool tdp_age(struct vm *vm, unsigned as_id, gfn_t first, gfn_t end, bool clear)
{
	struct tdp_iter iter;
	bool young = false;

	tdp_for_each_root(root, vm, as_id, true) {
		port_rcu_read_lock();
		tdp_for_each(&iter, root, first, end, 2)
			young |= entry_age(vm->fmt, &iter, first, end, clear);
		port_rcu_read_unlock();
	}
	return young;
}

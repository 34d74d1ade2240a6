/* SPDX-License-Identifier: MIT */
/* Installing the mapping that a fault needs; and the fast path, which gives back a right without a lock (P6). */
#include "core/tdp/tdp_int.h"

/* Does the present leaf under iter allow the access already? A huge leaf of a logged slot has no W: see tdp_split. */
static bool leaf_suffices(const struct format *format, const struct tdp_iter *iter, const struct tdp_map *map)
{
	if (!map->slot)
		return false;
	return spte_allows(format, iter->old, map->access);
}

/* Link an empty table, or split the huge leaf that is in the way. Returns: TDP_FIXED when the walk can go on down. */
static enum tdp_result table_install(struct mmu_token *token, struct tdp_iter *iter, struct table_cache *cache)
{
	struct table *table = table_get(cache);
	bool done;

	if (!table)
		return TDP_NOMEM;
	if (spte_is_leaf(iter->old, iter->level)) {
		done = tdp_split_leaf(token, iter, table);
	} else {
		tdp_table_init(table, iter);
		done = tdp_set(token, iter,
		               spte_make_table(token->vm->fmt, PFN(port_ptr_to_pfn(table_entries(table)))));
	}
	if (done)
		return TDP_FIXED;
	table_free(table);
	/* Another vCPU changed the entry first. If it installed a table, the walk can go on through it. */
	return spte_is_table(iter->old, iter->level) ? TDP_FIXED : TDP_RETRY;
}

static spte_t leaf_wanted(const struct vm *vm, const struct tdp_iter *iter, const struct tdp_map *map)
{
	bool host_writable, writable;
	pfn_t pfn;

	if (!map->slot)
		return spte_make_mmio(vm->fmt, vm->mmio_guard, iter->gfn, map->mmio_generation);
	host_writable = map->page.writable && !(map->slot->flags & VMMU_SLOT_READONLY);
	writable = host_writable && (!map->write_protect || (map->access & VMMU_WRITE));
	pfn = PFN(map->page.pfn.v - (map->gfn.v - iter->gfn.v)); /* frames are contiguous up to page.max_level */
	return spte_make_leaf(vm->fmt, pfn, iter->level, host_writable, writable, map->access != 0,
	                      writable && (map->access & VMMU_WRITE));
}

/* Never overwrite a present leaf with an MMIO entry or another frame: clear the leaf first, and flush (zoo 3). */
static enum tdp_result leaf_install(struct mmu_token *token, struct tdp_iter *iter, const struct tdp_map *map)
{
	spte_t spte = leaf_wanted(token->vm, iter, map);

	if (iter->old == spte)
		return TDP_SPURIOUS;
	if (spte_is_leaf(iter->old, iter->level) &&
	    (!spte_is_leaf(spte, iter->level) || spte_pfn(iter->old).v != spte_pfn(spte).v)) {
		tdp_set(token, iter, 0);
		return TDP_RETRY; /* tdp_map flushes before it returns */
	}
	return tdp_set(token, iter, spte) ? TDP_FIXED : TDP_RETRY;
}

/*
 * Map the pages around the leaf whose entries share its cache line (F44). They are neither young nor dirty: the CPU
 * sets A and D when it uses them. Only empty entries are filled; an entry that another vCPU installed or froze stays
 * as it is.
 */
static void neighbours_install(struct mmu_token *token, const struct tdp_iter *leaf, const struct tdp_map *map)
{
	bool writable = map->page.writable && !(map->slot->flags & VMMU_SLOT_READONLY);
	struct tdp_iter iter = *leaf;

	for (iter.gfn = map->first; iter.gfn.v < map->end.v; iter.gfn.v++) {
		pfn_t pfn = PFN(map->page.pfn.v + (iter.gfn.v - map->gfn.v));

		iter.entry = leaf->entry + (iter.gfn.v - map->gfn.v);
		iter.old = load_relaxed(iter.entry); /* relaxed: nothing is read through it */
		if (!iter.old)
			tdp_set(token, &iter, spte_make_leaf(token->vm->fmt, pfn, 1, writable, writable, false, false));
	}
}

static enum tdp_result map_walk(struct mmu_token *token, struct table *root, const struct tdp_map *map,
                                struct table_cache *cache)
{
	int target = map->slot ? map->level : 1;
	enum tdp_result result;
	struct tdp_iter iter;

	tdp_for_each(&iter, root, map->gfn, GFN(map->gfn.v + 1), target) {
		if (spte_is_frozen(iter.old))
			return TDP_RETRY;
		if (spte_is_leaf(iter.old, iter.level) && leaf_suffices(token->vm->fmt, &iter, map))
			return TDP_SPURIOUS;
		if (iter.level == target) {
			result = leaf_install(token, &iter, map);
			if (result == TDP_FIXED && target == 1 && map->slot)
				neighbours_install(token, &iter, map);
			return result;
		}
		if (spte_is_table(iter.old, iter.level))
			continue;
		result = table_install(token, &iter, cache);
		if (result != TDP_FIXED)
			return result;
	}
	return TDP_RETRY; /* the path changed during the walk */
}

enum tdp_result tdp_map(struct mmu_read *token, struct table *root, const struct tdp_map *map,
                        struct table_cache *cache)
{
	enum tdp_result result;

	ASSERT(tdp_root_is_valid(root));
	port_rcu_read_lock();
	result = map_walk(&token->token, root, map, cache);
	port_rcu_read_unlock();
	mmu_flush(&token->token); /* needed if a huge leaf replaced a table, or a leaf was cleared */
	return result;
}

spte_t tdp_leaf(struct vm *vm, struct table *root, gfn_t gfn, int *level)
{
	struct tdp_iter iter;
	spte_t spte = 0;

	(void)vm;
	*level = 0;
	port_rcu_read_lock();
	tdp_for_each(&iter, root, gfn, GFN(gfn.v + 1), 1) {
		if (spte_is_table(iter.old, iter.level))
			continue;
		spte = iter.old;
		*level = iter.level;
		break;
	}
	port_rcu_read_unlock();
	return spte;
}

bool tdp_next_small(struct vm *vm, unsigned as_id, gfn_t *gfn, gfn_t end)
{
	gfn_t best = end;
	struct tdp_iter iter;

	tdp_for_each_root(root, vm, as_id, true) {
		port_rcu_read_lock();
		tdp_for_each(&iter, root, *gfn, best, 1) {
			if (iter.level != 1 || !spte_is_leaf(iter.old, 1))
				continue;
			best = iter.gfn;
			break;
		}
		port_rcu_read_unlock();
	}
	*gfn = best;
	return best.v < end.v;
}

/*
 * P6. Gives the write right back if both software bits allow it; in a logged slot only to a 4K leaf, since a huge one
 * would let writes past the log. It takes one compare-and-swap against the whole entry. If in the meantime the frame
 * changed (the ABA that loses a dirty bit), or the entry was zapped or protected again, the swap fails and the slow
 * path decides.
 *
 * The caller marks the page dirty after this returned. A harvest in between sees the page the next time.
 *
 * Rights that aging laid aside (F52) come back in the same way, on leaves of every size: the leaf had them before.
 */
static enum tdp_fast entry_restore(struct vm *vm, spte_t *entry, spte_t old, int level, const struct memslot *slot,
                                   unsigned access)
{
	const struct format *format = vm->fmt;
	bool logged = slot->flags & VMMU_SLOT_LOG_DIRTY;
	spte_t new = spte_rejuvenated(format, old);

	if (!spte_allows(format, new, access)) {
		if (!(access & VMMU_WRITE) || (old & (SPTE_HOST_W | SPTE_MMU_W)) != (SPTE_HOST_W | SPTE_MMU_W))
			return TDP_FAST_NO;
		if ((logged && level > 1) || !spte_allows(format, new | format->write, access))
			return TDP_FAST_NO;
		new |= format->write | format->dirty | format->accessed;
	}
	if (new == old)
		return TDP_FAST_SPURIOUS;
	/* release is enough: the entry leads to no table. What counts is one atomic operation on all of it (P7). */
	return cas_release(entry, &old, new) ? TDP_FAST_FIXED : TDP_FAST_NO;
}

enum tdp_fast tdp_fast_fault(struct vm *vm, struct table *root, gfn_t gfn, const struct memslot *slot, unsigned access)
{
	enum tdp_fast result = TDP_FAST_NO;
	struct tdp_iter iter;

	port_rcu_read_lock();
	tdp_for_each(&iter, root, gfn, GFN(gfn.v + 1), 1) {
		if (spte_is_table(iter.old, iter.level))
			continue;
		if (spte_is_leaf(iter.old, iter.level))
			result = entry_restore(vm, iter.entry, iter.old, iter.level, slot, access);
		break;
	}
	port_rcu_read_unlock();
	return result;
}

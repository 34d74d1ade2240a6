/* SPDX-License-Identifier: MIT */
/* Installing the mapping that a fault needs; and the fast path, which gives back a right without a lock (P6). */
#include "core/table/mirror.h"
#include "core/tdp/tdp_int.h"

/* Does the present leaf under iter allow the access already? A huge leaf of a logged slot has no W: see tdp_split. */
static bool leaf_suffices(const struct format *format, const struct tdp_iter *iter, const struct fault *fault)
{
	return fault->slot && spte_allows(format, iter->old, fault->access);
}

/* Link an empty table, or split the huge leaf that is in the way. Returns: RET_PF_FIXED: the walk can go on down. */
static enum map_result table_install(struct mmu_token *token, struct tdp_iter *iter, struct table_cache *cache)
{
	struct table *table = table_get(cache);
	bool done;

	if (!table)
		return RET_PF_RETRY; /* retries ate the cache: it is filled again on the way back */
	if (spte_is_leaf(iter->old, iter->level)) {
		done = tdp_split_leaf(token, iter, table);
	} else {
		tdp_table_init(table, iter);
		done = tdp_set(token, iter,
		               spte_make_table(token->vm->fmt, PFN(port_ptr_to_pfn(table_entries(table)))));
	}
	if (done)
		return RET_PF_FIXED;
	table_free(table);
	/* Another vCPU changed the entry first. If it installed a table, the walk can go on through it. */
	return spte_is_table(iter->old, iter->level) ? RET_PF_FIXED : RET_PF_RETRY;
}

static spte_t leaf_wanted(const struct vm *vm, const struct tdp_iter *iter, const struct fault *fault, bool mirrored)
{
	bool write = fault->access & VMMU_WRITE, host_writable, writable;
	spte_t spte;
	pfn_t pfn;

	if (!fault->slot)
		return spte_make_mmio(vm->fmt, vm->mmio_guard, iter->gfn, fault->generation);
	host_writable = fault->page.writable && !(fault->slot->flags & VMMU_SLOT_READONLY);
	/* In a logged slot a page becomes writable only for a write, which is then marked (P11). */
	writable = host_writable && !mirrored && (write || !(fault->slot->flags & VMMU_SLOT_LOG_DIRTY));
	pfn = PFN(fault->page.pfn.v - (fault->gfn.v - iter->gfn.v)); /* frames are contiguous up to page.max_level */
	spte = spte_make_leaf(vm->fmt, pfn, iter->level, host_writable, writable, fault->access != 0,
	                      writable && write);
	return mirrored ? spte_write_tracked(vm->fmt, spte) : spte;
}

/*
 * Never overwrite a present leaf with an MMIO entry or another frame: clear the leaf first, and flush (zoo 3).
 *
 * A mirrored frame gets a read-only leaf, and the answer to a write is that the hypervisor is to make it (N1). A huge
 * leaf is not asked about: tdp_map has seen to it that none of its frames is mirrored.
 */
static enum map_result leaf_install(struct mmu_token *token, struct tdp_iter *iter, const struct fault *fault)
{
	bool mirrored = iter->level == 1 && fault->slot && gfn_is_mirrored(token->vm, fault->gfn);
	bool emulate = mirrored && (fault->access & VMMU_WRITE);
	spte_t spte = leaf_wanted(token->vm, iter, fault, mirrored);

	if (iter->old == spte)
		return emulate ? RET_PF_EMULATE : RET_PF_SPURIOUS;
	if (spte_is_leaf(iter->old, iter->level) &&
	    (!spte_is_leaf(spte, iter->level) || spte_pfn(iter->old).v != spte_pfn(spte).v)) {
		tdp_set(token, iter, 0);
		return RET_PF_RETRY; /* tdp_map flushes before it returns */
	}
	if (!tdp_set(token, iter, spte))
		return RET_PF_RETRY;
	return emulate ? RET_PF_EMULATE : RET_PF_FIXED;
}

/*
 * Map the pages around the leaf whose entries share its cache line (F44). They are neither young nor dirty: the CPU
 * sets A and D when it uses them. Only empty entries are filled; an entry that another vCPU installed or froze stays
 * as it is.
 */
static void neighbours_install(struct mmu_token *token, const struct tdp_iter *leaf, const struct tdp_map *map)
{
	const struct fault *fault = map->fault;
	bool writable = fault->page.writable && !(fault->slot->flags & VMMU_SLOT_READONLY);
	struct tdp_iter iter = *leaf;

	for (iter.gfn = map->first; iter.gfn.v < map->end.v; iter.gfn.v++) {
		pfn_t pfn = PFN(fault->page.pfn.v + (iter.gfn.v - fault->gfn.v));
		spte_t spte = spte_make_leaf(token->vm->fmt, pfn, 1, writable, writable, false, false);

		iter.entry = leaf->entry + (iter.gfn.v - fault->gfn.v);
		iter.old = load_relaxed(iter.entry); /* relaxed: nothing is read through it */
		if (iter.old)
			continue;
		if (gfn_is_mirrored(token->vm, iter.gfn))
			spte = spte_write_tracked(token->vm->fmt, spte);
		tdp_set(token, &iter, spte);
	}
}

static enum map_result map_walk(struct mmu_token *token, struct table *root, const struct tdp_map *map,
                                struct table_cache *cache)
{
	gfn_t gfn = map->fault->gfn;
	enum map_result result;
	struct tdp_iter iter;

	tdp_for_each(&iter, root, gfn, GFN(gfn.v + 1), map->level) {
		if (spte_is_frozen(iter.old))
			return RET_PF_RETRY;
		if (spte_is_leaf(iter.old, iter.level) && leaf_suffices(token->vm->fmt, &iter, map->fault))
			return RET_PF_SPURIOUS;
		if (iter.level == map->level) {
			result = leaf_install(token, &iter, map->fault);
			if (result == RET_PF_FIXED && map->level == 1 && map->fault->slot)
				neighbours_install(token, &iter, map);
			return result;
		}
		if (spte_is_table(iter.old, iter.level))
			continue;
		result = table_install(token, &iter, cache);
		if (result != RET_PF_FIXED)
			return result;
	}
	return RET_PF_RETRY; /* the path changed during the walk */
}

/*
 * N1: make the block so small that no frame of it is mirrored, or a 4K page. The host answered for the whole block, so
 * a 4K page of it has neighbours.
 */
static void map_shrink(struct vm *vm, struct tdp_map *map)
{
	gfn_t gfn = map->fault->gfn, block = gfn_round(gfn, 2);
	int level = map->level;

	while (map->level > 1 && block_is_mirrored(vm, gfn, map->level))
		map->level--;
	if (map->level == level)
		return;
	map->first = gfn_round(gfn, map->level);
	map->end = GFN(map->first.v + level_pages(map->level));
	if (map->level > 1)
		return;
	map->first = GFN(max_u64(gfn.v & ~UINT64_C(7), block.v));
	map->end = GFN(min_u64((gfn.v | 7) + 1, block.v + level_pages(2)));
}

enum map_result tdp_map(struct mmu_read *token, struct table *root, const struct tdp_map *wanted,
                        struct table_cache *cache)
{
	struct tdp_map map = *wanted;
	enum map_result result;

	ASSERT(tdp_root_is_valid(root));
	map_shrink(token->token.vm, &map);
	port_rcu_read_lock();
	result = map_walk(&token->token, root, &map, cache);
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
static enum map_result entry_restore(const struct format *format, spte_t *entry, spte_t old, int level,
                                     const struct fault *fault)
{
	bool logged = fault->slot->flags & VMMU_SLOT_LOG_DIRTY;
	spte_t new = spte_rejuvenated(format, old);

	if (!spte_allows(format, new, fault->access)) {
		if (!(fault->access & VMMU_WRITE) || (old & (SPTE_HOST_W | SPTE_MMU_W)) != (SPTE_HOST_W | SPTE_MMU_W))
			return RET_PF_RETRY;
		if ((logged && level > 1) || !spte_allows(format, new | format->write, fault->access))
			return RET_PF_RETRY;
		new |= format->write | format->dirty | format->accessed;
	}
	if (new == old)
		return RET_PF_SPURIOUS;
	/* release is enough: the entry leads to no table. What counts is one atomic operation on all of it (P7). */
	return cas_release(entry, &old, new) ? RET_PF_FIXED : RET_PF_RETRY;
}

enum map_result tdp_fast_fault(struct vm *vm, struct table *root, const struct fault *fault)
{
	gfn_t gfn = fault->gfn;
	enum map_result result = RET_PF_RETRY;
	struct tdp_iter iter;

	port_rcu_read_lock();
	tdp_for_each(&iter, root, gfn, GFN(gfn.v + 1), 1) {
		if (spte_is_table(iter.old, iter.level))
			continue;
		if (spte_is_leaf(iter.old, iter.level))
			result = entry_restore(vm->fmt, iter.entry, iter.old, iter.level, fault);
		break;
	}
	port_rcu_read_unlock();
	return result;
}

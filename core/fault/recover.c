/* SPDX-License-Identifier: MIT */
/*
 * Huge pages come back when logging stops (F18). Each block is handled as if a vCPU had faulted on it at its
 * largest level: the same page look-up, the same stale check, the same install, which puts a huge leaf in the place
 * of a table.
 */
#include "core/fault/fault.h"
#include "core/tdp/tdp.h"

static bool block_recover(struct vm *vm, const struct memslot *slot, gfn_t gfn, struct table_cache *tables)
{
	struct fault fault = { .slot = slot, .gfn = gfn, .snapshot = notifier_snapshot(vm) };
	struct table *root = tdp_next_root(vm, NULL, slot->as_id, true);
	enum map_result result = RET_PF_RETRY;

	if (!root)
		return false;
	if (fault_admit(NULL, &fault) == VMMU_PAGE_FIXED && table_cache_fill(vm, tables, vm->levels) &&
	    fault_page_get(vm, &fault) == VMMU_PAGE_FIXED)
		result = fault_tdp_install(vm, root, &fault, tables, 0);
	tdp_root_put(vm, root);
	return result == RET_PF_FIXED; /* SPURIOUS: a mirrored table is in the block, and the leaves stay small (N1) */
}

void fault_recover_huge(struct vm *vm, const struct memslot *slot)
{
	gfn_t end = memslot_end(slot), gfn = slot->base;
	struct table_cache tables = { .count = 0 };

	while (tdp_next_small(vm, slot->as_id, &gfn, end)) {
		int level = memslot_max_level(slot, gfn);

		/* Try each block once. Recovery is an optimisation, and a busy block will be faulted on again. */
		if (level > 1 && block_recover(vm, slot, gfn, &tables))
			add_relaxed(&vm->stats.recovered, 1);
		gfn = GFN(gfn_round(gfn, 2).v + level_pages(2));
	}
	table_cache_drain(vm, &tables);
}

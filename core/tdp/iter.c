/* SPDX-License-Identifier: MIT */
/* The walk over a TDP tree. */
#include "core/tdp/tdp_int.h"

static unsigned entry_index(gfn_t gfn, int level)
{
	return gfn.v >> ((level - 1) * LEVEL_BITS) & (ENTRIES - 1);
}

/* Move to the entry for `goal` in the table of the current level. */
static void iter_stand(struct tdp_iter *iter)
{
	iter->entry = iter->path[iter->level] + entry_index(iter->goal, iter->level);
	iter->gfn = gfn_round(iter->goal, iter->level);
	/* acquire: a walker that sees an entry also sees the table that it leads to. Pairs with tdp_set. P7 */
	iter->old = load_acquire(iter->entry);
}

static void iter_from_root(struct tdp_iter *iter)
{
	iter->level = iter->root->level;
	iter->path[iter->level] = table_entries(iter->root);
	iter->restart = false;
	iter_stand(iter);
}

void tdp_iter_start(struct tdp_iter *iter, struct table *root, gfn_t first, gfn_t end, int min_level)
{
	uint64_t limit = level_pages(root->level + 1); /* the root covers no more, and the guest may name any gfn */

	iter->root = root;
	iter->goal = first;
	iter->end = GFN(min_u64(end.v, limit));
	iter->yielded_at = GFN(~UINT64_C(0));
	iter->min_level = min_level;
	iter->valid = first.v < iter->end.v;
	if (iter->valid)
		iter_from_root(iter);
}

static bool iter_down(struct tdp_iter *iter)
{
	if (iter->level == iter->min_level)
		return false;
	/* Read the entry again: the body of the loop may have linked, split or zapped it. Pairs with tdp_set. P7 */
	iter->old = load_acquire(iter->entry);
	if (!spte_is_table(iter->old, iter->level))
		return false;
	iter->level--;
	iter->path[iter->level] = port_pfn_to_ptr(spte_pfn(iter->old).v);
	iter_stand(iter);
	return true;
}

void tdp_iter_next(struct tdp_iter *iter)
{
	if (iter->restart) {
		iter_from_root(iter);
		return;
	}
	if (iter_down(iter))
		return;
	iter->goal = GFN(iter->gfn.v + level_pages(iter->level));
	if (iter->goal.v >= iter->end.v) {
		iter->valid = false;
		return;
	}
	/* Past the last entry of a table: go up until the goal lies in the table. */
	while (entry_index(iter->goal, iter->level) == 0 && iter->level < iter->root->level)
		iter->level++;
	iter_stand(iter);
}

bool tdp_iter_yield(struct mmu_token *token, struct tdp_iter *iter)
{
	if (iter->yielded_at.v == iter->goal.v || !mmu_lock_contended(token))
		return false;
	port_rcu_read_unlock();
	mmu_yield(token);
	port_rcu_read_lock();
	iter->yielded_at = iter->goal;
	tdp_iter_restart(iter);
	return true;
}

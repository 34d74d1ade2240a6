/* SPDX-License-Identifier: MIT */
/*
 * Inside the TDP MMU: the iterator, and the only ways to change an entry (P7).
 *
 * Every thread changes entries by compare-and-swap, in whatever mode it holds mmu_lock: the CPU sets A and D, the
 * fast path gives W back, and aging clears A, all without a lock. The mode of mmu_lock decides which threads may run
 * at the same time, not how they write an entry.
 */
#ifndef CORE_TDP_TDP_INT_H
#define CORE_TDP_TDP_INT_H

#include "core/format/spte.h"
#include "core/tdp/tdp.h"

struct tdp_mmu {
	struct spin lock;  /* the "tables lock": innermost */
	struct list roots; /* under `lock`: every root, valid or not, until its last reference is put */
};

/*
 * A walk over the entries that cover gfns [first, end), parents before children, down to min_level.
 *
 *     tdp_for_each(&iter, root, first, end, min_level) { look at iter.old, change it with tdp_set }
 *
 * `old` is the entry as it was when the walk came to it. After tdp_set has changed the entry, `old` is the new one,
 * and if it points to a table the walk goes on in there.
 */
struct tdp_iter {
	struct table *root;
	spte_t *path[6];   /* the table that holds the entry, at each level */
	spte_t *entry;
	spte_t old;
	gfn_t gfn;         /* first gfn of the entry */
	gfn_t goal;        /* the gfn that the walk looks for next */
	gfn_t end;
	gfn_t yielded_at;  /* goal at the last yield: no second yield without progress */
	int level, min_level;
	bool valid, restart;
};

void tdp_iter_start(struct tdp_iter *iter, struct table *root, gfn_t first, gfn_t end, int min_level);
void tdp_iter_next(struct tdp_iter *iter);

#define tdp_for_each(iter, root, first, end, min_level) \
	for (tdp_iter_start(iter, root, first, end, min_level); (iter)->valid; tdp_iter_next(iter))

/**
 * Replace iter->old by `spte`, count, and take apart a table that this unlinks. Leaves the flush and the unlinked
 * tables in the token. Holds: RCU read side.
 * Returns: false when the entry is no longer iter->old, or is frozen. iter->old is then what the entry is now.
 */
bool tdp_set(struct mmu_token *token, struct tdp_iter *iter, spte_t spte);

/** Count a leaf in or out (`change`: 1 or -1). */
static inline void tdp_count(struct mmu_token *token, int level, int64_t change)
{
	add_relaxed(&token->vm->count[token->stripe].pages[level - 1], (uint64_t)change);
}

/**
 * If somebody waits for mmu_lock, and the walk has moved since its last yield: flush, let the lock and the RCU read
 * side go, take them again, and let the walk start again from the root, at iter->goal.
 * Returns: true after a yield: the caller `continue`s, and trusts nothing that it read before.
 */
bool tdp_iter_yield(struct mmu_token *token, struct tdp_iter *iter);

/** Let the walk start again from the root, at its goal: needed after the lock was dropped. */
static inline void tdp_iter_restart(struct tdp_iter *iter)
{
	iter->restart = true;
}

/**
 * Replace the huge leaf under iter by `table`, filled with leaves that map the same. If that fails, the caller keeps
 * the table.
 * Returns: as tdp_set.
 */
bool tdp_split_leaf(struct mmu_token *token, struct tdp_iter *iter, struct table *table);

/** Prepare the header of a fresh table, which iter's entry will point to. */
void tdp_table_init(struct table *table, const struct tdp_iter *iter);

#endif

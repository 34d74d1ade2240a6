/* SPDX-License-Identifier: MIT */
/*
 * Inside the TDP MMU: the iterator, and the only ways to change an entry (P7).
 *
 * Everybody changes entries by compare-and-swap, whatever mode of mmu_lock they hold: the CPU sets A and D at any time, the fast path gives
 * back W, and aging clears A, all without a lock. What the mode of mmu_lock decides is who may run at the same time, not how an entry is written.
 */
#ifndef CORE_TDP_TDP_INT_H
#define CORE_TDP_TDP_INT_H

#include "core/format/spte.h"
#include "core/tdp/tdp.h"

struct tdp_mmu {
	struct spin lock;  /* the "tables lock": innermost */
	struct list roots; /* under lock: every root, valid or not, until its last reference is put */
};

/*
 * A pre-order walk over the entries that cover gfns [first, end), parents before children, down to min_level.
 *
 *     tdp_for_each(&iter, root, first, end, min_level) { look at iter.old, change it with tdp_set }
 *
 * `old` is the entry as read when the walk came to it. After tdp_set changed an entry, `old` is the new one, and the walk descends into it
 * if it points to a table.
 */
struct tdp_iter {
	struct table *root;
	spte_t *path[6];   /* the table that holds the entry, at each level */
	spte_t *entry;
	spte_t old;
	gfn_t gfn;         /* first gfn of the entry */
	gfn_t goal;        /* the gfn that the walk is on its way to */
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
 * Replace iter->old by `spte`, account for the change, and take apart a table that it unlinks. Leaves the flush and the dead tables in the token.
 * Holds: RCU read side. Returns: false when the entry was no longer iter->old, or is frozen: iter->old is then what is there now.
 */
bool tdp_set(struct mmu_token *token, struct tdp_iter *iter, spte_t spte);

/** Count a leaf in or out (`change`: 1 or -1). */
static inline void tdp_count(struct mmu_token *token, int level, int64_t change)
{
	add_relaxed(&token->vm->count[token->stripe].pages[level - 1], (uint64_t)change);
}

/**
 * If somebody waits for mmu_lock and the walk has moved since the last time: flush, let the lock and RCU go, come back, and have the walk start again
 * from the root at iter->goal. Returns: true after a yield: the caller `continue`s, trusting nothing it read.
 */
bool tdp_iter_yield(struct mmu_token *token, struct tdp_iter *iter);

/** The walk must start again from the root at its goal: the lock was dropped, or the entry under it changed. */
static inline void tdp_iter_restart(struct tdp_iter *iter)
{
	iter->restart = true;
}

/**
 * Replace the huge leaf under iter by a table of `table`'s whose leaves say the same. Uses the table up on success only.
 * Returns: as tdp_set.
 */
bool tdp_split_leaf(struct mmu_token *token, struct tdp_iter *iter, struct table *table);

/** Prepare the header of a fresh table that will sit under iter's entry. */
void tdp_table_init(struct table *table, const struct tdp_iter *iter);

#endif

/* SPDX-License-Identifier: MIT */
/* How an entry changes, and what must be done then: counting, the flush, taking an unlinked subtree apart (P7). */
#include "core/tdp/tdp_int.h"

#include "core/base/string.h"

static void table_remove(struct mmu_token *token, struct table *table);

/*
 * Take apart an entry of a table that was unlinked. The entry is frozen first, so that a thread that is still walking
 * the table cannot install anything there. Then the table below it is taken apart in the same way. The unlinked
 * tables wait in the token for the flush, and then for an RCU grace period.
 */
static void table_remove_entry(struct mmu_token *token, spte_t *entry, int level)
{
	spte_t old;

	/* Only the one thread that unlinked a table freezes its entries, so none is expected to be frozen here. */
	while (spte_is_frozen(old = swap_acqrel(entry, SPTE_FROZEN)))
		port_pause();
	if (spte_is_leaf(old, level))
		tdp_count(token, level, -1);
	else if (spte_is_table(old, level))
		table_remove(token, table_of(port_pfn_to_ptr(spte_pfn(old).v)));
	if (spte_is_present(old))
		token->flush = true;
}

static void table_remove(struct mmu_token *token, struct table *table)
{
	spte_t *entries = table_entries(table);

	for (unsigned i = 0; i < ENTRIES; i++)
		table_remove_entry(token, &entries[i], table->level);
	table->link.next = token->dead;
	token->dead = &table->link;
	token->flush = true; /* hardware may have cached the entry that led here */
}

/* Does the change from old to spte take away something that a CPU may have cached? */
static bool needs_flush(const struct format *format, spte_t old, spte_t spte, int level)
{
	if (!spte_is_present(old))
		return false;
	if (!spte_is_present(spte) || spte_is_leaf(old, level) != spte_is_leaf(spte, level))
		return true;
	return (old & format->any_write) && !(spte & format->any_write);
}

bool tdp_set(struct mmu_token *token, struct tdp_iter *iter, spte_t spte)
{
	spte_t old = iter->old;
	int level = iter->level;
	bool was_leaf = spte_is_leaf(old, level), is_leaf = spte_is_leaf(spte, level);

	if (spte_is_frozen(old)) {
		iter->old = load_acquire(iter->entry); /* pairs with the release below */
		return false;
	}
	/* A leaf never changes its frame at once: it is cleared first, and flushed (zoo 3). */
	if (VM_BUG(token->vm, was_leaf && is_leaf && spte_pfn(old).v != spte_pfn(spte).v))
		return false;
	/* release: a walker that sees the entry also sees the table's contents. Pairs with iter.c's acquires. P7 */
	if (!cas_acqrel(iter->entry, &iter->old, spte))
		return false;
	iter->old = spte;
	if (was_leaf != is_leaf)
		tdp_count(token, level, is_leaf ? 1 : -1);
	if (needs_flush(token->vm->fmt, old, spte, level))
		token->flush = true;
	if (spte_is_table(old, level))
		table_remove(token, table_of(port_pfn_to_ptr(spte_pfn(old).v)));
	return true;
}

void tdp_table_init(struct table *table, const struct tdp_iter *iter)
{
	table->base = iter->gfn;
	table->level = iter->level - 1;
	table->as_id = iter->root->as_id;
	table->is_root = false;
}

bool tdp_split_leaf(struct mmu_token *token, struct tdp_iter *iter, struct table *table)
{
	spte_t *entries = table_entries(table), huge = iter->old;
	int level = iter->level - 1;

	tdp_table_init(table, iter);
	for (unsigned i = 0; i < ENTRIES; i++)
		entries[i] = spte_make_split(huge, level, i);
	/* Count the leaves before others can see them, so that nobody counts one out before it was counted in. */
	tdp_count(token, level, ENTRIES);
	if (tdp_set(token, iter, spte_make_table(token->vm->fmt, PFN(port_ptr_to_pfn(entries))))) {
		add_relaxed(&token->vm->stats.splits, 1);
		return true;
	}
	tdp_count(token, level, -(int64_t)ENTRIES);
	memset(entries, 0, ENTRIES * sizeof(*entries)); /* an unused table is all zero */
	return false;
}

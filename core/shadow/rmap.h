/* SPDX-License-Identifier: MIT */
/*
 * Reverse maps: from a guest frame to the leaves that map it, and from a shadow page to the entries that point to it.
 *
 *     head word      0: nothing      bit 0 clear: the one entry      bit 0 set: a chain of descriptors      bit 1: locked (P2)
 *
 * Who adds holds mmu_lock, and who removes holds it for write; both hold the lock bit while they change the chain. Walkers that hold mmu_lock for write
 * need no bit; the aging walk holds only the bit.
 */
#ifndef CORE_SHADOW_RMAP_H
#define CORE_SHADOW_RMAP_H

#include "core/base/size.h"
#include "core/base/types.h"
#include "core/sync/atomic.h"

struct rmap {
	uintptr_t head;
};

#define RMAP_DESC_ENTRIES 14

struct rmap_desc {
	struct rmap_desc *more;
	uint32_t count;  /* entries in use; only the first descriptor of a chain may be partly full */
	uint32_t behind; /* entries of those behind it */
	spte_t *entry[RMAP_DESC_ENTRIES];
};

/**
 * Add an entry. Holds: mmu_lock, for read or write. `spare`: a descriptor set aside; set to NULL if it was used.
 * Returns: entries on the chain now.
 */
uint64_t rmap_add(struct rmap *rmap, spte_t *entry, struct rmap_desc **spare);

/** Remove an entry. Holds: mmu_lock write. Returns: a descriptor that is free now, or NULL. `found`: false when it was not there. */
struct rmap_desc *rmap_remove(struct rmap *rmap, const spte_t *entry, bool *found);

/** Number of entries. Holds: mmu_lock write. O(1). */
uint64_t rmap_count(const struct rmap *rmap);

/**
 * Some entry, which rmap_remove then finds at once; NULL when there is none. Holds: mmu_lock write. O(1): to empty a
 * chain, one by one.
 */
spte_t *rmap_any(const struct rmap *rmap);

/*
 * Where a walk stands. It goes from descriptor to descriptor and never looks back: the guest decides how long a chain
 * gets.
 */
struct rmap_iter {
	const struct rmap_desc *desc; /* NULL: the chain was one entry */
	uint64_t at;                  /* the next one in desc */
};

/**
 * Begin a walk. Holds, until its end: mmu_lock write, or the bit. The chain does not change meanwhile. Returns: an
 * entry; NULL: there is none.
 */
spte_t *rmap_first(const struct rmap *rmap, struct rmap_iter *iter);
/** Returns: another entry; NULL: all were visited. O(1). Here, since most chains are one entry and the walk is over with a look at `iter`. */
static inline spte_t *rmap_next(struct rmap_iter *iter)
{
	if (iter->desc && iter->at == iter->desc->count)
		*iter = (struct rmap_iter){ .desc = iter->desc->more };
	return iter->desc ? iter->desc->entry[iter->at++] : NULL;
}

#define rmap_for_each(entry, rmap, iter) for ((entry) = rmap_first((rmap), (iter)); (entry); (entry) = rmap_next(iter))

/** P2: take the bit without mmu_lock. Returns: the head without the bit; 0 when the chain is empty, and then the bit was not taken. */
uintptr_t rmap_lock(struct rmap *rmap);
/** Give it back: the head as rmap_lock returned it. No effect for 0. */
void rmap_unlock(struct rmap *rmap, uintptr_t head);

static inline bool rmap_is_empty(const struct rmap *rmap)
{
	return load_relaxed(&rmap->head) == 0;
}

#endif

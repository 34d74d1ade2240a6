/* SPDX-License-Identifier: MIT */
/*
 * Reverse maps: from a guest frame to the leaves that map it, and from a shadow page to the entries that point to it.
 *
 *     head word      0: empty      bit 0 clear: a single entry      bit 0 set: a chain of descriptors
 *                    bit 1: locked (P2)
 *
 * rmap_add needs mmu_lock for read or write, rmap_remove needs it for write. Both hold the lock bit while they change
 * the chain. A walker that holds mmu_lock for write does not need the bit. The aging walk holds only the bit.
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
	uint32_t behind; /* the number of entries in all descriptors behind this one */
	spte_t *entry[RMAP_DESC_ENTRIES];
};

/**
 * Add an entry. Holds: mmu_lock, for read or write. `spare`: a descriptor set aside; set to NULL if it was used.
 * Returns: the number of entries on the chain now.
 */
uint64_t rmap_add(struct rmap *rmap, spte_t *entry, struct rmap_desc **spare);

/**
 * Remove an entry. Holds: mmu_lock write. `found`: set to false when the entry was not there.
 * Returns: a descriptor that the caller frees, or NULL.
 */
struct rmap_desc *rmap_remove(struct rmap *rmap, const spte_t *entry, bool *found);

/** Number of entries. Holds: mmu_lock write. O(1). */
uint64_t rmap_count(const struct rmap *rmap);

/**
 * Any one entry, for emptying a chain entry by entry: rmap_remove finds this one in O(1), too. Holds: mmu_lock write.
 * Returns: NULL when the chain is empty. Cost: O(1).
 */
spte_t *rmap_any(const struct rmap *rmap);

/* Where a walk stands. A whole walk takes linear time: the guest decides how long a chain gets. */
struct rmap_iter {
	const struct rmap_desc *desc; /* NULL: the chain was one entry */
	uint64_t at;                  /* the next one in desc */
};

/**
 * Begin a walk. Holds, until its end: mmu_lock write, or the bit; the chain must not change during the walk.
 * Returns: an entry, or NULL when there is none.
 */
spte_t *rmap_first(const struct rmap *rmap, struct rmap_iter *iter);
/**
 * Go on. Returns: another entry, or NULL after the last. Cost: O(1). Inline, since most chains have a single entry,
 * and then the walk is over with one look at `iter`.
 */
static inline spte_t *rmap_next(struct rmap_iter *iter)
{
	if (iter->desc && iter->at == iter->desc->count)
		*iter = (struct rmap_iter){ .desc = iter->desc->more };
	return iter->desc ? iter->desc->entry[iter->at++] : NULL;
}

#define rmap_for_each(entry, rmap, iter) for ((entry) = rmap_first((rmap), (iter)); (entry); (entry) = rmap_next(iter))

/** P2: take the bit, without mmu_lock. Returns: the head without the bit. 0: the chain is empty, the bit not taken. */
uintptr_t rmap_lock(struct rmap *rmap);
/** Release the bit. `head`: as rmap_lock returned it; 0 has no effect. */
void rmap_unlock(struct rmap *rmap, uintptr_t head);

static inline bool rmap_is_empty(const struct rmap *rmap)
{
	return load_relaxed(&rmap->head) == 0;
}

#endif

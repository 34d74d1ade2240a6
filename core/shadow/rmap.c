/* SPDX-License-Identifier: MIT */
#include "core/shadow/rmap.h"

#include "core/base/assert.h"

#define MANY   UINT64_C(1)
#define LOCKED UINT64_C(2)

static struct rmap_desc *head_desc(uintptr_t head)
{
	return (struct rmap_desc *)(head & ~(MANY | LOCKED));
}

#define SPINS 100

uintptr_t rmap_lock(struct rmap *rmap)
{
	for (int spins = 0;; spins++) {
		uintptr_t head = load_relaxed(&rmap->head);

		/* I2.2: a walker that saw an empty head did not take the lock bit, so its unlock must not store. */
		if (!head)
			return 0;
		/* acquire: the last writer's descriptors are seen. Pairs with rmap_unlock and head_store. P2 */
		if (!(head & LOCKED) && cas_acquire(&rmap->head, &head, head | LOCKED))
			return head;
		if (spins < SPINS)
			port_pause();
		else
			port_rest(); /* the holder lost its CPU */
	}
}

void rmap_unlock(struct rmap *rmap, uintptr_t head)
{
	if (head)
		store_release(&rmap->head, head); /* pairs with rmap_lock */
}

/* Store a changed head and release the bit, which until now kept away others that add, and aging walks. */
static void head_store(struct rmap *rmap, uintptr_t head)
{
	store_release(&rmap->head, head); /* pairs with rmap_lock */
}

uint64_t rmap_add(struct rmap *rmap, spte_t *entry, struct rmap_desc **spare)
{
	uintptr_t head = 0;
	struct rmap_desc *desc;
	uint64_t count;

	/*
	 * Try the empty chain without reading the head first. If a page of heads is read before it is ever written,
	 * the host maps its zero page, and the write that follows makes it replace that page and interrupt every CPU
	 * of the process. Two faults may find the chain empty: one gets it, the other goes on below. There the chain
	 * cannot become empty, since rmap_remove needs mmu_lock for write. release: pairs with rmap_lock, P2
	 */
	if (cas_acqrel(&rmap->head, &head, (uintptr_t)entry))
		return 1;
	head = rmap_lock(rmap);
	ASSERT(head);
	if (!(head & MANY) || head_desc(head)->count == RMAP_DESC_ENTRIES) {
		desc = *spare;
		*spare = NULL;
		desc->more = head & MANY ? head_desc(head) : NULL;
		desc->count = 0;
		desc->behind = head & MANY ? head_desc(head)->behind + RMAP_DESC_ENTRIES : 0;
		if (!(head & MANY))
			desc->entry[desc->count++] = (spte_t *)head;
		head = (uintptr_t)desc | MANY;
	}
	desc = head_desc(head);
	desc->entry[desc->count++] = entry;
	count = desc->behind + desc->count;
	head_store(rmap, head); /* from here on others may change the chain */
	return count;
}

/*
 * Fill the hole at desc->entry[at] with the last entry of the first descriptor, the only one that may be partly full.
 * Returns: the first descriptor if it is empty now, else NULL.
 */
static struct rmap_desc *hole_fill(uintptr_t *head, struct rmap_desc *desc, uint64_t at)
{
	struct rmap_desc *first = head_desc(*head);

	desc->entry[at] = first->entry[--first->count];
	if (first->count)
		return NULL;
	*head = first->more ? (uintptr_t)first->more | MANY : 0;
	return first;
}

struct rmap_desc *rmap_remove(struct rmap *rmap, const spte_t *entry, bool *found)
{
	uintptr_t head = rmap_lock(rmap);
	struct rmap_desc *freed = NULL;

	*found = false;
	if (!(head & MANY)) {
		*found = head && (spte_t *)head == entry;
		head_store(rmap, *found ? 0 : head);
		return NULL;
	}
	for (struct rmap_desc *desc = head_desc(head); desc && !*found; desc = desc->more)
		for (uint64_t i = 0; i < desc->count; i++)
			if (desc->entry[i] == entry) {
				*found = true;
				freed = hole_fill(&head, desc, i);
				break;
			}
	head_store(rmap, head);
	return freed;
}

uint64_t rmap_count(const struct rmap *rmap)
{
	uintptr_t head = load_relaxed(&rmap->head);

	return head & MANY ? head_desc(head)->behind + head_desc(head)->count : (head & ~LOCKED) != 0;
}

spte_t *rmap_any(const struct rmap *rmap)
{
	uintptr_t head = load_relaxed(&rmap->head);

	return head & MANY ? head_desc(head)->entry[0] : (spte_t *)(head & ~LOCKED);
}

spte_t *rmap_first(const struct rmap *rmap, struct rmap_iter *iter)
{
	uintptr_t head = load_relaxed(&rmap->head);

	*iter = (struct rmap_iter){ .desc = head & MANY ? head_desc(head) : NULL };
	return iter->desc ? rmap_next(iter) : (spte_t *)(head & ~LOCKED);
}

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

		/* I2.2: who saw empty took nothing, and will store nothing. */
		if (!head)
			return 0;
		/* acquire: pairs with the release in rmap_unlock and head_store: the descriptors are read as their last writer left them */
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

/* Who changes a chain: the bit keeps others away that add, and the aging walk. */
static void head_store(struct rmap *rmap, uintptr_t head)
{
	store_release(&rmap->head, head); /* pairs with rmap_lock; gives the bit back */
}

uint64_t rmap_add(struct rmap *rmap, spte_t *entry, struct rmap_desc **spare)
{
	uintptr_t head = 0;
	struct rmap_desc *desc;
	uint64_t count;

	/*
	 * Tried before the head is read: a page of heads that is first read is the host's zero page, and for the write that follows the host replaces it and
	 * interrupts every CPU of the process. Of two faults that find the chain empty one gets it. Nothing is taken off a chain meanwhile: who
	 * removes holds mmu_lock for write. release: pairs with rmap_lock
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
	head_store(rmap, head); /* from here on others may change it */
	return count;
}

/* Fill the hole from the first descriptor, the only one that may be partly full. Returns: that descriptor if it is empty now. */
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

/* SPDX-License-Identifier: MIT */
/* Looking up slots. Nothing here writes, except to the hint of a set. */
#include "core/memslot/memslot.h"

#include "core/memslot/set.h"
#include "core/memslot/slots.h"

const struct memslots *memslots_active(const struct vm *vm, unsigned as_id, struct srcu_read token)
{
	(void)token;
	/*
	 * seqcst, not just acquire. This load and srcu_read_lock's count before it meet the publication and
	 * srcu_synchronize's look at the counts (store buffering). Either the grace period sees this reader, or this
	 * reader sees the new set. Free on x86.
	 */
	return load_seqcst(&vm->slots->active[as_id]);
}

const struct memslots *memslots_current(const struct vm *vm, unsigned as_id)
{
	return load_acquire(&vm->slots->active[as_id]); /* acquire: pairs with the release in publish */
}

struct memslot *memslot_find(const struct memslots *slots, gfn_t gfn)
{
	/*
	 * A slot found in this set stays in it as long as the set has readers. Relaxed is enough: the set's
	 * publication covers the slot.
	 */
	struct memslot *last = load_relaxed(&slots->last_used);
	const struct tree_node *node = slots->by_gfn.root;
	unsigned index = slots->index;

	if (last && memslot_contains(last, gfn))
		return last;
	while (node) {
		struct memslot *slot = slot_of_gfn_node(node, index);

		if (memslot_contains(slot, gfn)) {
			store_relaxed(&((struct memslots *)slots)->last_used, slot);
			return slot;
		}
		node = node->child[gfn.v < slot->base.v ? TREE_LEFT : TREE_RIGHT];
	}
	return NULL;
}

struct memslot *memslot_find_id(const struct memslots *slots, uint32_t id)
{
	struct memslot **place = id_place(slots->ids, id, slots->index);

	return place ? *place : NULL;
}

bool memslots_overlap(const struct memslots *slots, gfn_t first, uint64_t npages, uint32_t except)
{
	struct memslot *slot = set_find_from(slots, first);
	struct tree_node *next;

	if (slot && slot->id == except) {
		next = tree_next(&slot->node[slots->index].by_gfn);
		slot = next ? slot_of_gfn_node(next, slots->index) : NULL;
	}
	return slot && slot->base.v < first.v + npages;
}

struct memslot *memslot_find_cached(struct memslot_cache *cache, const struct memslots *slots, gfn_t gfn)
{
	uint64_t generation = memslots_generation(slots);

	/*
	 * The same set under the same generation has the same slots: a set that was inactive in between comes back
	 * under another generation. Otherwise the cached slot may have been freed, so do not touch it.
	 */
	if (likely(cache->slots == slots && cache->generation == generation) && cache->slot &&
	    memslot_contains(cache->slot, gfn))
		return cache->slot;
	*cache = (struct memslot_cache){ slots, generation, memslot_find(slots, gfn) };
	return cache->slot;
}

int memslot_max_level(const struct memslot *slot, gfn_t gfn)
{
	uint64_t differ = slot->base.v ^ (slot->hva.v >> PAGE_SHIFT);
	uint64_t offset = gfn.v - slot->base.v;

	for (int level = VMMU_LEVEL_1G; level > VMMU_LEVEL_4K; level--) {
		uint64_t pages = level_pages(level), before = gfn.v & (pages - 1);

		if (!(differ & (pages - 1)) && before <= offset && slot->npages - offset >= pages - before)
			return level;
	}
	return VMMU_LEVEL_4K;
}

/* --- by host address --- */

static bool subtree_reaches(const struct tree_node *node, unsigned index, uint64_t start)
{
	return node && slot_of_hva_node(node, index)->node[index].last_hva >= start;
}

/* The first slot, by hva, of a subtree that overlaps [start, last]. The subtree must reach `start`. */
static struct memslot *overlap_first(const struct tree_node *node, unsigned index, uint64_t start, uint64_t last)
{
	for (;;) {
		struct memslot *slot = slot_of_hva_node(node, index);

		/*
		 * If the left side reaches `start`, the first match is there, if there is one at all: slots to the
		 * right begin no earlier.
		 */
		if (subtree_reaches(node->child[TREE_LEFT], index, start)) {
			node = node->child[TREE_LEFT];
			continue;
		}
		if (slot->hva.v > last)
			return NULL;
		if (slot_last_hva(slot).v >= start)
			return slot;
		node = node->child[TREE_RIGHT];
		if (!subtree_reaches(node, index, start))
			return NULL;
	}
}

/* The next one after a match. */
static struct memslot *overlap_next(const struct memslot *match, unsigned index, uint64_t start, uint64_t last)
{
	const struct tree_node *node = &match->node[index].by_hva;

	for (;;) {
		const struct tree_node *parent = node->parent;
		struct memslot *slot;

		if (subtree_reaches(node->child[TREE_RIGHT], index, start))
			return overlap_first(node->child[TREE_RIGHT], index, start, last);
		while (parent && parent->child[TREE_RIGHT] == node) {
			node = parent;
			parent = node->parent;
		}
		if (!parent)
			return NULL;
		node = parent;
		slot = slot_of_hva_node(node, index);
		if (slot->hva.v > last)
			return NULL;
		if (slot_last_hva(slot).v >= start)
			return slot;
	}
}

bool memslots_for_each_hva(const struct memslots *slots, hva_t start, hva_t end,
                           bool (*fn)(void *arg, const struct memslot_span *span), void *arg)
{
	unsigned index = slots->index;
	struct memslot *slot;
	uint64_t last = end.v - 1;

	if (start.v >= end.v || !subtree_reaches(slots->by_hva.root, index, start.v))
		return false;
	for (slot = overlap_first(slots->by_hva.root, index, start.v, last); slot;
	     slot = overlap_next(slot, index, start.v, last)) {
		uint64_t from = max_u64(start.v, slot->hva.v) - slot->hva.v;
		uint64_t to = min_u64(last, slot_last_hva(slot).v) - slot->hva.v;
		struct memslot_span span = {
			.slot = slot,
			.first = GFN(slot->base.v + (from >> PAGE_SHIFT)),
			.last = GFN(slot->base.v + (to >> PAGE_SHIFT)),
		};

		if (fn(arg, &span))
			return true;
	}
	return false;
}

bool memslots_for_each(const struct memslots *slots, bool (*fn)(void *arg, struct memslot *slot), void *arg)
{
	for (const struct tree_node *node = tree_first(&slots->by_gfn); node; node = tree_next(node))
		if (fn(arg, slot_of_gfn_node(node, slots->index)))
			return true;
	return false;
}

/* SPDX-License-Identifier: MIT */
/*
 * How a set of slots is put together and changed. For this folder only: all other code sees sets that do not change.
 * Change a set only while it is not active, and after a grace period since it was.
 */
#ifndef CORE_MEMSLOT_SET_H
#define CORE_MEMSLOT_SET_H

#include "core/memslot/memslot.h"

void set_init(struct memslots *set, struct id_map *ids, unsigned index, uint64_t generation);

/**
 * Replace `old` by `new` in one set. NULL stands for no slot: (set, NULL, slot) adds, (set, slot, NULL) removes. The
 * part of the id map for new->id must exist. The object `old` may still be linked in the other set. O(log slots).
 */
void set_replace(struct memslots *set, struct memslot *old, struct memslot *new);

/** The slot of the set that holds or follows `gfn`, or NULL. */
struct memslot *set_find_from(const struct memslots *set, gfn_t gfn);

/** The place of a number in the map, or NULL if its part was never made. */
struct memslot **id_place(const struct id_map *ids, uint32_t id, unsigned index);

/**
 * Make the part of the map that holds `id`, unless it exists. Allocates. Holds: slots_lock.
 * Returns: false if there is no memory.
 */
bool id_reserve(struct vm *vm, struct id_map *ids, uint32_t id);

/** Free every part. There are no readers. */
void id_map_fini(struct vm *vm, struct id_map *ids);

/* From the links of set `index` back to their slot. */
static always_inline struct memslot *slot_of_gfn_node(const struct tree_node *node, unsigned index)
{
	return (struct memslot *)((char *)node - offsetof(struct memslot, node[0].by_gfn) -
	                          index * sizeof(struct memslot_node));
}

static always_inline struct memslot *slot_of_hva_node(const struct tree_node *node, unsigned index)
{
	return (struct memslot *)((char *)node - offsetof(struct memslot, node[0].by_hva) -
	                          index * sizeof(struct memslot_node));
}

static inline gfn_t slot_last_gfn(const struct memslot *slot)
{
	return GFN(slot->base.v + slot->npages - 1);
}

static inline hva_t slot_last_hva(const struct memslot *slot)
{
	return HVA(slot->hva.v + (slot->npages << PAGE_SHIFT) - 1);
}

#endif

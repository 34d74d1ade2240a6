/* SPDX-License-Identifier: MIT */
#include "core/memslot/set.h"

#include "core/base/assert.h"

/* --- the two trees; a tree's own address tells which links its nodes use --- */

static unsigned gfn_tree_index(const struct tree *tree)
{
	return container_of(tree, struct memslots, by_gfn)->index;
}

static unsigned hva_tree_index(const struct tree *tree)
{
	return container_of(tree, struct memslots, by_hva)->index;
}

static bool gfn_before(const struct tree *tree, const struct tree_node *a, const struct tree_node *b)
{
	unsigned index = gfn_tree_index(tree);

	return slot_of_gfn_node(a, index)->base.v < slot_of_gfn_node(b, index)->base.v;
}

static bool hva_before(const struct tree *tree, const struct tree_node *a, const struct tree_node *b)
{
	unsigned index = hva_tree_index(tree);

	return slot_of_hva_node(a, index)->hva.v < slot_of_hva_node(b, index)->hva.v;
}

static bool hva_augment(const struct tree *tree, struct tree_node *node)
{
	unsigned index = hva_tree_index(tree);
	struct memslot *slot = slot_of_hva_node(node, index);
	uint64_t last = slot_last_hva(slot).v;

	for (int side = 0; side < 2; side++) {
		const struct tree_node *child = node->child[side];

		if (child)
			last = max_u64(last, slot_of_hva_node(child, index)->node[index].last_hva);
	}
	if (slot->node[index].last_hva == last)
		return false;
	slot->node[index].last_hva = last;
	return true;
}

static const struct tree_type gfn_tree = { .before = gfn_before };
static const struct tree_type hva_tree = { .before = hva_before, .augment = hva_augment };

/* --- numbers --- */

struct memslot **id_place(const struct id_map *ids, uint32_t id, unsigned index)
{
	struct id_part *part;

	if (id >= ID_PARTS * ID_PART_SIZE)
		return NULL;
	part = load_acquire(&ids->part[id >> ID_PART_BITS]); /* acquire: pairs with id_reserve */
	return part ? &part->slot[id % ID_PART_SIZE][index] : NULL;
}

bool id_reserve(struct vm *vm, struct id_map *ids, uint32_t id)
{
	struct id_part **place = &ids->part[id >> ID_PART_BITS], *part;

	if (*place)
		return true;
	part = vm_alloc(vm, sizeof(*part));
	if (!part)
		return false;
	add_relaxed(&vm->stats.slot_bytes, sizeof(*part));
	store_release(place, part); /* release: a reader that sees the part sees it zeroed. Pairs with id_place */
	return true;
}

void id_map_fini(struct vm *vm, struct id_map *ids)
{
	for (unsigned i = 0; i < ID_PARTS; i++) {
		if (!ids->part[i])
			continue;
		vm_free(vm, ids->part[i], sizeof(*ids->part[i]));
		add_relaxed(&vm->stats.slot_bytes, -sizeof(*ids->part[i]));
		ids->part[i] = NULL;
	}
}

/* --- sets --- */

void set_init(struct memslots *set, struct id_map *ids, unsigned index, uint64_t generation)
{
	*set = (struct memslots){ .ids = ids, .index = index, .generation = generation };
	tree_init(&set->by_gfn, &gfn_tree);
	tree_init(&set->by_hva, &hva_tree);
}

static void set_remove(struct memslots *set, struct memslot *slot)
{
	struct memslot_node *node = &slot->node[set->index];

	tree_remove(&set->by_gfn, &node->by_gfn);
	tree_remove(&set->by_hva, &node->by_hva);
	*id_place(set->ids, slot->id, set->index) = NULL;
	/* No reader is left that could set the hint again, so it never outlives the slot. */
	if (load_relaxed(&set->last_used) == slot)
		store_relaxed(&set->last_used, NULL);
	set->count--;
}

static void set_add(struct memslots *set, struct memslot *slot)
{
	struct memslot_node *node = &slot->node[set->index];
	struct memslot **place = id_place(set->ids, slot->id, set->index);

	ASSERT(place && !*place);
	*place = slot;
	tree_add(&set->by_gfn, &node->by_gfn);
	tree_add(&set->by_hva, &node->by_hva);
	set->count++;
}

void set_replace(struct memslots *set, struct memslot *old, struct memslot *new)
{
	if (old)
		set_remove(set, old);
	if (new)
		set_add(set, new);
}

struct memslot *set_find_from(const struct memslots *set, gfn_t gfn)
{
	const struct tree_node *node = set->by_gfn.root;
	struct memslot *found = NULL;

	/* Slots of a set do not overlap, so their order by base is also their order by last gfn. */
	while (node) {
		struct memslot *slot = slot_of_gfn_node(node, set->index);

		if (slot_last_gfn(slot).v >= gfn.v) {
			found = slot;
			node = node->child[TREE_LEFT];
		} else {
			node = node->child[TREE_RIGHT];
		}
	}
	return found;
}

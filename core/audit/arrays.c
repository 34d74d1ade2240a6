/* SPDX-License-Identifier: MIT */
/* Arrays of slots: rmap heads, write tracking, blocks without huge leaves. Shadow pages are counted again for each. */
#include "core/audit/shadow_int.h"

struct arrays_walk {
	struct audit *audit;
	bool exist;             /* the flag of P1 */
	uint64_t bytes, slots;
	uint64_t chained;       /* entries on all chains */
};

unsigned audit_rmap_has(const struct rmap *rmap, const spte_t *entry)
{
	struct rmap_iter iter;
	unsigned found = 0;
	spte_t *other;

	rmap_for_each(other, rmap, &iter)
		found += other == entry;
	return found;
}

/* Shadow pages of guest tables in [first, end) of a slot. `directories`: only tables above 4K level. */
static uint64_t shadowed_in(struct vm *vm, const struct memslot *slot, uint64_t first, uint64_t end, bool directories)
{
	uint64_t count = 0;

	first = max_u64(first, slot->base.v);
	end = min_u64(end, slot->base.v + slot->npages);
	list_for_each(link, &vm->shadow->pages) {
		const struct shadow *page = container_of(link, struct shadow, link);

		if (!(page->role & ROLE_DIRECT) && role_as_id(page->role) == slot->as_id && page->gfn.v >= first &&
		    page->gfn.v < end && (!directories || role_level(page->role) > 1))
			count++;
	}
	return count;
}

static void tracked_check(struct audit *audit, const struct memslot *slot)
{
	uint64_t all = 0;

	for (uint64_t i = 0; i < slot->npages; i++) {
		uint64_t count = slot->arrays->tracked[i];

		all += count;
		if (count && count != shadowed_in(audit->vm, slot, slot->base.v + i, slot->base.v + i + 1, true))
			audit_fail(audit, "write tracking of a frame (F39)", "gfn ", slot->base.v + i,
			           "counted ", count);
	}
	if (all != shadowed_in(audit->vm, slot, 0, ~UINT64_C(0), true))
		audit_fail(audit, "write tracking of a slot (F39)", "slot ", slot->id, "counted ", all);
}

static void no_huge_check(struct audit *audit, const struct memslot *slot, int level)
{
	uint64_t all = 0;

	for (uint64_t i = 0; i < slot->arrays->blocks[level - 1]; i++) {
		uint64_t count = slot->arrays->no_huge[level - 2][i],
		         block = gfn_round(slot->base, level).v + i * level_pages(level);

		all += count;
		if (count && count != shadowed_in(audit->vm, slot, block, block + level_pages(level), false))
			audit_fail(audit, "shadowed tables in a block (F20)", "gfn ", block, "counted ", count);
	}
	if (all != shadowed_in(audit->vm, slot, 0, ~UINT64_C(0), false))
		audit_fail(audit, "shadowed tables in the blocks of a slot (F20)", "slot ", slot->id, "counted ", all);
}

static bool block_is_used(const struct memslot *slot, uint64_t gfn)
{
	uint64_t block = slot_block(slot, GFN(max_u64(gfn, slot->base.v)), VMMU_LEVEL_2M);

	return slot->arrays->used[block / 64] >> (block % 64) & 1;
}

static void chains_check(struct arrays_walk *walk, const struct memslot *slot)
{
	for (int level = 1; level <= ARRAY_LEVELS; level++)
		for (uint64_t i = 0; i < slot->arrays->blocks[level - 1]; i++) {
			const struct rmap *rmap = &slot->arrays->rmap[level - 1][i];

			if (rmap_is_empty(rmap))
				continue;
			if (level < ARRAY_LEVELS &&
			    !block_is_used(slot, gfn_round(slot->base, level).v + i * level_pages(level)))
				audit_fail(walk->audit, "a block has leaves, and walks would skip it (I2.5)",
				           "slot ", slot->id, "block ", i);
			if (load_relaxed(&rmap->head) & 2)
				audit_fail(walk->audit, "a chain is locked and nobody walks it (I2.1)",
				           "slot ", slot->id, "block ", i);
			walk->chained += rmap_count(rmap);
		}
}

static bool slot_arrays_check(void *arg, struct memslot *slot)
{
	struct arrays_walk *walk = arg;
	struct audit *audit = walk->audit;
	const struct slot_arrays *arrays = slot->arrays;

	walk->slots++;
	if (!arrays) {
		if (walk->exist)
			audit_fail(audit, "a slot has no arrays although something was shadowed (I1.1, I1.3)",
			           "slot ", slot->id, NULL, 0);
		return false;
	}
	if (!walk->exist && !audit->report->ran_out_of_memory)
		audit_fail(audit, "a slot has arrays and nothing was ever shadowed (P1)", "slot ", slot->id, NULL, 0);
	walk->bytes += sizeof(*arrays) + slot->npages * sizeof(uint16_t);
	for (int level = 1; level <= ARRAY_LEVELS; level++) {
		uint64_t blocks = (slot->base.v + slot->npages - 1) / level_pages(level) -
		                  slot->base.v / level_pages(level) + 1;

		if (arrays->blocks[level - 1] != blocks)
			audit_fail(audit, "arrays of another slot", "slot ", slot->id,
			           "blocks ", arrays->blocks[level - 1]);
		walk->bytes += blocks * (sizeof(struct rmap) + (level > 1 ? sizeof(uint32_t) : 0));
		if (level == VMMU_LEVEL_2M)
			walk->bytes += (blocks + 63) / 64 * sizeof(uint64_t);
	}
	if (!walk->exist)
		return false;
	chains_check(walk, slot);
	tracked_check(audit, slot);
	for (int level = 2; level <= ARRAY_LEVELS; level++)
		no_huge_check(audit, slot, level);
	return false;
}

void audit_arrays(struct audit *audit)
{
	struct arrays_walk walk = { .audit = audit, .exist = arrays_exist(audit->vm) };
	struct vm *vm = audit->vm;

	if (walk.exist && (!vm->shadow || !vm->shadow->hash))
		audit_fail(audit, "the flag is up without a shadow MMU (I1.5)", NULL, 0, NULL, 0);
	if (walk.exist && !vm->shadow)
		return;
	if (!walk.exist && vm->shadow && vm->shadow->used)
		audit_fail(audit, "shadow pages before the first shadow root (I1.5)", "there are ", vm->shadow->used,
		           NULL, 0);
	for (unsigned as_id = 0; as_id < vm->address_spaces; as_id++)
		memslots_for_each(memslots_current(vm, as_id), slot_arrays_check, &walk);
	if (walk.bytes != load_relaxed(&vm->stats.rmap_bytes))
		audit_fail(audit, "bytes of arrays (I1.2)", "counted ", load_relaxed(&vm->stats.rmap_bytes),
		           "there are ", walk.bytes);
	if (walk.chained != audit->mapped)
		audit_fail(audit, "chains hold more than the present leaves (I2.5)", "on chains ", walk.chained,
		           "leaves ", audit->mapped);
}

/* SPDX-License-Identifier: MIT */
/* Operations on slots, with the rules of KVM_SET_USER_MEMORY_REGION written a second time. */
#include <stdlib.h>
#include <string.h>

#include "core/format/spte.h"
#include "core/memslot/slots.h"
#include "test/oracle/model.h"

#define BLOCK_2M UINT64_C(512)
#define BLOCK_1G UINT64_C(262144)

static struct mslot *slot_by_id(struct model *m, uint32_t as, uint32_t id)
{
	for (unsigned i = 0; i < SLOTS; i++)
		if (m->slot[i].used && m->slot[i].as == as && m->slot[i].id == id)
			return &m->slot[i];
	return NULL;
}

static bool overlaps(struct model *m, const struct vmmu_region *region)
{
	uint64_t base = region->gpa.v >> 12, pages = region->bytes >> 12;

	for (unsigned i = 0; i < SLOTS; i++) {
		const struct mslot *slot = &m->slot[i];

		if (slot->used && slot->as == region->address_space && slot->id != region->slot &&
		    base < slot->base + slot->pages && slot->base < base + pages)
			return true;
	}
	return false;
}

static enum vmmu_status expected_status(struct model *m, const struct vmmu_region *region)
{
	const struct mslot *old = slot_by_id(m, region->address_space, region->slot);

	if (region->address_space >= m->config.address_spaces || region->slot >= VMMU_MAX_SLOTS ||
	    (region->flags & ~3u) || ((region->gpa.v | region->bytes | region->hva.v) & 4095) ||
	    region->bytes >> 12 > VMMU_MAX_SLOT_PAGES || region->gpa.v + region->bytes < region->gpa.v)
		return VMMU_EINVAL;
	if (!region->bytes)
		return old ? VMMU_OK : VMMU_EINVAL;
	if (old && (old->pages != region->bytes >> 12 ||
	            (char *)(uintptr_t)region->hva.v != old->arena->base + (old->offset << 12) ||
	            ((old->flags ^ region->flags) & VMMU_SLOT_READONLY)))
		return VMMU_EINVAL;
	if (old && old->base == region->gpa.v >> 12)
		return VMMU_OK;
	if (overlaps(m, region))
		return VMMU_EEXIST;
	return region->gpa.v + region->bytes > GUEST_PAGES << 12 ? VMMU_EINVAL : VMMU_OK;
}

static void log_start(struct model *m, struct mslot *slot)
{
	bool all = (m->dirty_mode & VMMU_DIRTY_INITIALLY_SET) && !m->ring;

	slot->dirty = malloc(slot->pages);
	slot->ever = calloc(slot->pages, 1);
	slot->gone = calloc(slot->pages, 1);
	memset(slot->dirty, all, slot->pages);
}

static void log_stop(struct mslot *slot)
{
	free(slot->dirty);
	free(slot->ever);
	free(slot->gone);
	slot->dirty = slot->ever = slot->gone = NULL;
}

static void apply(struct model *m, const struct vmmu_region *region, struct arena *arena)
{
	struct mslot *slot = slot_by_id(m, region->address_space, region->slot);

	if (!region->bytes) {
		log_stop(slot);
		*slot = (struct mslot){ 0 };
		return;
	}
	if (!slot) {
		for (slot = m->slot; slot->used; slot++)
			;
		*slot = (struct mslot){
			.used = true,
			.id = region->slot,
			.as = region->address_space,
			.pages = region->bytes >> 12,
			.arena = arena,
			.offset = ((char *)(uintptr_t)region->hva.v - arena->base) >> 12,
		};
	}
	slot->base = region->gpa.v >> 12;
	slot->flags = region->flags;
	if ((slot->flags & VMMU_SLOT_LOG_DIRTY) && !slot->dirty)
		log_start(m, slot);
	else if (!(slot->flags & VMMU_SLOT_LOG_DIRTY))
		log_stop(slot);
}

static uint64_t pick_size(struct model *m, const struct arena *arena)
{
	uint64_t pages;

	switch (rng_below(&m->rng, 6)) {
	case 0:
	case 1:
		pages = 1 + rng_below(&m->rng, 40);
		break;
	case 2:
		pages = BLOCK_2M * (1 + rng_below(&m->rng, 4));
		break;
	case 3:
		pages = BLOCK_2M * (1 + rng_below(&m->rng, 3)) + rng_below(&m->rng, BLOCK_2M);
		break;
	case 4:
		pages = BLOCK_1G + rng_below(&m->rng, 2) * rng_below(&m->rng, 1024);
		break;
	default:
		pages = arena->pages;
		break;
	}
	return pages > arena->pages ? arena->pages : pages;
}

/* Pick a place, in one of a few windows, so that slots overlap. It is often aligned as the host memory is. */
static uint64_t pick_base(struct model *m, uint64_t offset)
{
	uint64_t align = rng_one_in(&m->rng, 2) ? BLOCK_1G : BLOCK_2M;
	uint64_t base = rng_below(&m->rng, 6) * (2 * BLOCK_1G) + rng_below(&m->rng, 3) * BLOCK_2M;

	if (rng_one_in(&m->rng, 4))
		return base + rng_below(&m->rng, 600);
	if (rng_one_in(&m->rng, 20))
		return (UINT64_C(1) << 36) - 1 - rng_below(&m->rng, BLOCK_1G);
	return (base & ~(align - 1)) + (offset & (align - 1));
}

static void pick_new(struct model *m, struct vmmu_region *region, struct arena **arena)
{
	uint64_t pages, offset;

	*arena = &m->arena[rng_below(&m->rng, ARENAS)];
	pages = pick_size(m, *arena);
	offset = rng_below(&m->rng, (*arena)->pages - pages + 1);
	if (rng_one_in(&m->rng, 2))
		offset &= ~(BLOCK_2M - 1);
	if (pages >= BLOCK_1G && rng_one_in(&m->rng, 2))
		offset &= ~(BLOCK_1G - 1);
	region->slot = rng_one_in(&m->rng, 8) ? VMMU_MAX_SLOTS - 1 - rng_below(&m->rng, 3) : rng_below(&m->rng, 8);
	region->address_space = rng_below(&m->rng, m->config.address_spaces);
	region->flags = (rng_one_in(&m->rng, 4) ? VMMU_SLOT_READONLY : 0) |
	                (rng_one_in(&m->rng, 4) ? VMMU_SLOT_LOG_DIRTY : 0);
	region->gpa.v = pick_base(m, offset) << 12;
	region->bytes = pages << 12;
	region->hva.v = (uintptr_t)((*arena)->base + (offset << 12));
}

static void region_of(const struct mslot *slot, struct vmmu_region *region)
{
	*region = (struct vmmu_region){
		.slot = slot->id,
		.address_space = slot->as,
		.flags = slot->flags,
		.gpa = { slot->base << 12 },
		.bytes = slot->pages << 12,
		.hva = { (uintptr_t)(slot->arena->base + (slot->offset << 12)) },
	};
}

static void pick_change(struct model *m, const struct mslot *slot, struct vmmu_region *region)
{
	region_of(slot, region);
	switch (rng_below(&m->rng, 5)) {
	case 0:
		region->bytes = 0;
		break;
	case 1:
		region->gpa.v = pick_base(m, slot->offset) << 12;
		if (rng_one_in(&m->rng, 3))
			region->flags ^= VMMU_SLOT_LOG_DIRTY;
		break;
	default:
		region->flags ^= VMMU_SLOT_LOG_DIRTY;
		break;
	}
}

static void spoil(struct model *m, struct vmmu_region *region)
{
	switch (rng_below(&m->rng, 7)) {
	case 0:
		region->flags |= 4;
		break;
	case 1:
		region->gpa.v += 8;
		break;
	case 2:
		region->bytes += region->bytes ? 512 : 0;
		break;
	case 3:
		region->address_space = m->config.address_spaces;
		break;
	case 4:
		region->slot = VMMU_MAX_SLOTS + rng_below(&m->rng, 2);
		break;
	case 5:
		region->flags ^= VMMU_SLOT_READONLY;
		break;
	default:
		region->gpa.v = (UINT64_C(1) << 48) - (rng_one_in(&m->rng, 2) ? region->bytes : 4096);
		break;
	}
}

static void slots_compare(struct model *m, uint32_t as, uint32_t id)
{
	const struct mslot *slot = slot_by_id(m, as, id);
	struct vmmu_region got, wanted;
	enum vmmu_status status = vmmu_region_get(m->vm, as, id, &got);

	if (status != (slot ? VMMU_OK : VMMU_ENOENT))
		mismatch(m, "region_get of slot %u: %s", id, vmmu_status_name(status));
	if (!slot)
		return;
	region_of(slot, &wanted);
	if (got.flags != wanted.flags || got.gpa.v != wanted.gpa.v || got.bytes != wanted.bytes ||
	    got.hva.v != wanted.hva.v)
		mismatch(m, "region_get of slot %u tells something else", id);
}

void op_slot(struct model *m)
{
	struct mslot *slot = model_pick_slot(m);
	struct vmmu_region region;
	enum vmmu_status wanted, got;
	struct arena *arena = NULL;
	unsigned used = 0;

	if (m->outstanding)
		return; /* a slot change would wait for the invalidation's end, for ever: there is a single thread */
	for (unsigned i = 0; i < SLOTS; i++)
		used += m->slot[i].used;
	if (slot && (used == SLOTS || rng_one_in(&m->rng, 2)))
		pick_change(m, slot, &region);
	else
		pick_new(m, &region, &arena);
	if (rng_one_in(&m->rng, 12))
		spoil(m, &region);
	wanted = expected_status(m, &region);
	got = vmmu_region_set(m->vm, &region);
	trace("slot %u as %u: flags %x gfn %llx pages %llx hva %llx: %s", region.slot, region.address_space,
	      region.flags, (unsigned long long)region.gpa.v >> 12, (unsigned long long)region.bytes >> 12,
	      (unsigned long long)region.hva.v, vmmu_status_name(got));
	if (got != wanted)
		mismatch(m, "expected %s", vmmu_status_name(wanted));
	if (got == VMMU_OK)
		apply(m, &region, arena);
	if (region.address_space < m->config.address_spaces)
		slots_compare(m, region.address_space, region.slot);
}

/*
 * Set the generations as if very many slot changes had been made, so that they soon overflow the 18 bits that an MMIO
 * entry has for them, while entries of the first generations are still there (P10). Only this operation reaches into
 * the library.
 */
void op_generations(struct model *m)
{
	struct slots *slots = m->vm->vm.slots;

	if (m->outstanding || m->jumped)
		return;
	trace("generations jump");
	m->jumped = true;
	for (unsigned as = 0; as < m->config.address_spaces; as++)
		for (unsigned index = 0; index < 2; index++)
			slots->set[as][index].generation = MMIO_GENERATION_MASK + 1 - 3 * m->config.address_spaces + as;
}

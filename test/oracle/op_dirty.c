/* SPDX-License-Identifier: MIT */
/* Dirty logging. A bitmap is exact. In rings no written page is missing, and no page is named that was not written. */
#include <stdlib.h>
#include <string.h>

#include "test/oracle/model.h"

static uint64_t bitmap[(UINT64_C(1) << 20) / 64]; /* for more pages than the largest slot has */

/* A page may also be marked if the host refused a write to it: a fast fault does not look at the host's page (P6). */
static void bitmap_compare(struct model *m, struct mslot *slot)
{
	for (uint64_t page = 0; page < slot->pages; page++) {
		bool marked = bitmap[page / 64] >> (page % 64) & 1;

		if (marked != slot->dirty[page] && !(marked && slot->ever[page] == EVER_REFUSED))
			mismatch(m, "slot %u page %llx: the log says %s", slot->id, (unsigned long long)page,
			         marked ? "dirty" : "clean");
		slot->dirty[page] = marked;
	}
	for (uint64_t page = slot->pages; page < ((slot->pages + 63) & ~UINT64_C(63)); page++)
		if (bitmap[page / 64] >> (page % 64) & 1)
			mismatch(m, "slot %u: the log marks a page beyond its end", slot->id);
}

static void get(struct model *m, struct mslot *slot)
{
	size_t words = (slot->pages + 63) / 64;
	enum vmmu_status status = vmmu_dirty_get(m->vm, slot->as, slot->id, bitmap, words);

	trace("dirty get slot %u as %u: %s", slot->id, slot->as, vmmu_status_name(status));
	if (status != (m->ring ? VMMU_EBUSY : slot->dirty ? VMMU_OK : VMMU_ENOENT))
		mismatch(m, "not expected");
	if (status != VMMU_OK)
		return;
	m->compared++;
	bitmap_compare(m, slot);
	if (!(m->dirty_mode & VMMU_DIRTY_MANUAL_PROTECT))
		memset(slot->dirty, 0, slot->pages);
	if (vmmu_dirty_get(m->vm, slot->as, slot->id, bitmap, words - 1) != VMMU_EINVAL)
		mismatch(m, "a bitmap that is too small was accepted");
}

static void clear(struct model *m, struct mslot *slot)
{
	uint64_t first = model_pick_page(m, slot) & ~UINT64_C(63), pages = (1 + rng_below(&m->rng, 20)) * 64;
	enum vmmu_status status;

	if (pages > slot->pages - first || rng_one_in(&m->rng, 8))
		pages = slot->pages - first;
	for (uint64_t i = 0; i < (pages + 63) / 64; i++)
		bitmap[i] = rng_one_in(&m->rng, 2) ? ~UINT64_C(0) : rng_next(&m->rng) & rng_next(&m->rng);
	status = vmmu_dirty_clear(m->vm, slot->as, slot->id, first, pages, bitmap);
	trace("dirty clear slot %u as %u from %llx, %llx pages: %s", slot->id, slot->as, (unsigned long long)first,
	      (unsigned long long)pages, vmmu_status_name(status));
	if (status != (m->ring ? VMMU_EBUSY : slot->dirty ? VMMU_OK : VMMU_ENOENT))
		mismatch(m, "not expected");
	for (uint64_t i = 0; status == VMMU_OK && i < pages; i++)
		if (bitmap[i / 64] >> (i % 64) & 1)
			slot->dirty[first + i] = 0;
}

static void clear_badly(struct model *m, const struct mslot *slot)
{
	if (!slot->dirty || m->ring)
		return;
	if (vmmu_dirty_clear(m->vm, slot->as, slot->id, 1, 63, bitmap) != VMMU_EINVAL ||
	    vmmu_dirty_clear(m->vm, slot->as, slot->id, 0, ((slot->pages + 63) & ~UINT64_C(63)) + 64,
	                     bitmap) != VMMU_EINVAL ||
	                     vmmu_dirty_clear(m->vm, slot->as, slot->id, UINT64_MAX & ~UINT64_C(63), 64,
	                                      bitmap) != VMMU_EINVAL)
		mismatch(m, "numbers that make no sense were accepted");
}

void op_dirty(struct model *m)
{
	struct mslot *slot = model_pick_slot(m);

	for (int tries = 0; slot && !slot->dirty && tries < 5; tries++)
		slot = model_pick_slot(m);
	if (m->ring && !rng_one_in(&m->rng, 10))
		ring_harvest(m, rng_one_in(&m->rng, 2));
	else if (slot && rng_one_in(&m->rng, 2))
		get(m, slot);
	else if (slot && !rng_one_in(&m->rng, 10))
		clear(m, slot);
	else if (slot)
		clear_badly(m, slot);
}

void op_dirty_mode(struct model *m)
{
	unsigned mode = rng_below(&m->rng, 4);
	enum vmmu_status status = vmmu_dirty_mode_set(m->vm, mode);

	trace("dirty mode %u: %s", mode, vmmu_status_name(status));
	if (status != (mode == VMMU_DIRTY_INITIALLY_SET ? VMMU_EINVAL : VMMU_OK))
		mismatch(m, "not expected");
	if (status == VMMU_OK)
		m->dirty_mode = mode;
}

/* --- rings --- */

/* Fail for each dirty page of a logged slot that no ring entry has named. */
static void ring_missing(struct model *m)
{
	for (unsigned i = 0; i < SLOTS; i++)
		for (uint64_t page = 0; m->slot[i].dirty && page < m->slot[i].pages; page++)
			if (m->slot[i].dirty[page])
				mismatch(m, "slot %u page %llx was written and is in no ring", m->slot[i].id,
				         (unsigned long long)page);
}

static void ring_entry(struct model *m, unsigned n, const struct vmmu_dirty_gfn *entry, bool goes)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		struct mslot *slot = &m->slot[i];

		if (!slot->dirty || (slot->as << 16 | slot->id) != entry->slot || entry->offset >= slot->pages)
			continue;
		/* The entry is from before this log began: ignore it. */
		if (!slot->ever[entry->offset])
			continue;
		slot->dirty[entry->offset] = 0;
		slot->gone[entry->offset] |= goes;
	}
	trace("vcpu %u ring: slot %x page %llx", n, entry->slot, (unsigned long long)entry->offset);
}

static uint64_t ring_take(struct model *m, unsigned n, bool all, bool goes)
{
	uint64_t taken = 0;

	for (; m->cpu[n].exists; m->cpu[n].fetch++, taken++) {
		struct vmmu_dirty_gfn *entry = &m->cpu[n].ring[m->cpu[n].fetch % RING];

		if (!(__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & VMMU_DIRTY_GFN_DIRTY) ||
		    (!all && taken > 40 && rng_one_in(&m->rng, 8)))
			break;
		ring_entry(m, n, entry, goes);
		__atomic_store_n(&entry->flags, VMMU_DIRTY_GFN_RESET, __ATOMIC_RELEASE);
	}
	return taken;
}

void ring_leave(struct model *m, unsigned n)
{
	ring_take(m, n, true, true);
}

/* As all harvested pages, those of rings that have gone are read after the reset, and earlier writes are seen then. */
static void ring_gone_seen(struct model *m)
{
	for (unsigned i = 0; i < SLOTS; i++)
		for (uint64_t page = 0; m->slot[i].gone && page < m->slot[i].pages; page++)
			if (m->slot[i].gone[page])
				m->slot[i].dirty[page] = m->slot[i].gone[page] = 0;
}

void ring_harvest(struct model *m, bool all)
{
	uint64_t taken = 0, given;

	for (unsigned n = 0; n < CPUS; n++)
		taken += ring_take(m, n, all, false);
	if (vmmu_dirty_ring_reset(m->vm, &given) != VMMU_OK || given != taken)
		mismatch(m, "%llu entries were taken back of %llu", (unsigned long long)given,
		         (unsigned long long)taken);
	m->compared++;
	ring_gone_seen(m);
	if (all)
		ring_missing(m);
}

/* SPDX-License-Identifier: MIT */
/*
 * The users of the dirty log. Each keeps a copy of the LOG area up to date by what the log
 * names, as a live migration does.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test/race/storm.h"

#define WORDS (AREA_PAGES / 64)

static void page_copy(struct storm *storm, unsigned page)
{
	for (unsigned word = 0; word < VCPUS; word++)
		storm->mirror[page][word] =
			__atomic_load_n(page_word(storm->area[AREA_LOG], page, word), __ATOMIC_RELAXED);
	atomic_count(&storm->dirty_pages);
}

static void all_copy(struct storm *storm)
{
	for (unsigned page = 0; page < AREA_PAGES; page++)
		page_copy(storm, page);
	storm->mirror_valid = true;
}

static void bits_copy(struct storm *storm, const uint64_t *bitmap, unsigned first, unsigned pages)
{
	for (unsigned i = 0; i < pages; i++)
		if (bitmap[i / 64] >> (i % 64) & 1)
			page_copy(storm, first + i);
}

/* Clear part by part, or all at once. Copy the pages when the clear has returned. */
static void clear_and_copy(struct storm *storm, const uint64_t *bitmap, unsigned step)
{
	for (unsigned first = 0; first < AREA_PAGES; first += step) {
		if (vmmu_dirty_clear(storm->vm, 0, SLOT_LOG, first, step, bitmap + first / 64) != VMMU_OK)
			storm_fail(storm, "dirty_clear");
		bits_copy(storm, bitmap + first / 64, first, step);
	}
}

static void bitmap_harvest(struct storm *storm, unsigned step)
{
	uint64_t bitmap[WORDS];
	enum vmmu_status status = vmmu_dirty_get(storm->vm, 0, SLOT_LOG, bitmap, WORDS);

	if (status != VMMU_OK)
		storm_fail(storm, "dirty_get: %s", vmmu_status_name(status));
	if (storm->manual)
		clear_and_copy(storm, bitmap, step);
	else
		bits_copy(storm, bitmap, 0, AREA_PAGES);
	atomic_count(&storm->harvests);
}

void actor_log(struct actor *actor)
{
	bitmap_harvest(actor->storm, 64u << rng_below(&actor->rng, 5));
	if (rng_one_in(&actor->rng, 2))
		usleep(rng_below(&actor->rng, 500));
}

void actor_log_toggle(struct actor *actor)
{
	struct storm *storm = actor->storm;

	if (!storm->mirror_valid) {
		region_set(storm, SLOT_LOG, GPA_LOG, AREA_PAGES, storm->area[AREA_LOG], VMMU_SLOT_LOG_DIRTY);
		all_copy(storm);
	} else if (rng_one_in(&actor->rng, 8)) {
		storm->mirror_valid = false;
		region_set(storm, SLOT_LOG, GPA_LOG, AREA_PAGES, storm->area[AREA_LOG], 0);
		usleep(rng_below(&actor->rng, 2000));
	} else if (storm->plan->ring) {
		actor_ring(actor);
	} else {
		actor_log(actor);
	}
}

/* --- rings --- */

static unsigned ring_take(struct storm *storm, unsigned n, unsigned *pages, unsigned max)
{
	unsigned count = 0;

	for (; count < max; count++, storm->fetch[n]++) {
		struct vmmu_dirty_gfn *entry = &storm->ring[n][storm->fetch[n] % RING];

		/* acquire and release: the interface's own rules (P11) */
		if (!(__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & VMMU_DIRTY_GFN_DIRTY))
			break;
		pages[count] = __atomic_load_n(&entry->slot, __ATOMIC_RELAXED) == SLOT_LOG
		                       ? __atomic_load_n(&entry->offset, __ATOMIC_RELAXED)
		                       : ~0u;
		if (pages[count] >= AREA_PAGES)
			storm_fail(storm, "vcpu %u's ring names page %u of slot %x", n, pages[count], entry->slot);
		__atomic_store_n(&entry->flags, VMMU_DIRTY_GFN_RESET, __ATOMIC_RELEASE);
	}
	return count;
}

static void ring_harvest(struct storm *storm, unsigned max)
{
	static unsigned pages[VCPUS * RING];
	unsigned count = 0;
	uint64_t taken;

	for (unsigned n = 0; n < VCPUS; n++)
		count += ring_take(storm, n, pages + count, max);
	if (vmmu_dirty_ring_reset(storm->vm, &taken) != VMMU_OK || taken != count)
		storm_fail(storm, "%u entries were given back and %llu taken", count, (unsigned long long)taken);
	for (unsigned i = 0; i < count; i++)
		page_copy(storm, pages[i]);
	atomic_count(&storm->harvests);
}

void actor_ring(struct actor *actor)
{
	ring_harvest(actor->storm, rng_one_in(&actor->rng, 2) ? RING : 1 + rng_below(&actor->rng, 100));
	if (rng_one_in(&actor->rng, 2))
		usleep(rng_below(&actor->rng, 300));
}

/* --- the quiet point --- */

void log_compare(struct storm *storm)
{
	if (!storm->mirror_valid)
		return;
	if (storm->plan->ring)
		ring_harvest(storm, RING);
	else
		bitmap_harvest(storm, AREA_PAGES);
	for (unsigned page = 0; page < AREA_PAGES; page++)
		for (unsigned word = 0; word < VCPUS; word++)
			if (storm->mirror[page][word] != *page_word(storm->area[AREA_LOG], page, word))
				storm_fail(
					storm,
					"a write to page %u was lost (P11): vcpu %u wrote %llx, the copy has %llx",
					page, word,
					(unsigned long long)*page_word(storm->area[AREA_LOG], page, word),
					(unsigned long long)storm->mirror[page][word]);
	storm->compared += AREA_PAGES;
}

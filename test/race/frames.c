/* SPDX-License-Identifier: MIT */
/*
 * Memory whose frames move, as a host's do. In an ordinary process a page's frame is its address for ever. Then a
 * frame that was looked up before an invalidation and installed after it would still be the right one.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test/race/storm.h"

static void frame_fill(struct storm *storm, unsigned frame, uint64_t value)
{
	for (unsigned word = 0; word < VCPUS; word++)
		*page_word(storm->frame_pool, frame, word) = value;
}

static void frame_check(struct storm *storm, unsigned frame)
{
	for (unsigned word = 0; word < VCPUS; word++)
		if (*page_word(storm->frame_pool, frame, word) != POISON)
			storm_fail(storm, "a frame that was given up was written (I5.3)");
}

static uint64_t frame_address(const struct storm *storm, unsigned frame)
{
	return (uint64_t)(uintptr_t)storm->frame_pool + ((uint64_t)frame << 12);
}

void frames_make(struct storm *storm)
{
	if (!storm->frame_pool) {
		storm->frame_hva = mmap(NULL, FRAME_PAGES << 12, PROT_NONE,
		                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		storm->frame_pool = mmap(NULL, 2 * FRAME_PAGES << 12, PROT_READ | PROT_WRITE,
		                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (storm->frame_hva == MAP_FAILED || storm->frame_pool == MAP_FAILED)
			abort();
	}
	for (unsigned i = 0; i < FRAME_PAGES; i++) {
		storm->frame[i] = frame_address(storm, i);
		storm->spare[i] = FRAME_PAGES + i;
		frame_fill(storm, i, VALID);
		frame_fill(storm, FRAME_PAGES + i, POISON);
	}
	storm->spares_at = 0;
	storm->host.frames_at = (uintptr_t)storm->frame_hva;
	storm->host.frames_count = FRAME_PAGES;
	storm->host.frames = storm->frame;
}

/* The page gets the oldest frame that was given up. Its own frame is poisoned, and checked when it is the oldest. */
static void page_move(struct storm *storm, unsigned page)
{
	unsigned *spare = &storm->spare[storm->spares_at++ % FRAME_PAGES],
	         old = (storm->frame[page] - frame_address(storm, 0)) >> 12;

	frame_check(storm, *spare);
	frame_fill(storm, *spare, VALID);
	__atomic_store_n(&storm->frame[page], frame_address(storm, *spare), __ATOMIC_RELEASE);
	frame_fill(storm, old, POISON);
	*spare = old;
}

void actor_frames(struct actor *actor)
{
	struct storm *storm = actor->storm;
	unsigned first = rng_below(&actor->rng, FRAME_PAGES), pages = 1 + rng_below(&actor->rng, 4);
	struct vmmu_hva start = { (uintptr_t)storm->frame_hva + (first << 12) }, end;

	if (pages > FRAME_PAGES - first)
		pages = FRAME_PAGES - first;
	end.v = start.v + (pages << 12);
	vmmu_invalidate_begin(storm->vm, start, end);
	for (unsigned page = first; page < first + pages; page++)
		page_move(storm, page);
	vmmu_invalidate_end(storm->vm, start, end);
	atomic_count(&storm->invalidations);
	usleep(rng_below(&actor->rng, 200));
}

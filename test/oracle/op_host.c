/* SPDX-License-Identifier: MIT */
/* Operations of the host: invalidations with real changes of memory, and aging. Also the comparison of everything. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "test/oracle/model.h"

enum change { NOTHING, DONTNEED, GONE, BACK, PROTECT, CHANGES };

static void change(struct model *m, struct arena *arena, uint64_t first, uint64_t pages, enum change what)
{
	char *at = arena->base + (first << 12);
	int protection = what == GONE ? PROT_NONE : PROT_READ | PROT_WRITE;

	switch (what) {
	case DONTNEED:
		if (madvise(at, pages << 12, MADV_DONTNEED))
			mismatch(m, "madvise");
		break;
	case GONE:
	case BACK:
		if (mmap(at, pages << 12, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
		         0) != at)
			mismatch(m, "mmap");
		madvise(at, pages << 12, MADV_NOHUGEPAGE);
		memset(arena->state + first, what == GONE ? PAGE_GONE : PAGE_OK, pages);
		break;
	case PROTECT:
		if (mprotect(at, pages << 12, PROT_READ))
			mismatch(m, "mprotect");
		memset(arena->state + first, PAGE_READONLY, pages);
		return;
	default:
		return;
	}
	memset(arena->value + first, 0, pages * sizeof(uint64_t));
}

/* mprotect is used only where all pages are there, since it does not bring back a page that is gone. */
static bool all_there(const struct arena *arena, uint64_t first, uint64_t pages)
{
	for (uint64_t i = 0; i < pages; i++)
		if (arena->state[first + i] == PAGE_GONE)
			return false;
	return true;
}

static void pick_range(struct model *m, struct arena **arena, uint64_t *first, uint64_t *pages)
{
	struct mslot *slot = model_pick_slot(m);

	*arena = &m->arena[rng_below(&m->rng, ARENAS)];
	*first = rng_below(&m->rng, (*arena)->pages);
	if (slot && !rng_one_in(&m->rng, 8)) {
		*arena = slot->arena;
		*first = slot->offset + model_pick_page(m, slot);
	}
	*pages = rng_one_in(&m->rng, 3) ? 1 : 1 + rng_below(&m->rng, rng_one_in(&m->rng, 4) ? 700 : 20);
	if (rng_one_in(&m->rng, 40)) {
		*first = 0;
		*pages = (*arena)->pages;
	}
	if (*pages > (*arena)->pages - *first)
		*pages = (*arena)->pages - *first;
}

void op_invalidate_begin(struct model *m)
{
	struct range *range = m->range;
	struct arena *arena;
	uint64_t first, pages;
	enum change what;

	while (range < m->range + RANGES && range->active)
		range++;
	if (range == m->range + RANGES)
		return;
	pick_range(m, &arena, &first, &pages);
	what = rng_below(&m->rng, CHANGES);
	if ((what == PROTECT || what == DONTNEED) && !all_there(arena, first, pages))
		what = BACK;
	*range = (struct range){ arena->base + (first << 12), arena->base + ((first + pages) << 12), true };
	m->outstanding++;
	trace("invalidate begin %p..%p, change %d", (void *)range->start, (void *)range->end, what);
	vmmu_invalidate_begin(m->vm, (struct vmmu_hva){ (uintptr_t)range->start },
	                      (struct vmmu_hva){ (uintptr_t)range->end });
	/* An access in between must see nothing of the range, neither as it was nor as it will be (I5.4). */
	if (rng_one_in(&m->rng, 2))
		op_access(m);
	change(m, arena, first, pages, what);
	if (rng_one_in(&m->rng, 2))
		op_invalidate_end(m);
}

void op_invalidate_end(struct model *m)
{
	unsigned first = rng_below(&m->rng, RANGES);

	for (unsigned i = 0; i < RANGES; i++) {
		struct range *range = &m->range[(first + i) % RANGES];

		if (!range->active)
			continue;
		trace("invalidate end %p..%p", (void *)range->start, (void *)range->end);
		vmmu_invalidate_end(m->vm, (struct vmmu_hva){ (uintptr_t)range->start },
		                    (struct vmmu_hva){ (uintptr_t)range->end });
		range->active = false;
		m->outstanding--;
		return;
	}
}

static bool age(struct model *m, const struct arena *arena, uint64_t first, uint64_t pages, bool clear)
{
	uintptr_t start = (uintptr_t)arena->base + (first << 12);

	return vmmu_age(m->vm, (struct vmmu_hva){ start }, (struct vmmu_hva){ start + (pages << 12) }, clear);
}

static void age_after_touch(struct model *m, unsigned n, const struct mslot *slot, uint64_t page)
{
	uint64_t *value;
	struct mslot *found;

	if (model_access(m, m->cpu[n].as, slot->base + page, false, &value, &found) != MCPU_OK || m->outstanding)
		return;
	mcpu_forget(&m->cpu[n].cpu); /* with the translation in its TLB the CPU would not set A again */
	access_check(m, n, slot->base + page, false);
	if (!age(m, slot->arena, slot->offset + page, 1, false))
		mismatch(m, "a page that was just read is old: gfn %llx", (unsigned long long)slot->base + page);
}

void op_age(struct model *m)
{
	struct arena *arena;
	uint64_t first, pages;
	struct mslot *slot = model_pick_slot(m);

	pick_range(m, &arena, &first, &pages);
	trace("age %p, %llx pages", (void *)(arena->base + (first << 12)), (unsigned long long)pages);
	age(m, arena, first, pages, true);
	if (age(m, arena, first, pages, false))
		mismatch(m, "a page that was just made old is young");
	for (unsigned n = 0; slot && n < CPUS; n++)
		if (m->cpu[n].exists && m->cpu[n].as == slot->as) {
			age_after_touch(m, n, slot, model_pick_page(m, slot));
			break;
		}
}

/* Change the limit of shadow pages. */
void op_room(struct model *m)
{
	if (vmmu_shadow_limit_set(m->vm, rng_one_in(&m->rng, 2) ? 0 : 12 + rng_below(&m->rng, 100)) !=
	    (m->shadow ? VMMU_OK : VMMU_EINVAL))
		mismatch(m, "the limit of shadow pages");
}

/* Audit, and compare some pages of every slot as each vCPU sees them. */
void op_compare_all(struct model *m)
{
	audit_or_die(m);
	for (unsigned n = 0; n < CPUS; n++) {
		if (!m->cpu[n].exists)
			continue;
		for (unsigned i = 0; i < SLOTS; i++)
			for (unsigned tries = 0; tries < 6 && m->slot[i].used && m->slot[i].as == m->cpu[n].as; tries++)
				access_check(m, n, m->slot[i].base + model_pick_page(m, &m->slot[i]), false);
	}
	if (m->ring)
		ring_harvest(m, true);
	audit_or_die(m);
}

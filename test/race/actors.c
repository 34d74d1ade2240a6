/* SPDX-License-Identifier: MIT */
/* The actors of a storm: vCPUs, and threads that take memory from them. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test/race/storm.h"

/* --- vCPUs --- */

static uint64_t mark(struct actor *actor)
{
	return VALID | (uint64_t)actor->index << 40 | (actor->steps & ((UINT64_C(1) << 40) - 1));
}

static void value_check(struct actor *actor, uint64_t value, const char *area, unsigned page)
{
	if (value == POISON)
		storm_fail(actor->storm, "vcpu %u read page %u of %s after it was taken away", actor->index, page,
		           area);
	if (value && value >> 48 != VALID >> 48)
		storm_fail(actor->storm, "vcpu %u read %llx from page %u of %s", actor->index,
		           (unsigned long long)value, page, area);
}

/* Read any vCPU's word of a page, or write the vCPU's own. */
static enum mcpu_result access_any(struct actor *actor, uint64_t gpa, unsigned page, const char *area)
{
	struct mcpu *cpu = actor->storm->cpu[actor->index];
	bool write = rng_one_in(&actor->rng, 2);
	unsigned word = write ? actor->index : rng_below(&actor->rng, VCPUS);
	uint64_t value = mark(actor), at = gpa + ((uint64_t)page << 12) + word * 8;
	enum mcpu_result result = write ? mcpu_write(cpu, at, value) : mcpu_read(cpu, at, &value);

	if (result == MCPU_OK && !write)
		value_check(actor, value, area, page);
	return result;
}

static void vcpu_log(struct actor *actor)
{
	unsigned page = rng_below(&actor->rng, rng_one_in(&actor->rng, 2) ? HOT_PAGES : AREA_PAGES);
	enum mcpu_result result = access_any(actor, GPA_LOG, page, "LOG");

	if (result != MCPU_OK && result != MCPU_RING_FULL)
		storm_fail(actor->storm, "vcpu %u, LOG page %u: %s", actor->index, page, mcpu_result_name(result));
}

static void vcpu_inv(struct actor *actor)
{
	unsigned page = rng_below(&actor->rng, rng_one_in(&actor->rng, 2) ? HOT_PAGES : AREA_PAGES);
	enum mcpu_result result = access_any(actor, GPA_INV, page, "INV");

	if (result != MCPU_OK && result != MCPU_RING_FULL &&
	    !(result == MCPU_HOST && atomic_get(&actor->storm->may_unmap)))
		storm_fail(actor->storm, "vcpu %u, INV page %u: %s", actor->index, page, mcpu_result_name(result));
}

static void vcpu_swap(struct actor *actor)
{
	struct storm *storm = actor->storm;
	unsigned page = rng_below(&actor->rng, 64);
	uint64_t up = atomic_get(&storm->up), down = atomic_get(&storm->down),
	         gone_in = atomic_get(&storm->gone_in), phase = atomic_get(&storm->phase);
	enum mcpu_result result = access_any(actor, GPA_SWAP, page, "SWAP");

	if (result == MCPU_MMIO) {
		atomic_count(&storm->mmio);
		if (phase % 2 && atomic_get(&storm->phase) == phase)
			atomic_set(&storm->gone_in, phase);
		if (up && atomic_get(&storm->up) == up)
			storm_fail(storm, "vcpu %u: MMIO where there is a slot (change %llu)", actor->index,
			           (unsigned long long)up);
	} else if (result == MCPU_OK) {
		if (down && atomic_get(&storm->down) == down)
			storm_fail(storm, "vcpu %u: memory where there is no slot (change %llu)", actor->index,
			           (unsigned long long)down);
		/* A slot that is being deleted is memory until it is gone; a fault on it waits in between (zoo 10). */
		if (phase % 2 && gone_in == phase && atomic_get(&storm->phase) == phase)
			storm_fail(storm, "vcpu %u: memory after it was MMIO, in one deletion (change %llu)",
			           actor->index, (unsigned long long)phase);
	} else if (result != MCPU_RING_FULL) {
		storm_fail(storm, "vcpu %u, SWAP: %s", actor->index, mcpu_result_name(result));
	}
}

static void vcpu_prefault(struct actor *actor)
{
	static const uint64_t where[] = { GPA_LOG, GPA_INV, GPA_SWAP };
	struct mcpu *cpu = actor->storm->cpu[actor->index];
	uint64_t done, gpa = where[rng_below(&actor->rng, 3)] + (rng_below(&actor->rng, AREA_PAGES - 64) << 12);
	enum vmmu_status status;

	mcpu_leave(cpu);
	status = vmmu_prefault(cpu->vcpu, (struct vmmu_gpa){ gpa }, (1 + rng_below(&actor->rng, 64)) << 12, &done);
	if ((actor->storm->shadow || actor->storm->nested) && status == VMMU_EINVAL)
		return;
	if (status != VMMU_OK && status != VMMU_EAGAIN && status != VMMU_ENOENT &&
	    !(status == VMMU_EFAULT && atomic_get(&actor->storm->may_unmap)))
		storm_fail(actor->storm, "prefault: %s", vmmu_status_name(status));
}

/*
 * Write the vCPU's own word of a LOG page by the library's copy functions. Then read through SWAP, where poison would
 * show a grace period that did not wait.
 */
static void vcpu_copy(struct actor *actor)
{
	struct mcpu *cpu = actor->storm->cpu[actor->index];
	uint64_t value = mark(actor), gpa = GPA_LOG + (rng_below(&actor->rng, AREA_PAGES) << 12) + actor->index * 8;
	enum vmmu_status status;

	mcpu_leave(cpu);
	/* The ring's room is checked on the way into the guest. Go there first, so that there is room. */
	if (actor->storm->plan->ring && mcpu_read(cpu, gpa, &value) != MCPU_OK)
		return;
	mcpu_leave(cpu);
	value = mark(actor);
	status = vmmu_guest_write(cpu->vcpu, (struct vmmu_gpa){ gpa }, &value, sizeof(value));
	if (status != VMMU_OK)
		storm_fail(actor->storm, "guest_write: %s", vmmu_status_name(status));
	gpa = GPA_SWAP + (rng_below(&actor->rng, 64) << 12) + actor->index * 8;
	status = vmmu_guest_read(cpu->vcpu, (struct vmmu_gpa){ gpa }, &value, sizeof(value));
	if (status == VMMU_OK)
		value_check(actor, value, "SWAP", 0);
	else if (status != VMMU_ENOENT)
		storm_fail(actor->storm, "guest_read: %s", vmmu_status_name(status));
}

static void vcpu_mmio(struct actor *actor)
{
	struct mcpu *cpu = actor->storm->cpu[actor->index];
	uint64_t value;
	enum mcpu_result result = mcpu_read(cpu, GPA_DUMMY + (AREA_PAGES + rng_below(&actor->rng, 64)) * 4096, &value);

	if (result != MCPU_MMIO && result != MCPU_RING_FULL)
		storm_fail(actor->storm, "no slot, and not MMIO: %s", mcpu_result_name(result));
}

static void vcpu_frame(struct actor *actor)
{
	unsigned page = rng_below(&actor->rng, FRAME_PAGES);
	enum mcpu_result result = access_any(actor, GPA_FRAME, page, "FRAME");

	if (result != MCPU_OK && result != MCPU_RING_FULL)
		storm_fail(actor->storm, "vcpu %u, FRAME page %u: %s", actor->index, page, mcpu_result_name(result));
}

/*
 * With nested guests: L1 stores an entry of a table as it is, or its guest does. Often the frame has just ceased to be
 * mirrored, so that the leaf it stores through is writable when the frame is mirrored again (N1).
 */
static void vcpu_tables(struct actor *actor)
{
	struct mcpu *cpu = actor->storm->cpu[actor->index];
	struct mcpu_guest *g = cpu->guest;
	enum mcpu_result result;
	uint64_t offset, value;

	mcpu_leave(cpu); /* nobody waits for a lock in the guest */
	pthread_mutex_lock(&g->lock);
	offset = ((uint64_t)rng_below(&actor->rng, g->next) << 12) + rng_below(&actor->rng, 512) * 8;
	value = __atomic_load_n((uint64_t *)(g->hva + offset), __ATOMIC_RELAXED);
	if (rng_one_in(&actor->rng, 2))
		vmmu_unprotect(cpu->vcpu, (struct vmmu_gpa){ g->gpa + offset });
	result = mcpu_write(cpu, g->gpa + offset, value);
	mcpu_leave(cpu);
	pthread_mutex_unlock(&g->lock);
	if (result != MCPU_OK && result != MCPU_RING_FULL)
		storm_fail(actor->storm, "vcpu %u, tables: %s", actor->index, mcpu_result_name(result));
}

void actor_vcpu(struct actor *actor)
{
	static const struct {
		unsigned work, weight;
		void (*fn)(struct actor *actor);
	} kinds[] = {
		{ DO_LOG, 20, vcpu_log },          { DO_INV, 20, vcpu_inv },  { DO_SWAP, 18, vcpu_swap },
		{ DO_FRAME, 12, vcpu_frame },
		{ DO_PREFAULT, 1, vcpu_prefault }, { DO_COPY, 2, vcpu_copy }, { DO_MMIO, 2, vcpu_mmio },
	};
	unsigned choice = rng_below(&actor->rng, 64);

	if (rng_one_in(&actor->rng, 64))
		/* a CPU may do so at any time; the next access sets Accessed again */
		mcpu_forget(actor->storm->cpu[actor->index]);
	if (actor->storm->nested && rng_one_in(&actor->rng, 32))
		vcpu_tables(actor);
	if (rng_one_in(&actor->rng, 32))
		vcpu_level_draw(actor->storm, actor->storm->cpu[actor->index], &actor->rng);
	for (unsigned i = 0;; i = (i + 1) % (sizeof(kinds) / sizeof(kinds[0]))) {
		if (!(kinds[i].work & actor->storm->plan->vcpu_work))
			continue;
		if (choice < kinds[i].weight) {
			kinds[i].fn(actor);
			break;
		}
		choice -= kinds[i].weight;
	}
	atomic_count(&actor->storm->accesses);
}

/* --- invalidations --- */

static void poison(struct storm *storm, unsigned first, unsigned pages)
{
	for (unsigned page = first; page < first + pages; page++)
		for (unsigned word = 0; word < VCPUS; word++)
			*page_word(storm->area[AREA_INV], page, word) = POISON;
}

static void poison_check(struct storm *storm, unsigned first, unsigned pages)
{
	for (unsigned page = first; page < first + pages; page++)
		for (unsigned word = 0; word < VCPUS; word++)
			if (*page_word(storm->area[AREA_INV], page, word) != POISON)
				storm_fail(storm,
				           "page %u was written between begin and end of its invalidation (I5.4)",
				           page);
}

static void refresh(struct storm *storm, struct actor *actor, unsigned first, unsigned pages)
{
	char *at = storm->area[AREA_INV] + ((size_t)first << 12);

	switch (rng_below(&actor->rng, 3)) {
	case 0:
		madvise(at, (size_t)pages << 12, MADV_DONTNEED);
		break;
	case 1:
		if (atomic_get(&storm->may_unmap)) {
			munmap(at, (size_t)pages << 12);
			if (mmap(at, (size_t)pages << 12, PROT_READ | PROT_WRITE,
			         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at)
				abort();
			madvise(at, (size_t)pages << 12, MADV_NOHUGEPAGE);
			break;
		}
		/* fallthrough */
	default:
		for (unsigned page = first; page < first + pages; page++)
			for (unsigned word = 0; word < VCPUS; word++)
				*page_word(storm->area[AREA_INV], page, word) = VALID;
		break;
	}
}

/* Two such actors have one half of INV each. Their ranges meet only where the library widens them to huge leaves. */
void actor_invalidate(struct actor *actor)
{
	struct storm *storm = actor->storm;
	unsigned half = actor->index % 2 * (AREA_PAGES / 2), first = half, pages = AREA_PAGES / 2;
	struct vmmu_hva start, end;

	if (!rng_one_in(&actor->rng, 16)) {
		first = half + rng_below(&actor->rng, rng_one_in(&actor->rng, 2) ? HOT_PAGES : AREA_PAGES / 2);
		pages = 1 + rng_below(&actor->rng, 8);
		if (pages > half + AREA_PAGES / 2 - first)
			pages = half + AREA_PAGES / 2 - first;
	}
	start.v = (uintptr_t)storm->area[AREA_INV] + ((uintptr_t)first << 12);
	end.v = start.v + ((uintptr_t)pages << 12);
	vmmu_invalidate_begin(storm->vm, start, end);
	poison(storm, first, pages);
	if (rng_one_in(&actor->rng, 4))
		usleep(rng_below(&actor->rng, 200));
	poison_check(storm, first, pages);
	refresh(storm, actor, first, pages);
	vmmu_invalidate_end(storm->vm, start, end);
	atomic_count(&storm->invalidations);
	if (!rng_one_in(&actor->rng, 4))
		usleep(rng_below(&actor->rng, 400));
}

void actor_invalidate_other(struct actor *actor)
{
	static char elsewhere[4096];
	struct storm *storm = actor->storm;
	bool log = rng_one_in(&actor->rng, 2);
	struct vmmu_hva start = { (uintptr_t)elsewhere }, end = { (uintptr_t)elsewhere + 4096 };

	if (log) {
		unsigned page = rng_below(&actor->rng, rng_one_in(&actor->rng, 4) ? AREA_PAGES : HOT_PAGES);

		start.v = (uintptr_t)storm->area[rng_one_in(&actor->rng, 4) ? AREA_SWAP : AREA_LOG] + (page << 12);
		end.v = start.v + 4096;
	}
	vmmu_invalidate_begin(storm->vm, start, end);
	if (rng_one_in(&actor->rng, 8))
		usleep(rng_below(&actor->rng, 50));
	vmmu_invalidate_end(storm->vm, start, end);
	atomic_count(&storm->invalidations);
	usleep(rng_below(&actor->rng, 200));
}

/* Zap the pages that are written most, all the time. */
void actor_hammer(struct actor *actor)
{
	struct storm *storm = actor->storm;
	struct vmmu_hva start = { (uintptr_t)storm->area[AREA_LOG] }, end = { start.v + HOT_PAGES * 4096 };

	vmmu_invalidate_begin(storm->vm, start, end);
	vmmu_invalidate_end(storm->vm, start, end);
	atomic_count(&storm->invalidations);
	usleep(rng_below(&actor->rng, 60));
}

/* --- slots --- */

static void backing_fill(struct storm *storm, unsigned backing, uint64_t value)
{
	for (unsigned page = 0; page < AREA_PAGES; page++)
		for (unsigned word = 0; word < VCPUS; word++)
			*page_word(storm->area[AREA_SWAP + backing], page, word) = value;
}

static void backing_check(struct storm *storm, unsigned backing)
{
	for (unsigned page = 0; page < AREA_PAGES; page++)
		for (unsigned word = 0; word < VCPUS; word++)
			if (*page_word(storm->area[AREA_SWAP + backing], page, word) != POISON)
				storm_fail(storm, "page %u of a deleted slot was written (I3.1)", page);
}

static void gone_for_a_while(struct actor *actor)
{
	struct storm *storm = actor->storm;

	atomic_set(&storm->down, ++storm->changes);
	if (rng_one_in(&actor->rng, 2))
		usleep(rng_below(&actor->rng, 300));
	atomic_set(&storm->down, 0);
}

static void swap_backing(struct actor *actor)
{
	struct storm *storm = actor->storm;

	atomic_count(&storm->phase);
	region_set(storm, SLOT_SWAP, GPA_SWAP, 0, storm->area[AREA_SWAP + storm->backing], 0);
	backing_fill(storm, storm->backing, POISON);
	gone_for_a_while(actor);
	backing_check(storm, storm->backing);
	storm->backing ^= 1;
	backing_fill(storm, storm->backing, VALID);
	atomic_count(&storm->phase);
	region_set(storm, SLOT_SWAP, GPA_SWAP, AREA_PAGES, storm->area[AREA_SWAP + storm->backing], 0);
}

static void move_away_and_back(struct actor *actor)
{
	struct storm *storm = actor->storm;
	char *memory = storm->area[AREA_SWAP + storm->backing];

	atomic_count(&storm->phase);
	region_set(storm, SLOT_SWAP, GPA_MOVED, AREA_PAGES, memory, 0);
	gone_for_a_while(actor);
	atomic_count(&storm->phase);
	region_set(storm, SLOT_SWAP, GPA_SWAP, AREA_PAGES, memory, 0);
}

void actor_swap(struct actor *actor)
{
	struct storm *storm = actor->storm;

	atomic_set(&storm->up, 0);
	if (rng_one_in(&actor->rng, 3))
		move_away_and_back(actor);
	else
		swap_backing(actor);
	atomic_set(&storm->up, ++storm->changes);
	atomic_count(&storm->swaps);
	usleep(rng_below(&actor->rng, 500));
}

void actor_zap(struct actor *actor)
{
	struct storm *storm = actor->storm;

	region_set(storm, SLOT_DUMMY, GPA_DUMMY, 16, storm->area[AREA_SWAP], 0);
	region_set(storm, SLOT_DUMMY, GPA_DUMMY, 0, storm->area[AREA_SWAP], 0);
	usleep(rng_below(&actor->rng, 500));
}

/* --- others --- */

void actor_age(struct actor *actor)
{
	struct storm *storm = actor->storm;
	unsigned first = rng_below(&actor->rng, AREA_PAGES), pages = 1 + rng_below(&actor->rng, AREA_PAGES - first);
	uintptr_t start = (uintptr_t)storm->area[rng_below(&actor->rng, AREAS)] + ((uintptr_t)first << 12);
	struct vmmu_stats stats;

	/*
	 * Age the hot pages again and again. If aging had a separate load and store, the entry
	 * would change between them here.
	 */
	for (unsigned i = 0; i < 200 && actor->steps % 2; i++) {
		start = (uintptr_t)storm->area[AREA_INV];
		vmmu_age(storm->vm, (struct vmmu_hva){ start }, (struct vmmu_hva){ start + HOT_PAGES * 4096 }, true);
	}
	vmmu_age(storm->vm, (struct vmmu_hva){ start }, (struct vmmu_hva){ start + ((uintptr_t)pages << 12) },
	         rng_one_in(&actor->rng, 2));
	if (rng_one_in(&actor->rng, 8))
		vmmu_stats_get(storm->vm, &stats, sizeof(stats));
	sched_yield();
}

void actor_kick(struct actor *actor)
{
	vmmu_vcpu_kick(actor->storm->cpu[rng_below(&actor->rng, VCPUS)]->vcpu);
	usleep(rng_below(&actor->rng, 100));
}

void actor_room(struct actor *actor)
{
	if ((actor->storm->shadow || actor->storm->nested) &&
	    vmmu_shadow_limit_set(actor->storm->vm,
	                          rng_one_in(&actor->rng, 2) ? 0 : 12 + rng_below(&actor->rng, 60)) != VMMU_OK)
		abort();
	usleep(rng_below(&actor->rng, 2000));
}

void actor_churn(struct actor *actor)
{
	struct storm *storm = actor->storm;
	struct mcpu *cpu = calloc(1, sizeof(*cpu));
	struct vmmu_dirty_gfn *ring = storm->plan->ring ? calloc(RING, sizeof(*ring)) : NULL;
	struct vmmu_vcpu *vcpu;
	uint64_t value;

	if (vmmu_vcpu_create(storm->vm, VCPUS + actor->index, NULL, &vcpu) != VMMU_OK)
		storm_fail(storm, "no vCPU");
	if (ring)
		vmmu_vcpu_dirty_ring_set(vcpu, ring);
	vcpu_boot(storm, cpu, vcpu, actor->index);
	vcpu_level_draw(storm, cpu, &actor->rng);
	for (unsigned i = 0; i < 20; i++) {
		unsigned page = rng_below(&actor->rng, AREA_PAGES);
		enum mcpu_result result = mcpu_read(cpu, GPA_INV + ((uint64_t)page << 12), &value);

		if (result == MCPU_OK)
			value_check(actor, value, "INV", page);
	}
	mcpu_leave(cpu);
	vmmu_vcpu_destroy(vcpu);
	free(ring);
	free(cpu);
}

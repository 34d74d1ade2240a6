/* SPDX-License-Identifier: MIT */
/*
 * Readers under SRCU, and invalidations in the gate, look slots up while slots change. The host poisons memory that
 * is freed, and the sanitizers report a use of it. What is read must make sense: every slot's host memory is a
 * function of its number and place.
 */
#include "test/unit/threads.h"

#include "core/memslot/dirty.h"
#include "core/memslot/set.h"
#include "test/unit/test_vm.h"

#define IDS     12
#define PAGES   8   /* of a slot */
#define READERS 3

/* Slot `id` has a host range of its own, and moves among three guest places of its own. */
static struct vmmu_region region_of(unsigned as_id, unsigned id, unsigned place, uint32_t flags)
{
	return test_region(as_id, id, (id * 3 + place) * PAGES, PAGES, 1000 + (as_id * IDS + id) * PAGES, flags);
}

static void slot_makes_sense(const struct memslot *slot)
{
	struct vmmu_region r = region_of(slot->as_id, slot->id, 0, 0);
	uint64_t place = (slot->base.v - (r.gpa.v >> PAGE_SHIFT)) / PAGES;

	CHECK(slot->npages == PAGES && slot->id < IDS && place < 3);
	CHECK(slot->hva.v == r.hva.v);
	CHECK(slot->as_id < 2);
}

struct storm {
	struct test_vm *test;
	struct vm *vm;
	uint32_t done;
	unsigned next_reader;                  /* atomic */
	uint64_t lookups, found;               /* atomic */
	const struct memslot *using[READERS];  /* atomic: the valid slot that a reader works with now */
};

static struct storm *storm_of; /* for the hook, which has no argument of its own */

/* I3.1 rests on this: when the zap begins, no reader uses the slot as a valid one, and none will. */
static void no_reader_has_old(struct test_vm *test, const struct test_event *event)
{
	(void)test;
	if (event->kind == EVENT_ZAP || (event->kind == EVENT_COMMITTED && event->old))
		for (unsigned i = 0; i < READERS; i++)
			CHECK(load_seqcst(&storm_of->using[i]) != event->old);
}

static bool span_makes_sense(void *arg, const struct memslot_span *span)
{
	unsigned *count = arg;

	slot_makes_sense(span->slot);
	CHECK(memslot_contains(span->slot, span->first) && memslot_contains(span->slot, span->last));
	(*count)++;
	return false;
}

/* All lookups that a reader can make, in one set, which must not change meanwhile. */
static void look_around(struct storm *s, const struct memslots *set, struct memslot_cache *cache, struct rng *rng)
{
	gfn_t gfn = GFN(rng_below(rng, IDS * 3 * PAGES));
	const struct memslot *slot = memslot_find(set, gfn);
	unsigned id = rng_below(rng, IDS), spans[2] = { 0, 0 };
	struct vmmu_region r;

	add_relaxed(&s->lookups, 1);
	if (slot) {
		add_relaxed(&s->found, 1);
		slot_makes_sense(slot);
		CHECK(memslot_contains(slot, gfn) && memslot_find_id(set, slot->id) == slot);
	}
	CHECK(memslot_find(set, gfn) == slot);
	if (cache)
		CHECK(memslot_find_cached(cache, set, gfn) == slot);
	slot = memslot_find_id(set, id);
	r = region_of(slot ? slot->as_id : 0, id, 0, 0);
	for (int i = 0; i < 2; i++) {
		memslots_for_each_hva(set, r.hva, HVA(r.hva.v + r.bytes), span_makes_sense, &spans[i]);
		if (rng_below(rng, 16) == 0)
			port_yield();
	}
	CHECK(spans[0] == spans[1]);
	CHECK(memslot_find_id(set, id) == slot);
	CHECK(!slot || spans[0] == 1);
}

/* Use a slot as a fault does: the use ends before the read section does. */
static void work_with_slot(struct storm *s, const struct memslots *set, unsigned reader, struct rng *rng)
{
	const struct memslot *slot = memslot_find_id(set, rng_below(rng, IDS));

	if (!slot || slot->flags & SLOT_INVALID)
		return;
	store_seqcst(&s->using[reader], slot);
	if (rng_below(rng, 8) == 0)
		port_yield();
	dirty_mark(s->vm, slot, slot->base, NULL);
	slot_makes_sense(slot);
	store_seqcst(&s->using[reader], NULL);
}

static void *reader(void *arg)
{
	struct storm *s = arg;
	unsigned number = add_relaxed(&s->next_reader, 1);
	struct memslot_cache caches[2] = { { 0 } };
	struct rng rng = rng_make(number);

	while (!load_relaxed(&s->done)) {
		struct srcu_read token = srcu_read_lock(&s->vm->srcu, number);
		unsigned as_id = rng_below(&rng, 2);
		const struct memslots *set = memslots_active(s->vm, as_id, token);

		for (uint64_t looks = 1 + rng_below(&rng, 3); looks; looks--)
			look_around(s, set, &caches[as_id], &rng);
		work_with_slot(s, set, number, &rng);
		srcu_read_unlock(&s->vm->srcu, token);
	}
	return NULL;
}

/* An invalidation is in no read section: only the gate keeps its set. */
static void *invalidator(void *arg)
{
	struct storm *s = arg;
	struct rng rng = rng_make(99);

	while (!load_relaxed(&s->done)) {
		const struct memslots *begin[2];

		gate_enter(&s->vm->slots->gate);
		for (unsigned as_id = 0; as_id < 2; as_id++) {
			begin[as_id] = memslots_current(s->vm, as_id);
			look_around(s, begin[as_id], NULL, &rng);
		}
		for (unsigned as_id = 0; as_id < 2; as_id++)
			CHECK(memslots_current(s->vm, as_id) == begin[as_id]); /* I5.2 */
		gate_leave(&s->vm->slots->gate);
		sleep_us(rng_below(&rng, 60));
	}
	return NULL;
}

static void change_something(struct storm *s, struct rng *rng)
{
	unsigned as_id = rng_below(rng, 2), id = rng_below(rng, IDS);
	const struct memslot *slot;
	struct vmmu_region r = region_of(as_id, id, rng_below(rng, 3), rng_below(rng, 2));

	mutex_lock(&s->vm->slots_lock);
	slot = memslot_find_id(memslots_current(s->vm, as_id), id);
	if (slot && rng_below(rng, 3) == 0)
		r.bytes = 0;
	CHECK(slots_change(s->vm, &r) == VMMU_OK);
	mutex_unlock(&s->vm->slots_lock);
}

static void *changer(void *arg)
{
	struct storm *s = arg;
	struct rng rng = rng_make(7 + (uintptr_t)&rng);

	while (!load_relaxed(&s->done))
		change_something(s, &rng);
	return NULL;
}

static void storm(unsigned changers, bool invalidate)
{
	struct storm s = { .test = test_vm_make(2) };
	pthread_t threads[READERS + 4];
	unsigned count = 0;

	s.vm = &s.test->vm;
	storm_of = &s;
	s.test->on_event = no_reader_has_old;
	for (unsigned i = 0; i < READERS; i++)
		threads[count++] = thread_start(reader, &s);
	for (unsigned i = 0; i < changers; i++)
		threads[count++] = thread_start(changer, &s);
	if (invalidate)
		threads[count++] = thread_start(invalidator, &s);
	STORM_RUN(500000, load_relaxed(&s.vm->stats.slot_changes) > 5 && load_relaxed(&s.found) > 0 &&
	                  load_relaxed(&s.found) < load_relaxed(&s.lookups));
	store_relaxed(&s.done, 1);
	for (unsigned i = 0; i < count; i++)
		thread_join(threads[i]);
	test_vm_audit(s.test);
	assert_true(s.vm->stats.slot_changes > 5);
	assert_true(s.found > 0 && s.found < s.lookups);
	test_vm_free(s.test);
}

static void test_storm_readers_against_changes(void **state)
{
	(void)state;
	storm(1, false);
}

static void test_storm_readers_and_invalidations_against_changers(void **state)
{
	(void)state;
	storm(2, true);
}

/* --- P1's locks: a reader inside SRCU may take slots_arch_lock without stopping a change for good (I1.4) --- */

struct arch_test {
	struct test_vm *test;
	uint32_t entered, got;
};

/*
 * As a vCPU that makes the first shadow root at that moment: in a read section, between publication and grace period.
 */
static void *arch_locker(void *arg)
{
	struct arch_test *t = arg;
	struct vm *vm = &t->test->vm;
	struct srcu_read token = srcu_read_lock(&vm->srcu, 5);

	store_release(&t->entered, 1);
	while (!(memslots_generation(memslots_active(vm, 0, token)) & GENERATION_IN_PROGRESS))
		port_yield();
	mutex_lock(&vm->slots_arch_lock);
	mutex_unlock(&vm->slots_arch_lock);
	store_release(&t->got, 1);
	srcu_read_unlock(&vm->srcu, token);
	return NULL;
}

static void test_change_does_not_hold_arch_lock_across_grace_period(void **state)
{
	const struct vmmu_region changes[] = {
		test_region(0, 0, 0, 10, 0, 0),                   /* create */
		test_region(0, 0, 0, 10, 0, VMMU_SLOT_LOG_DIRTY), /* flags */
		test_region(0, 0, 5, 10, 0, VMMU_SLOT_LOG_DIRTY), /* move */
		test_region(0, 0, 0, 0, 0, 0),                    /* delete */
	};
	struct arch_test t = { .test = test_vm_make(1) };

	(void)state;
	t.test->arch_lock_is_busy = true;
	for (unsigned i = 0; i < array_size(changes); i++) {
		pthread_t thread;

		t.entered = t.got = 0;
		thread = thread_start(arch_locker, &t);
		assert_true(word_becomes(&t.entered, 1));
		assert_int_equal(test_vm_set(t.test, &changes[i]), VMMU_OK);
		/* The change waited for the reader. The reader did not wait for the change. */
		assert_int_equal(load_acquire(&t.got), 1);
		thread_join(thread);
	}
	test_vm_audit(t.test);
	test_vm_free(t.test);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_storm_readers_against_changes),
		cmocka_unit_test(test_storm_readers_and_invalidations_against_changers),
		cmocka_unit_test(test_change_does_not_hold_arch_lock_across_grace_period),
	};

	return cmocka_run_group_tests(tests, watchdog_setup, NULL);
}

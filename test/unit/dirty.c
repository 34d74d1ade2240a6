/* SPDX-License-Identifier: MIT */
/*
 * The dirty bitmap and the dirty ring by themselves (P11): no mark is lost, and nothing the program writes is
 * trusted.
 */
#include "test/unit/threads.h"

#include "core/memslot/dirty.h"
#include "test/unit/test_vm.h"

#define PAGES 200

static struct memslot *logged_slot(struct test_vm *test, uint64_t npages)
{
	struct vmmu_region region = test_region(0, 2, 1000, npages, 50, VMMU_SLOT_LOG_DIRTY);

	CHECK(test_vm_set(test, &region) == VMMU_OK);
	return memslot_find_id(memslots_current(&test->vm, 0), 2);
}

/* --- bitmap --- */

static void test_bitmap_mark_sets_exactly_one_bit(void **state)
{
	struct test_vm *test = test_vm_make(1);
	struct memslot *slot = logged_slot(test, PAGES);

	(void)state;
	for (uint64_t page = 0; page < PAGES; page++) {
		assert_false(dirty_mark(&test->vm, slot, GFN(1000 + page), NULL));
		assert_false(dirty_mark(&test->vm, slot, GFN(1000 + page), NULL));
		for (uint64_t word = 0; word < dirty_words(slot); word++)
			assert_int_equal(dirty_take(slot, word, ~UINT64_C(0)), word == page / 64 ? BIT(page % 64) : 0);
	}
	assert_int_equal(test->vm.stats.dirty, PAGES); /* each page counts once, when it becomes dirty */
	test_vm_free(test);
}

static void test_bitmap_take_clears_only_what_was_asked_for(void **state)
{
	struct test_vm *test = test_vm_make(1);
	struct memslot *slot = logged_slot(test, PAGES);

	(void)state;
	for (uint64_t page = 64; page < 128; page += 2)
		dirty_mark(&test->vm, slot, GFN(1000 + page), NULL);
	assert_int_equal(dirty_take(slot, 1, 0xf), 0x5);
	assert_int_equal(dirty_take(slot, 1, 0xf), 0);
	assert_int_equal(slot->dirty[1], UINT64_C(0x5555555555555550));
	assert_int_equal(dirty_take(slot, 1, ~UINT64_C(0xf)), UINT64_C(0x5555555555555550));
	assert_int_equal(slot->dirty[1], 0);
	test_vm_free(test);
}

static void test_mark_of_a_slot_without_log_has_no_effect(void **state)
{
	struct test_vm *test = test_vm_make(1);
	struct vmmu_region region = test_region(0, 0, 0, 10, 50, 0);
	struct vmmu_dirty_gfn entries[128] = { { 0 } };
	struct dirty_ring ring;

	(void)state;
	assert_int_equal(test_vm_set(test, &region), VMMU_OK);
	assert_false(dirty_mark(&test->vm, memslot_find_id(memslots_current(&test->vm, 0), 0), GFN(3), NULL));
	test->vm.slots->ring_entries = 128;
	dirty_ring_init(&ring, entries, 128);
	assert_false(dirty_mark(&test->vm, memslot_find_id(memslots_current(&test->vm, 0), 0), GFN(3), &ring));
	assert_int_equal(ring.next, 0);
	assert_int_equal(entries[0].flags, 0);
	assert_int_equal(test->vm.stats.dirty, 0);
	test_vm_free(test);
}

/*
 * Writers change pages and mark them; another thread takes the marks and copies those pages, as a migration does.
 * After one last take at the end, the copy must be equal. No table is involved, as for the hypervisor's own writes:
 * only the mark itself orders the store before the mark.
 */
#define WRITERS 3

struct migration {
	struct test_vm *test;
	struct memslot *slot;
	uint64_t memory[PAGES], copy[PAGES]; /* memory: atomic, relaxed */
	uint32_t done;
	uint64_t seed;
};

static void *migration_writer(void *arg)
{
	struct migration *m = arg;
	struct rng rng = rng_make(add_relaxed(&m->seed, 1));

	while (!load_relaxed(&m->done)) {
		uint64_t page = rng_below(&rng, 8) ? rng_below(&rng, 3) : rng_below(&rng, PAGES);

		store_relaxed(&m->memory[page], rng_next(&rng));
		dirty_mark(&m->test->vm, m->slot, GFN(1000 + page), NULL);
	}
	return NULL;
}

static void migration_round(struct migration *m)
{
	for (uint64_t word = 0; word < dirty_words(m->slot); word++)
		for (uint64_t bits = dirty_take(m->slot, word, ~UINT64_C(0)); bits; bits &= bits - 1) {
			uint64_t page = word * 64 + __builtin_ctzll(bits);

			m->copy[page] = load_relaxed(&m->memory[page]);
		}
}

static void test_storm_copy_by_bitmap_ends_equal(void **state)
{
	(void)state;
	for (int round = 0; round < 60; round++) {
		struct migration m = { .test = test_vm_make(1), .seed = round * 10 };
		pthread_t threads[WRITERS];

		m.slot = logged_slot(m.test, PAGES);
		for (unsigned i = 0; i < WRITERS; i++)
			threads[i] = thread_start(migration_writer, &m);
		for (long end = now_ms() + 5; now_ms() < end;)
			migration_round(&m);
		store_relaxed(&m.done, 1);
		for (unsigned i = 0; i < WRITERS; i++)
			thread_join(threads[i]);
		migration_round(&m);
		assert_memory_equal(m.copy, m.memory, sizeof(m.copy));
		test_vm_free(m.test);
	}
}

/*
 * Why dirty_mark sets the bit without looking at it first. A page is marked already; one CPU writes it while another
 * takes the mark. Afterwards the copy must be new, or the page marked. The failure needs a store buffer: a real CPU
 * shows it, but not every time.
 */
struct litmus {
	struct test_vm *test;
	struct memslot *slot;
	cacheline uint64_t memory;
	cacheline uint32_t started, finished;
};

static void wait_for(const uint32_t *word, uint32_t round)
{
	for (unsigned spins = 1; load_acquire(word) != round; spins++)
		if (spins % 4096 == 0)
			port_yield();
}

static void *litmus_writer(void *arg)
{
	struct litmus *l = arg;

	for (uint32_t round = 1; round; round++) {
		wait_for(&l->started, round);
		if (load_relaxed(&l->memory) == UINT64_MAX)
			return NULL;
		store_relaxed(&l->memory, round);
		dirty_mark(&l->test->vm, l->slot, l->slot->base, NULL);
		store_release(&l->finished, round);
	}
	return NULL;
}

static void test_litmus_write_of_a_marked_page_against_its_take(void **state)
{
	struct litmus l = { .test = test_vm_make(1) };
	uint64_t copy = 0;
	uint32_t round = 0;
	pthread_t thread;

	(void)state;
	l.slot = logged_slot(l.test, PAGES);
	thread = thread_start(litmus_writer, &l);
	for (long end = now_ms() + 250; now_ms() < end;) {
		for (int i = 0; i < 1000; i++) {
			dirty_mark(&l.test->vm, l.slot, l.slot->base, NULL);
			store_release(&l.started, ++round);
			for (unsigned pause = round % 61; pause; pause--)
				fence_acquire();
			if (dirty_take(l.slot, 0, 1))
				copy = load_relaxed(&l.memory);
			wait_for(&l.finished, round);
			if (!(l.slot->dirty[0] & 1))
				CHECK(copy == round);
		}
	}
	l.memory = UINT64_MAX;
	store_release(&l.started, round + 1);
	thread_join(thread);
	test_vm_free(l.test);
}

/* --- ring --- */

#define SIZE 128u

struct ring_fixture {
	struct test_vm *test;
	struct memslot *slot;
	struct vmmu_dirty_gfn entries[SIZE];
	struct dirty_ring ring;
};

/* `start`: the first value of the free-running counters. */
static void ring_make(struct ring_fixture *f, uint32_t start)
{
	*f = (struct ring_fixture){ .test = test_vm_make(1) };
	f->test->vm.slots->ring_entries = SIZE;
	f->slot = logged_slot(f->test, 1u << 20);
	dirty_ring_init(&f->ring, f->entries, SIZE);
	f->ring.next = f->ring.reset = start;
}

static bool push(struct ring_fixture *f, uint64_t page)
{
	return dirty_mark(&f->test->vm, f->slot, GFN(1000 + page), &f->ring);
}

static void test_ring_asks_for_an_exit_before_it_is_full(void **state)
{
	static const uint32_t starts[] = { 0, 5, UINT32_MAX - 3, UINT32_MAX - SIZE + 1 };

	(void)state;
	for (unsigned s = 0; s < array_size(starts); s++) {
		struct dirty_claim claim;
		struct ring_fixture f;

		ring_make(&f, starts[s]);
		for (uint32_t i = 1; i <= SIZE; i++) {
			assert_int_equal(push(&f, i * 3), SIZE - i <= VMMU_DIRTY_RING_RESERVED);
			assert_int_equal(dirty_ring_nearly_full(&f.ring), SIZE - i <= VMMU_DIRTY_RING_RESERVED);
		}
		assert_false(vm_is_dead(&f.test->vm));
		/* After all entries were harvested and taken back, in order, the ring is empty. */
		assert_false(dirty_ring_take_back(&f.ring, &claim));
		for (uint32_t i = 0; i < SIZE; i++) {
			struct vmmu_dirty_gfn *entry = &f.entries[(starts[s] + i) % SIZE];

			assert_int_equal(entry->flags, VMMU_DIRTY_GFN_DIRTY);
			assert_int_equal(entry->slot, 2);
			assert_int_equal(entry->offset, (i + 1) * 3);
			entry->flags = VMMU_DIRTY_GFN_RESET;
		}
		for (uint32_t i = 0; i < SIZE; i++) {
			assert_true(dirty_ring_take_back(&f.ring, &claim));
			assert_int_equal(claim.slot, 2);
			assert_int_equal(claim.offset, (i + 1) * 3);
			assert_int_equal(f.entries[(starts[s] + i) % SIZE].flags, 0);
		}
		assert_false(dirty_ring_take_back(&f.ring, &claim));
		assert_false(dirty_ring_nearly_full(&f.ring));
		test_vm_free(f.test);
	}
}

static void test_ring_takes_back_in_order_and_stops_at_the_first_gap(void **state)
{
	struct dirty_claim claim;
	struct ring_fixture f;

	(void)state;
	ring_make(&f, 0);
	for (int i = 0; i < 6; i++)
		push(&f, i);
	f.entries[0].flags = VMMU_DIRTY_GFN_DIRTY | VMMU_DIRTY_GFN_RESET; /* some programs leave DIRTY set */
	f.entries[1].flags = VMMU_DIRTY_GFN_RESET;
	f.entries[3].flags = VMMU_DIRTY_GFN_RESET;
	assert_true(dirty_ring_take_back(&f.ring, &claim));
	assert_true(dirty_ring_take_back(&f.ring, &claim));
	assert_int_equal(claim.offset, 1);
	assert_false(dirty_ring_take_back(&f.ring, &claim));
	f.entries[2].flags = VMMU_DIRTY_GFN_RESET;
	assert_true(dirty_ring_take_back(&f.ring, &claim));
	assert_true(dirty_ring_take_back(&f.ring, &claim));
	assert_int_equal(claim.offset, 3);
	assert_false(dirty_ring_take_back(&f.ring, &claim));
	test_vm_free(f.test);
}

/* Zoo 20: the program sets RESET in every entry, again and again. Only entries that were filled are taken back. */
static void test_ring_forged_reset_never_runs_past_the_writer(void **state)
{
	struct dirty_claim claim;
	struct ring_fixture f;
	unsigned taken = 0;

	(void)state;
	ring_make(&f, UINT32_MAX - 1);
	for (int i = 0; i < 5; i++)
		push(&f, i);
	for (int i = 0; i < 1000; i++) {
		for (unsigned j = 0; j < SIZE; j++)
			f.entries[j] = (struct vmmu_dirty_gfn){ VMMU_DIRTY_GFN_RESET | ~3u, ~0u, ~UINT64_C(0) };
		taken += dirty_ring_take_back(&f.ring, &claim);
	}
	assert_int_equal(taken, 5);
	assert_int_equal(f.ring.reset, f.ring.next);
	/* The writer goes on as if nothing had happened. */
	assert_false(push(&f, 77));
	assert_int_equal(f.entries[(f.ring.next - 1) % SIZE].offset, 77);
	assert_int_equal(f.entries[(f.ring.next - 1) % SIZE].flags, VMMU_DIRTY_GFN_DIRTY);
	test_vm_free(f.test);
}

static void test_ring_that_overflows_kills_the_vm_and_writes_nothing(void **state)
{
	struct vmmu_dirty_gfn before[SIZE];
	struct ring_fixture f;

	(void)state;
	ring_make(&f, 9);
	for (unsigned i = 0; i < SIZE; i++)
		push(&f, i);
	memcpy(before, f.entries, sizeof(before));
	assert_true(push(&f, 999)); /* prints a report on stderr */
	assert_true(vm_is_dead(&f.test->vm));
	assert_memory_equal(before, f.entries, sizeof(before));
	f.test->vm.dead = 0;
	test_vm_free(f.test);
}

static void test_ring_never_set_counts_as_full(void **state)
{
	struct ring_fixture f;

	(void)state;
	ring_make(&f, 0);
	dirty_ring_init(&f.ring, NULL, SIZE);
	assert_true(dirty_ring_nearly_full(&f.ring));
	assert_true(push(&f, 1));
	assert_false(vm_is_dead(&f.test->vm));
	dirty_ring_init(&f.ring, NULL, 0);
	assert_false(dirty_ring_nearly_full(&f.ring)); /* a VM without rings */
	test_vm_free(f.test);
}

/* --- a vCPU that writes, and a program that harvests and takes back --- */

struct ring_storm {
	struct ring_fixture f;
	uint32_t done;
	uint64_t pushed;           /* atomic */
	uint64_t harvested, taken; /* each is written by one thread, and read after that thread has ended */
};

static void *storm_vcpu(void *arg)
{
	struct ring_storm *s = arg;

	while (!load_relaxed(&s->done))
		if (!dirty_ring_nearly_full(&s->f.ring))
			push(&s->f, add_relaxed(&s->pushed, 1) % (1u << 20));
		else
			port_yield();
	return NULL;
}

/* The program must see each entry complete, and in order: entry n holds page n. */
static bool harvest_one(struct ring_storm *s)
{
	struct vmmu_dirty_gfn *entry = &s->f.entries[s->harvested % SIZE];

	if (!(load_acquire(&entry->flags) & VMMU_DIRTY_GFN_DIRTY))
		return false;
	CHECK(load_relaxed(&entry->slot) == 2);
	CHECK(load_relaxed(&entry->offset) == s->harvested % (1u << 20));
	store_release(&entry->flags, VMMU_DIRTY_GFN_RESET);
	s->harvested++;
	return true;
}

/* The program stays close behind the writer, so that it looks at entries while they are being written. */
static void *storm_program(void *arg)
{
	struct ring_storm *s = arg;

	for (unsigned misses = 0; !load_relaxed(&s->done);) {
		struct dirty_claim claim;

		misses = harvest_one(s) ? 0 : misses + 1;
		if (misses % 2048 == 2047)
			port_yield();
		if (s->harvested % 16 || misses)
			continue;
		while (dirty_ring_take_back(&s->f.ring, &claim))
			CHECK(claim.slot == 2 && claim.offset == s->taken++ % (1u << 20));
	}
	return NULL;
}

static void test_storm_ring_delivers_every_page_once_and_in_order(void **state)
{
	static struct ring_storm s;
	pthread_t threads[2];

	(void)state;
	ring_make(&s.f, 0u - SIZE * 4);
	threads[0] = thread_start(storm_vcpu, &s);
	threads[1] = thread_start(storm_program, &s);
	STORM_RUN(400000, load_relaxed(&s.pushed) > SIZE);
	store_relaxed(&s.done, 1);
	for (unsigned i = 0; i < 2; i++)
		thread_join(threads[i]);
	while (harvest_one(&s))
		;
	assert_int_equal(s.harvested, s.pushed);
	assert_true(s.pushed > SIZE);
	assert_false(vm_is_dead(&s.f.test->vm));
	test_vm_free(s.f.test);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bitmap_mark_sets_exactly_one_bit),
		cmocka_unit_test(test_bitmap_take_clears_only_what_was_asked_for),
		cmocka_unit_test(test_mark_of_a_slot_without_log_has_no_effect),
		cmocka_unit_test(test_storm_copy_by_bitmap_ends_equal),
		cmocka_unit_test(test_litmus_write_of_a_marked_page_against_its_take),
		cmocka_unit_test(test_ring_asks_for_an_exit_before_it_is_full),
		cmocka_unit_test(test_ring_takes_back_in_order_and_stops_at_the_first_gap),
		cmocka_unit_test(test_ring_forged_reset_never_runs_past_the_writer),
		cmocka_unit_test(test_ring_that_overflows_kills_the_vm_and_writes_nothing),
		cmocka_unit_test(test_ring_never_set_counts_as_full),
		cmocka_unit_test(test_storm_ring_delivers_every_page_once_and_in_order),
	};

	return cmocka_run_group_tests(tests, watchdog_setup, NULL);
}

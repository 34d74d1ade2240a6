/* SPDX-License-Identifier: MIT */
/*
 * A migration copies the pages that the log names while the guest goes on writing, on real tables and with model CPUs
 * that cache translations (P11). When the guest has stopped, one last round must make the copy equal.
 */
#include "test/unit/dirty_fixture.h"

#include "port/contract/port.h"

struct writer {
	struct fixture *f;
	unsigned cpu;
};

static void *writer_thread(void *arg)
{
	const struct writer *writer = arg;
	struct fixture *f = writer->f;
	struct rng rng = rng_make(writer->cpu);

	while (!load_relaxed(&f->done)) {
		uint64_t page = rng_below(&rng, 4) ? rng_below(&rng, 5) : rng_below(&rng, PAGES);
		enum mcpu_result result = mcpu_write(&f->cpu[writer->cpu], (BASE + page) * 4096, rng_next(&rng));

		CHECK(result == MCPU_OK || (f->rings && result == MCPU_RING_FULL));
		if (result == MCPU_RING_FULL)
			port_yield();
	}
	mcpu_leave(&f->cpu[writer->cpu]);
	return NULL;
}

static void copy_page(struct fixture *f, uint64_t page)
{
	f->copy[page] = load_relaxed(word_of(f, page));
}

static void copy_bits(struct fixture *f, const uint64_t *bits, uint64_t first, uint64_t words)
{
	for (uint64_t word = 0; word < words; word++)
		for (uint64_t rest = bits[word]; rest; rest &= rest - 1)
			copy_page(f, first + word * 64 + __builtin_ctzll(rest));
}

static void round_legacy(struct fixture *f, struct rng *rng)
{
	(void)rng;
	CHECK(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS) == VMMU_OK);
	copy_bits(f, f->bitmap, 0, WORDS);
}

/* Get the whole log, clear it in pieces, and copy the pages of each piece after its clear. */
static void round_manual(struct fixture *f, struct rng *rng)
{
	CHECK(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS) == VMMU_OK);
	for (uint64_t word = 0; word < WORDS;) {
		uint64_t words = 1 + rng_below(rng, WORDS - word), npages = words * 64;

		if (npages > PAGES - word * 64)
			npages = PAGES - word * 64;
		CHECK(vmmu_dirty_clear(f->vm, 0, SLOT, word * 64, npages, &f->bitmap[word]) == VMMU_OK);
		copy_bits(f, &f->bitmap[word], word * 64, words);
		word += words;
	}
}

static void round_ring(struct fixture *f, struct rng *rng)
{
	uint64_t pages[VCPUS * RING_SIZE];
	unsigned count = 0;

	(void)rng;
	for (unsigned cpu = 0; cpu < VCPUS; cpu++)
		count += harvest(f, cpu, pages + count, RING_SIZE);
	CHECK(vmmu_dirty_ring_reset(f->vm, &(uint64_t){ 0 }) == VMMU_OK);
	for (unsigned i = 0; i < count; i++)
		copy_page(f, pages[i]);
}

static void migration(unsigned mode, bool rings, bool start_late, void (*round)(struct fixture *f, struct rng *rng))
{
	struct fixture *f = fixture_make(mode, rings, VMMU_FORMAT_NPT4);
	struct rng rng = rng_make(mode + rings);
	struct writer writers[VCPUS];
	pthread_t threads[VCPUS];

	if (!start_late)
		region_set(f, LOG, PAGES);
	for (unsigned i = 0; i < VCPUS; i++) {
		writers[i] = (struct writer){ f, i };
		threads[i] = thread_start(writer_thread, &writers[i]);
	}
	for (unsigned part = 0; part < 3; part++) {
		if (start_late) {
			/* Logging starts while the guest runs on huge leaves. Then everything is copied once. */
			sleep_us(3000);
			region_set(f, LOG, PAGES);
			for (uint64_t page = 0; page < PAGES; page++)
				copy_page(f, page);
		}
		for (long end = now_ms() + 50; now_ms() < end;)
			round(f, &rng);
		if (start_late && part < 2)
			region_set(f, 0, PAGES);
	}
	store_relaxed(&f->done, 1);
	for (unsigned i = 0; i < VCPUS; i++)
		thread_join(threads[i]);
	round(f, &rng);
	for (uint64_t page = 0; page < PAGES; page++)
		assert_int_equal(f->copy[page], *word_of(f, page));
	fixture_free(f);
}

static void test_migration_by_bitmap(void **state)
{
	(void)state;
	migration(0, false, false, round_legacy);
	migration(0, false, true, round_legacy);
}

static void test_migration_by_manual_clear(void **state)
{
	(void)state;
	migration(MANUAL, false, false, round_manual);
	migration(MANUAL, false, true, round_manual);
}

static void test_migration_by_manual_clear_initially_set(void **state)
{
	(void)state;
	migration(MANUAL | INITIALLY, false, true, round_manual);
}

static void test_migration_by_ring(void **state)
{
	(void)state;
	migration(0, true, false, round_ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_migration_by_bitmap),
		cmocka_unit_test(test_migration_by_manual_clear),
		cmocka_unit_test(test_migration_by_manual_clear_initially_set),
		cmocka_unit_test(test_migration_by_ring),
	};

	return cmocka_run_group_tests(tests, watchdog_setup, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * The dirty bitmap as a user sees it, step by step, on real tables and with model CPUs that cache translations (P11).
 */
#include "test/unit/dirty_fixture.h"

#include <sys/mman.h>

#include "core/base/types.h"

/* The log names exactly these pages (the list ends with PAGES). */
static void log_is(struct fixture *f, const uint64_t *pages)
{
	uint64_t expected[WORDS] = { 0 };

	for (; *pages < PAGES; pages++)
		expected[*pages / 64] |= UINT64_C(1) << *pages % 64;
	memset(f->bitmap, 0xa5, sizeof(f->bitmap));
	assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS), VMMU_OK);
	assert_memory_equal(f->bitmap, expected, sizeof(expected));
}

#define LIST(...) ((const uint64_t[]){ __VA_ARGS__, PAGES })
#define NOTHING   ((const uint64_t[]){ PAGES })

static enum vmmu_status clear(struct fixture *f, uint64_t first, uint64_t npages, uint64_t pattern)
{
	for (uint64_t i = 0; i < WORDS; i++)
		f->bitmap[i] = pattern;
	return vmmu_dirty_clear(f->vm, 0, SLOT, first, npages, f->bitmap);
}

static const enum vmmu_format formats[] = { VMMU_FORMAT_NPT4, VMMU_FORMAT_NPT5,       VMMU_FORMAT_EPT4,
	                                    VMMU_FORMAT_EPT5, VMMU_FORMAT_EPT4_NO_AD, VMMU_FORMAT_EPT5_NO_AD };

static void test_legacy_get_reports_each_write_once_and_protects_again(void **state)
{
	(void)state;
	for (unsigned i = 0; i < array_size(formats); i++) {
		struct fixture *f = fixture_make(0, false, formats[i]);

		/* A write through a huge leaf before logging starts is not logged, but the start protects the page. */
		guest_write(f, 0, 7);
		guest_write(f, 1, 600);
		region_set(f, LOG, PAGES);
		log_is(f, NOTHING);
		guest_write(f, 0, 7);
		guest_write(f, 1, 7);
		guest_write(f, 1, 64);
		guest_write(f, 1, PAGES - 1);
		guest_read(f, 0, 100);
		log_is(f, LIST(7, 64, PAGES - 1));
		log_is(f, NOTHING);
		guest_write(f, 1, 7);
		guest_write(f, 0, 8);
		log_is(f, LIST(7, 8));
		audit(f);
		/* The hypervisor's own writes are logged, too. */
		assert_int_equal(vmmu_guest_write(f->vcpu[0], (struct vmmu_gpa){ (BASE + 20) * 4096 + 4092 },
		                                  "12345678", 8),
		                 VMMU_OK);
		log_is(f, LIST(20, 21));
		region_set(f, 0, PAGES);
		guest_write(f, 0, 9);
		assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS), VMMU_ENOENT);
		fixture_free(f);
	}
}

/* If the caller's buffer is gone, all of it or its second half, no mark is lost: the next call gets the same marks. */
static void test_get_into_memory_that_is_gone_loses_no_mark(void **state)
{
	static const unsigned modes[] = { 0, MANUAL };
	/* The second page is gone. The bitmap's last words lie there, or all of it. */
	static const unsigned first_words[] = { 512 - WORDS / 2, 512 };

	(void)state;
	for (unsigned i = 0; i < array_size(modes) * array_size(first_words); i++) {
		struct fixture *f = fixture_make(modes[i % 2], false, VMMU_FORMAT_NPT4);
		uint64_t *buffer = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		assert_ptr_not_equal(buffer, MAP_FAILED);
		memory_goes(buffer + 512, 4096);
		region_set(f, LOG, PAGES);
		guest_write(f, 0, 7);
		guest_write(f, 1, 64);
		guest_write(f, 1, PAGES - 1);
		assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT, buffer + first_words[i / 2], WORDS), VMMU_EFAULT);
		audit(f);
		guest_write(f, 0, 7); /* this page is marked already */
		guest_write(f, 0, 8);
		log_is(f, LIST(7, 8, 64, PAGES - 1));
		if (!modes[i % 2]) {
			log_is(f, NOTHING);
			guest_write(f, 1, 64);
			log_is(f, LIST(64));
		}
		assert_int_equal(munmap(buffer, 2 * 4096), 0);
		fixture_free(f);
	}
}

/*
 * If the caller's bitmap is gone, all of it or its second half, nothing is cleared, not even by the part that is
 * there.
 */
static void test_clear_by_a_bitmap_that_is_gone_clears_nothing(void **state)
{
	static const unsigned first_words[] = { 512 - WORDS / 2, 512 };
	uint64_t *buffer = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_ptr_not_equal(buffer, MAP_FAILED);
	memset(buffer, 0xff, 4096);
	memory_goes(buffer + 512, 4096);
	for (unsigned i = 0; i < array_size(first_words); i++) {
		struct fixture *f = fixture_make(MANUAL, false, VMMU_FORMAT_NPT4);

		region_set(f, LOG, PAGES);
		guest_write(f, 0, 7);
		guest_write(f, 1, PAGES - 1);
		assert_int_equal(vmmu_dirty_clear(f->vm, 0, SLOT, 0, PAGES, buffer + first_words[i]), VMMU_EFAULT);
		log_is(f, LIST(7, PAGES - 1));
		fixture_free(f);
	}
	assert_int_equal(munmap(buffer, 2 * 4096), 0);
}

static void test_manual_get_clears_nothing_and_clear_only_what_it_is_told(void **state)
{
	struct fixture *f = fixture_make(MANUAL, false, VMMU_FORMAT_NPT4);

	(void)state;
	region_set(f, LOG, PAGES);
	for (uint64_t page = 60; page < 70; page++)
		guest_write(f, 0, page);
	guest_write(f, 0, 1220);
	log_is(f, LIST(60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 1220));
	log_is(f, LIST(60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 1220));
	assert_int_equal(clear(f, 64, 64, 0x5), VMMU_OK); /* pages 64 and 66 */
	log_is(f, LIST(60, 61, 62, 63, 65, 67, 68, 69, 1220));
	guest_write(f, 0, 66);
	log_is(f, LIST(60, 61, 62, 63, 65, 66, 67, 68, 69, 1220));
	/* Up to the end of the slot, which is not a multiple of 64. */
	assert_int_equal(clear(f, 1216, PAGES - 1216, ~UINT64_C(0)), VMMU_OK);
	assert_int_equal(clear(f, 0, PAGES, 0), VMMU_OK);
	log_is(f, LIST(60, 61, 62, 63, 65, 66, 67, 68, 69));
	assert_int_equal(clear(f, 0, PAGES, ~UINT64_C(0)), VMMU_OK);
	log_is(f, NOTHING);
	guest_write(f, 1, 1220);
	guest_write(f, 1, 60);
	log_is(f, LIST(60, 1220));
	fixture_free(f);
}

static void test_initially_set_protects_only_as_pages_are_cleared(void **state)
{
	struct fixture *f = fixture_make(MANUAL | INITIALLY, false, VMMU_FORMAT_NPT4);
	uint64_t all[WORDS], splits;
	struct vmmu_stats stats;

	(void)state;
	memset(all, 0xff, sizeof(all));
	all[WORDS - 1] = (UINT64_C(1) << PAGES % 64) - 1;
	guest_write(f, 0, 5); /* mapped by huge leaves */
	guest_write(f, 0, 600);
	guest_write(f, 0, 1100);
	vmmu_stats_get(f->vm, &stats, sizeof(stats));
	assert_int_equal(stats.pages_2m, 2);
	region_set(f, LOG, PAGES);
	assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS), VMMU_OK);
	assert_memory_equal(f->bitmap, all, sizeof(all));
	vmmu_stats_get(f->vm, &stats, sizeof(stats));
	assert_int_equal(stats.pages_2m, 2);
	splits = stats.splits;
	/* Only the block with the cleared pages is split. Its other pages stay writable, and dirty. */
	assert_int_equal(clear(f, 64, 64, ~UINT64_C(0)), VMMU_OK);
	vmmu_stats_get(f->vm, &stats, sizeof(stats));
	assert_int_equal(stats.pages_2m, 1);
	assert_int_equal(stats.splits, splits + 1);
	all[1] = 0;
	guest_write(f, 0, 64 + 9);
	guest_write(f, 1, 200);
	all[1] = UINT64_C(1) << 9;
	assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS), VMMU_OK);
	assert_memory_equal(f->bitmap, all, sizeof(all));
	/* After all of it is cleared no page is writable. */
	assert_int_equal(clear(f, 0, PAGES, ~UINT64_C(0)), VMMU_OK);
	log_is(f, NOTHING);
	for (uint64_t page = 0; page < PAGES; page += 111)
		guest_write(f, page % 2, page);
	log_is(f, LIST(0, 111, 222, 333, 444, 555, 666, 777, 888, 999, 1110));
	fixture_free(f);
}

static void test_calls_with_bad_numbers_are_refused(void **state)
{
	struct fixture *f = fixture_make(0, false, VMMU_FORMAT_NPT4), *r = fixture_make(0, true, VMMU_FORMAT_NPT4);
	uint64_t count = 1;

	(void)state;
	assert_int_equal(vmmu_dirty_mode_set(f->vm, INITIALLY), VMMU_EINVAL);
	assert_int_equal(vmmu_dirty_mode_set(f->vm, 4), VMMU_EINVAL);
	assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS), VMMU_ENOENT); /* not logged */
	region_set(f, LOG, PAGES);
	assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS - 1), VMMU_EINVAL);
	assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT + 1, f->bitmap, WORDS), VMMU_ENOENT);
	assert_int_equal(vmmu_dirty_get(f->vm, 1, SLOT, f->bitmap, WORDS), VMMU_EINVAL);
	assert_int_equal(vmmu_dirty_get(f->vm, 0, VMMU_MAX_SLOTS, f->bitmap, WORDS), VMMU_EINVAL);
	assert_int_equal(vmmu_dirty_get(f->vm, 0, UINT32_MAX, f->bitmap, WORDS), VMMU_EINVAL);
	assert_int_equal(clear(f, 1, 64, 0), VMMU_EINVAL);
	assert_int_equal(clear(f, 32, 64, 0), VMMU_EINVAL);
	assert_int_equal(clear(f, 0, 63, 0), VMMU_EINVAL);
	assert_int_equal(clear(f, 0, PAGES + 1, 0), VMMU_EINVAL);
	assert_int_equal(clear(f, 1216, 64, 0), VMMU_EINVAL);
	assert_int_equal(clear(f, 1280, 0, 0), VMMU_EINVAL);
	assert_int_equal(clear(f, UINT64_MAX - 63, 64, 0), VMMU_EINVAL);
	assert_int_equal(clear(f, 64, UINT64_MAX - 63, 0), VMMU_EINVAL);
	assert_int_equal(clear(f, 1216, 5, 0), VMMU_OK);
	assert_int_equal(clear(f, 64, 0, 0), VMMU_OK);
	assert_int_equal(vmmu_dirty_ring_reset(f->vm, &count), VMMU_EINVAL);
	assert_int_equal(count, 0);
	assert_int_equal(vmmu_dirty_ring_enable(f->vm, 0), VMMU_EINVAL);
	assert_int_equal(vmmu_dirty_ring_enable(f->vm, 64), VMMU_EINVAL);
	assert_int_equal(vmmu_dirty_ring_enable(f->vm, 129), VMMU_EINVAL);
	assert_int_equal(vmmu_dirty_ring_enable(f->vm, VMMU_DIRTY_RING_MAX * 2), VMMU_EINVAL);
	assert_int_equal(vmmu_dirty_ring_enable(f->vm, 1024), VMMU_EBUSY); /* there are vCPUs */
	region_set(r, LOG, PAGES);
	assert_int_equal(vmmu_dirty_get(r->vm, 0, SLOT, r->bitmap, WORDS), VMMU_EBUSY);
	assert_int_equal(clear(r, 0, PAGES, 0), VMMU_EBUSY);
	fixture_free(f);
	fixture_free(r);
}

static bool age(struct fixture *f, uint64_t page)
{
	uint64_t at = (uintptr_t)word_of(f, page) & ~UINT64_C(4095);

	return vmmu_age(f->vm, (struct vmmu_hva){ at }, (struct vmmu_hva){ at + 4096 }, true);
}

/*
 * P11, F52: aging takes no flush. Without A bits it takes rights from the entry, and a CPU's TLB may still have them.
 */
static void test_aged_page_is_logged_whatever_a_cpu_remembers(void **state)
{
	(void)state;
	for (unsigned i = 0; i < array_size(formats); i++) {
		struct fixture *f = fixture_make(0, false, formats[i]);

		region_set(f, LOG, PAGES);
		guest_write(f, 0, 7);
		log_is(f, LIST(7));
		guest_write(f, 0, 7); /* now the page is in this CPU's TLB, writable */
		assert_true(age(f, 7));
		assert_false(age(f, 7));
		log_is(f, LIST(7)); /* takes the mark, and the write right, in the entry or laid aside */
		guest_write(f, 0, 7);
		log_is(f, LIST(7));
		fixture_free(f);
	}
}

/*
 * I2.4, P6, F52: an aged page that is read is young again, and has the rights that it had. The read makes nothing
 * dirty.
 */
static void test_aged_page_comes_back_as_it_was(void **state)
{
	(void)state;
	for (unsigned i = 0; i < array_size(formats); i++) {
		struct fixture *f = fixture_make(0, false, formats[i]);
		struct vmmu_stats before, after;

		region_set(f, LOG, PAGES);
		guest_write(f, 0, 7);
		assert_true(age(f, 7));
		guest_read(f, 1, 7); /* this CPU does not have it in its TLB */
		assert_true(age(f, 7));
		log_is(f, LIST(7));
		guest_read(f, 1, 7);
		log_is(f, NOTHING);
		assert_true(age(f, 7));
		vmmu_stats_get(f->vm, &before, sizeof(before));
		guest_write(f, 1, 7);
		vmmu_stats_get(f->vm, &after, sizeof(after));
		assert_int_equal(after.faults_fast, before.faults_fast + 1); /* one fast fault gives both rights back */
		log_is(f, LIST(7));
		fixture_free(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_legacy_get_reports_each_write_once_and_protects_again),
		cmocka_unit_test(test_aged_page_is_logged_whatever_a_cpu_remembers),
		cmocka_unit_test(test_aged_page_comes_back_as_it_was),
		cmocka_unit_test(test_get_into_memory_that_is_gone_loses_no_mark),
		cmocka_unit_test(test_clear_by_a_bitmap_that_is_gone_clears_nothing),
		cmocka_unit_test(test_manual_get_clears_nothing_and_clear_only_what_it_is_told),
		cmocka_unit_test(test_initially_set_protects_only_as_pages_are_cleared),
		cmocka_unit_test(test_calls_with_bad_numbers_are_refused),
	};

	return cmocka_run_group_tests(tests, watchdog_setup, NULL);
}

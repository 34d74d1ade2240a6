/* SPDX-License-Identifier: MIT */
/* Long-lived mappings of guest pages (P12): step by step; beside a host that moves the page and a slot that goes. */
#include "test/unit/dirty_fixture.h"

#include <sys/mman.h>
#include <vmmu/pfn_cache.h>

#include "core/base/types.h"

#define PAGE      40
#define GPA_OF(page) ((struct vmmu_gpa){ (BASE + (page)) * 4096 })
#define OFFSET    0x140

static struct vmmu_pfn_cache *cache_make(struct fixture *f)
{
	struct vmmu_pfn_cache *cache;

	assert_int_equal(vmmu_pfn_cache_create(f->vm, &cache), VMMU_OK);
	return cache;
}

static struct vmmu_pfn_cache *cache_on(struct fixture *f, uint64_t page)
{
	struct vmmu_pfn_cache *cache = cache_make(f);

	assert_int_equal(vmmu_pfn_cache_activate(cache, 0, GPA(GPA_OF(page).v + OFFSET), 64), VMMU_OK);
	assert_int_equal(vmmu_pfn_cache_refresh(cache), VMMU_OK);
	return cache;
}

static uint64_t *piece_of(struct fixture *f, uint64_t page)
{
	return (uint64_t *)(f->memory + page * 4096 + OFFSET);
}

static void write_one(struct vmmu_pfn_cache *cache, struct vmmu_vcpu *vcpu, size_t offset, uint64_t value)
{
	assert_int_equal(vmmu_pfn_cache_open(cache, vcpu), VMMU_OK);
	assert_int_equal(vmmu_pfn_cache_write(cache, offset, &value, sizeof(value)), VMMU_OK);
	vmmu_pfn_cache_close(cache);
}

static struct vmmu_hva hva_of(struct fixture *f, uint64_t page)
{
	return (struct vmmu_hva){ (uintptr_t)f->memory + page * 4096 };
}

static uint64_t log_take(struct fixture *f, uint64_t page)
{
	memset(f->bitmap, 0, sizeof(f->bitmap));
	assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS), VMMU_OK);
	return f->bitmap[page / 64] >> (page % 64) & 1;
}

static void test_cache_is_about_what_it_was_activated_for(void **state)
{
	struct fixture *f = fixture_make(0, false, VMMU_FORMAT_NPT4);
	struct vmmu_pfn_cache *cache = cache_make(f);
	uint64_t calls, got[3];

	(void)state;
	assert_int_equal(vmmu_pfn_cache_create(f->vm, NULL), VMMU_EINVAL);
	assert_int_equal(vmmu_pfn_cache_open(cache, NULL), VMMU_EINVAL);
	assert_int_equal(vmmu_pfn_cache_refresh(cache), VMMU_EINVAL);
	assert_int_equal(vmmu_pfn_cache_activate(cache, 0, GPA_OF(PAGE), 0), VMMU_EINVAL);
	assert_int_equal(vmmu_pfn_cache_activate(cache, 0, GPA_OF(PAGE), 4097), VMMU_EINVAL);
	assert_int_equal(vmmu_pfn_cache_activate(cache, 0, GPA(GPA_OF(PAGE).v + 4090), 8), VMMU_EINVAL);
	assert_int_equal(vmmu_pfn_cache_activate(cache, 1, GPA_OF(PAGE), 8), VMMU_EINVAL);
	assert_int_equal(vmmu_pfn_cache_activate(cache, 0, GPA(UINT64_MAX - 7), 8), VMMU_OK);
	assert_int_equal(vmmu_pfn_cache_refresh(cache), VMMU_ENOENT);
	assert_int_equal(vmmu_pfn_cache_activate(cache, 0, GPA(GPA_OF(PAGE).v + OFFSET), 24), VMMU_OK);
	assert_int_equal(vmmu_pfn_cache_open(cache, NULL), VMMU_EAGAIN);
	assert_false(vmmu_pfn_cache_check(cache));
	assert_int_equal(vmmu_pfn_cache_refresh(cache), VMMU_OK);
	assert_true(vmmu_pfn_cache_check(cache));
	calls = f->host.page_calls;
	piece_of(f, PAGE)[2] = 99;
	write_one(cache, NULL, 0, 5);
	write_one(cache, f->vcpu[1], 8, 6);
	assert_int_equal(vmmu_pfn_cache_open(cache, NULL), VMMU_OK);
	assert_int_equal(vmmu_pfn_cache_read(cache, 0, got, 24), VMMU_OK);
	assert_int_equal(vmmu_pfn_cache_read(cache, 8, got, 24), VMMU_EINVAL);
	assert_int_equal(vmmu_pfn_cache_write(cache, SIZE_MAX, got, 2), VMMU_EINVAL);
	assert_int_equal(vmmu_pfn_cache_write(cache, 24, got, 1), VMMU_EINVAL);
	vmmu_pfn_cache_close(cache);
	assert_int_equal(got[0], 5);
	assert_int_equal(got[1], 6);
	assert_int_equal(got[2], 99);
	assert_int_equal(piece_of(f, PAGE)[0], 5);
	assert_int_equal(vmmu_pfn_cache_refresh(cache), VMMU_OK);
	assert_int_equal(f->host.page_calls, calls); /* nobody asked the host again */
	vmmu_pfn_cache_deactivate(cache);
	assert_int_equal(vmmu_pfn_cache_open(cache, NULL), VMMU_EINVAL);
	vmmu_pfn_cache_destroy(cache);
	vmmu_pfn_cache_destroy(NULL);
	fixture_free(f);
}

static void test_swap_is_one_step_of_the_right_width(void **state)
{
	struct fixture *f = fixture_make(0, false, VMMU_FORMAT_NPT4);
	struct vmmu_pfn_cache *cache = cache_on(f, PAGE);
	bool swapped;

	(void)state;
	region_set(f, LOG, PAGES);
	assert_int_equal(vmmu_pfn_cache_refresh(cache), VMMU_OK);
	piece_of(f, PAGE)[1] = UINT64_C(0x500000007);
	assert_int_equal(vmmu_pfn_cache_open(cache, NULL), VMMU_OK);
	assert_int_equal(vmmu_pfn_cache_cas(cache, 8, 4, 8, 9, &swapped), VMMU_OK);
	assert_false(swapped);
	assert_int_equal(vmmu_pfn_cache_cas(cache, 8, 2, 7, 9, &swapped), VMMU_EINVAL);
	assert_int_equal(vmmu_pfn_cache_cas(cache, 12, 8, 7, 9, &swapped), VMMU_EINVAL);
	assert_int_equal(vmmu_pfn_cache_cas(cache, 64, 4, 7, 9, &swapped), VMMU_EINVAL);
	vmmu_pfn_cache_close(cache);
	assert_int_equal(log_take(f, PAGE), 0); /* nothing was written */
	assert_int_equal(vmmu_pfn_cache_open(cache, NULL), VMMU_OK);
	assert_int_equal(vmmu_pfn_cache_cas(cache, 8, 4, 7, 9, &swapped), VMMU_OK);
	vmmu_pfn_cache_close(cache);
	assert_true(swapped);
	assert_int_equal(piece_of(f, PAGE)[1], UINT64_C(0x500000009));
	assert_int_equal(log_take(f, PAGE), 1);
	vmmu_pfn_cache_destroy(cache);
	fixture_free(f);
}

static void test_invalidation_takes_the_page_until_its_end(void **state)
{
	struct fixture *f = fixture_make(0, false, VMMU_FORMAT_NPT4);
	struct vmmu_pfn_cache *cache = cache_on(f, PAGE);
	uint64_t calls;

	(void)state;
	vmmu_invalidate_begin(f->vm, hva_of(f, PAGE + 1), hva_of(f, PAGE + 9));
	assert_true(vmmu_pfn_cache_check(cache));
	write_one(cache, NULL, 0, 1);
	vmmu_invalidate_end(f->vm, hva_of(f, PAGE + 1), hva_of(f, PAGE + 9));
	vmmu_invalidate_begin(f->vm, HVA(hva_of(f, PAGE).v + 4095), hva_of(f, PAGE + 1));
	assert_false(vmmu_pfn_cache_check(cache));
	assert_int_equal(vmmu_pfn_cache_open(cache, NULL), VMMU_EAGAIN);
	assert_int_equal(vmmu_pfn_cache_refresh(cache), VMMU_EAGAIN);
	assert_int_equal(vmmu_pfn_cache_open(cache, NULL), VMMU_EAGAIN);
	vmmu_invalidate_end(f->vm, HVA(hva_of(f, PAGE).v + 4095), hva_of(f, PAGE + 1));
	calls = f->host.page_calls;
	assert_int_equal(vmmu_pfn_cache_refresh(cache), VMMU_OK);
	assert_int_equal(f->host.page_calls, calls + 1);
	write_one(cache, NULL, 0, 2);
	assert_int_equal(piece_of(f, PAGE)[0], 2);
	vmmu_pfn_cache_destroy(cache);
	fixture_free(f);
}

static void test_slot_changes_are_followed(void **state)
{
	struct fixture *f = fixture_make(0, false, VMMU_FORMAT_NPT4);
	struct vmmu_pfn_cache *cache = cache_on(f, PAGE);
	struct vmmu_region other = { .slot = SLOT, .gpa = { BASE * 4096 }, .bytes = PAGES * 4096 };

	(void)state;
	region_set(f, 0, 0);
	assert_int_equal(vmmu_pfn_cache_open(cache, NULL), VMMU_EAGAIN);
	assert_int_equal(vmmu_pfn_cache_refresh(cache), VMMU_ENOENT);
	/* The same guest page, one page further in the program's memory. */
	other.hva = hva_of(f, 1);
	assert_int_equal(vmmu_region_set(f->vm, &other), VMMU_OK);
	assert_int_equal(vmmu_pfn_cache_open(cache, NULL), VMMU_EAGAIN);
	assert_int_equal(vmmu_pfn_cache_refresh(cache), VMMU_OK);
	write_one(cache, NULL, 0, 3);
	assert_int_equal(piece_of(f, PAGE)[0], 0);
	assert_int_equal(piece_of(f, PAGE + 1)[0], 3);
	region_set(f, 0, 0);
	region_set(f, VMMU_SLOT_READONLY, PAGES);
	assert_int_equal(vmmu_pfn_cache_refresh(cache), VMMU_ENOENT);
	assert_int_equal(vmmu_pfn_cache_open(cache, NULL), VMMU_EAGAIN);
	vmmu_pfn_cache_destroy(cache);
	fixture_free(f);
}

static void test_written_pages_are_in_the_bitmap(void **state)
{
	static const enum vmmu_mmu mmus[] = { VMMU_MMU_TDP, VMMU_MMU_SHADOW };

	(void)state;
	for (unsigned i = 0; i < array_size(mmus); i++) {
		struct fixture *f = fixture_make_on(mmus[i], 0, false, VMMU_FORMAT_NPT4);
		struct vmmu_pfn_cache *cache = cache_on(f, PAGE);
		uint64_t word;

		region_set(f, LOG, PAGES);
		assert_int_equal(vmmu_pfn_cache_open(cache, NULL), VMMU_EAGAIN); /* it would not know of the log */
		assert_int_equal(vmmu_pfn_cache_refresh(cache), VMMU_OK);
		assert_int_equal(vmmu_pfn_cache_open(cache, NULL), VMMU_OK);
		assert_int_equal(vmmu_pfn_cache_read(cache, 0, &word, 8), VMMU_OK);
		vmmu_pfn_cache_close(cache);
		assert_int_equal(log_take(f, PAGE), 0);
		write_one(cache, NULL, 0, 3);
		assert_int_equal(log_take(f, PAGE), 1);
		write_one(cache, f->vcpu[0], 56, 4);
		assert_int_equal(log_take(f, PAGE), 1);
		assert_int_equal(log_take(f, PAGE), 0);
		vmmu_pfn_cache_destroy(cache);
		fixture_free(f);
	}
}

static void test_written_pages_are_in_the_ring_of_the_vcpu(void **state)
{
	struct fixture *f = fixture_make(0, true, VMMU_FORMAT_NPT4);
	struct vmmu_pfn_cache *cache;
	uint64_t pages[RING_SIZE];

	(void)state;
	region_set(f, LOG, PAGES);
	cache = cache_on(f, PAGE);
	assert_int_equal(vmmu_pfn_cache_open(cache, NULL), VMMU_EBUSY); /* a device has no ring */
	assert_int_equal(vmmu_pfn_cache_open(cache, f->vcpu[0]), VMMU_OK);
	for (uint64_t i = 0; i < 3; i++)
		assert_int_equal(vmmu_pfn_cache_write(cache, i * 8, &i, 8), VMMU_OK);
	vmmu_pfn_cache_close(cache);
	assert_int_equal(harvest(f, 0, pages, RING_SIZE), 1); /* one entry for a window */
	assert_int_equal(pages[0], PAGE);
	for (unsigned i = 1; i < RING_SIZE; i++)
		write_one(cache, f->vcpu[0], 0, i);
	assert_int_equal(vmmu_pfn_cache_open(cache, f->vcpu[0]), VMMU_EBUSY);
	assert_int_equal(piece_of(f, PAGE)[0], RING_SIZE - 1);
	assert_int_equal(guest_try(f, 0, 0), MCPU_RING_FULL);
	harvest(f, 0, pages, RING_SIZE);
	assert_int_equal(reset(f), RING_SIZE);
	write_one(cache, f->vcpu[0], 0, 1);
	vmmu_pfn_cache_destroy(cache);
	fixture_free(f);
}

static void test_memory_that_goes_by_itself_is_an_error(void **state)
{
	struct fixture *f = fixture_make(0, false, VMMU_FORMAT_NPT4);
	struct vmmu_pfn_cache *cache = cache_on(f, PAGE);
	uint64_t word = 1;
	bool swapped;

	(void)state;
	memory_goes(f->memory + PAGE * 4096, 4096);
	assert_int_equal(vmmu_pfn_cache_open(cache, NULL), VMMU_OK);
	assert_int_equal(vmmu_pfn_cache_write(cache, 0, &word, 8), VMMU_EFAULT);
	assert_int_equal(vmmu_pfn_cache_read(cache, 0, &word, 8), VMMU_EFAULT);
	assert_int_equal(vmmu_pfn_cache_cas(cache, 0, 8, 0, 1, &swapped), VMMU_EFAULT);
	vmmu_pfn_cache_close(cache);
	vmmu_invalidate_begin(f->vm, hva_of(f, PAGE), hva_of(f, PAGE + 1));
	vmmu_invalidate_end(f->vm, hva_of(f, PAGE), hva_of(f, PAGE + 1));
	assert_int_equal(vmmu_pfn_cache_refresh(cache), VMMU_EFAULT);
	assert_int_equal(vmmu_pfn_cache_open(cache, NULL), VMMU_EAGAIN);
	vmmu_pfn_cache_destroy(cache);
	fixture_free(f);
}

/* --- a storm: what is counted in the page must be right in the end, wherever the page was meanwhile --- */

#define WRITERS 2
#define MOVES   2000

struct storm {
	struct fixture *f;
	struct vmmu_pfn_cache *cache;
	uint64_t frames[PAGES];
	char *spare[2];  /* where the page may be, too */
	bool stop;
	uint64_t counted[WRITERS];
	unsigned id;
};

static bool count_one(struct storm *storm, struct vmmu_vcpu *vcpu)
{
	enum vmmu_status status = vmmu_pfn_cache_open(storm->cache, vcpu);
	uint64_t word;

	if (status == VMMU_EAGAIN) {
		status = vmmu_pfn_cache_refresh(storm->cache);
		CHECK(status == VMMU_OK || status == VMMU_EAGAIN || status == VMMU_ENOENT);
		return false;
	}
	CHECK(status == VMMU_OK);
	CHECK(vmmu_pfn_cache_read(storm->cache, 0, &word, 8) == VMMU_OK);
	word++;
	CHECK(vmmu_pfn_cache_write(storm->cache, 0, &word, 8) == VMMU_OK);
	vmmu_pfn_cache_close(storm->cache);
	return true;
}

static void *storm_writer(void *arg)
{
	struct storm *storm = arg;
	unsigned id = __atomic_fetch_add(&storm->id, 1, __ATOMIC_RELAXED);

	while (!load_relaxed(&storm->stop))
		add_relaxed(&storm->counted[id], count_one(storm, id ? storm->f->vcpu[0] : NULL));
	return NULL;
}

static void *storm_slots(void *arg)
{
	struct storm *storm = arg;
	struct vmmu_region region = { .slot = SLOT, .gpa = { BASE * 4096 }, .hva = hva_of(storm->f, 0) };

	for (unsigned i = 0; !load_relaxed(&storm->stop); i++) {
		region.flags = i % 3 == 1 ? LOG : 0;
		region.bytes = i % 3 == 2 ? 0 : PAGES * 4096;
		CHECK(vmmu_region_set(storm->f->vm, &region) == VMMU_OK);
	}
	region.flags = 0;
	region.bytes = PAGES * 4096;
	CHECK(vmmu_region_set(storm->f->vm, &region) == VMMU_OK); /* it is there in the end */
	return NULL;
}

/* The host moves the page to a spare frame and back, with all that is in it; the frame it left is spoilt. */
static void storm_move(struct storm *storm, unsigned move)
{
	struct fixture *f = storm->f;
	struct vmmu_hva first = hva_of(f, PAGE), last = hva_of(f, PAGE + 1);
	char *old = (char *)(uintptr_t)storm->frames[PAGE], *new = storm->spare[move % 2];

	vmmu_invalidate_begin(f->vm, first, last);
	memcpy(new, old, 4096);
	memset(old, 0xa5, 4096);
	store_relaxed(&storm->frames[PAGE], (uintptr_t)new);
	vmmu_invalidate_end(f->vm, first, last);
	sched_yield();
}

static bool all_counted(const struct storm *storm)
{
	for (unsigned i = 0; i < WRITERS; i++)
		if (!load_relaxed(&storm->counted[i]))
			return false;
	return true;
}

static void test_nothing_is_lost_while_the_page_moves_and_the_slot_goes(void **state)
{
	struct fixture *f = fixture_make(0, false, VMMU_FORMAT_NPT4);
	static struct storm storm;
	pthread_t writer[WRITERS], slots;
	uint64_t sum = 0;

	(void)state;
	storm.f = f;
	for (unsigned i = 0; i < 2; i++)
		storm.spare[i] = aligned_alloc(4096, 4096);
	for (uint64_t page = 0; page < PAGES; page++)
		storm.frames[page] = hva_of(f, page).v;
	f->host.frames_at = hva_of(f, 0).v;
	f->host.frames_count = PAGES;
	f->host.frames = storm.frames;
	storm.cache = cache_on(f, PAGE);
	for (unsigned i = 0; i < WRITERS; i++)
		writer[i] = thread_start(storm_writer, &storm);
	slots = thread_start(storm_slots, &storm);
	for (unsigned move = 0; move < MOVES || !all_counted(&storm); move++)
		storm_move(&storm, move);
	store_relaxed(&storm.stop, true);
	thread_join(slots);
	for (unsigned i = 0; i < WRITERS; i++) {
		thread_join(writer[i]);
		sum += storm.counted[i];
	}
	assert_int_equal(*(uint64_t *)(uintptr_t)(storm.frames[PAGE] + OFFSET), sum);
	vmmu_pfn_cache_destroy(storm.cache);
	f->host.frames_count = 0;
	region_set(f, 0, 0);
	region_set(f, 0, PAGES);
	fixture_free(f);
	for (unsigned i = 0; i < 2; i++)
		free(storm.spare[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cache_is_about_what_it_was_activated_for),
		cmocka_unit_test(test_swap_is_one_step_of_the_right_width),
		cmocka_unit_test(test_invalidation_takes_the_page_until_its_end),
		cmocka_unit_test(test_slot_changes_are_followed),
		cmocka_unit_test(test_written_pages_are_in_the_bitmap),
		cmocka_unit_test(test_written_pages_are_in_the_ring_of_the_vcpu),
		cmocka_unit_test(test_memory_that_goes_by_itself_is_an_error),
		cmocka_unit_test(test_nothing_is_lost_while_the_page_moves_and_the_slot_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

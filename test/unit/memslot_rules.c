/* SPDX-License-Identifier: MIT */
/* Every rule of KVM_SET_USER_MEMORY_REGION, the steps of each kind of change, and what happens to a slot's bitmap. */
#include "test/unit/test.h"

#include "core/memslot/dirty.h"
#include "core/memslot/set.h"
#include "test/unit/test_vm.h"

#define LOG       VMMU_SLOT_LOG_DIRTY
#define RO        VMMU_SLOT_READONLY
#define TOP_HVA   (BIT(47) >> PAGE_SHIFT) /* the first host page that no slot may have */
#define TOP_GFN   (BIT(48) >> PAGE_SHIFT)
#define MOST      VMMU_MAX_SLOT_PAGES

/*
 * One request after another on one VM with two address spaces. A request is given in pages. `gpa_add`, `hva_add` and
 * `bytes_add` are bytes on top of that, to break alignment.
 */
struct request {
	const char *what;
	uint32_t as_id, slot;
	uint64_t gfn, npages, hva_page;
	uint32_t flags;
	enum vmmu_status expected;
	uint64_t gpa_add, bytes_add, hva_add;
};

static const struct request requests[] = {
	/* what                                  as slot     gfn    npages      hva       flags  expected */
	{ "delete of a slot that never was",     0, 5,       0,     0,          0,        0,     VMMU_EINVAL, 0, 0, 0 },
	{ "create",                              0, 5,       16,    16,         100,      0,     VMMU_OK, 0, 0, 0 },
	{ "the same again",                      0, 5,       16,    16,         100,      0,     VMMU_OK, 0, 0, 0 },
	{ "grow",                                0, 5,       16,    17,         100,      0,     VMMU_EINVAL, 0, 0, 0 },
	{ "shrink",                              0, 5,       16,    15,         100,      0,     VMMU_EINVAL, 0, 0, 0 },
	{ "other host memory",                   0, 5,       16,    16,         101,      0,     VMMU_EINVAL, 0, 0, 0 },
	{ "move with other host memory",         0, 5,       17,    16,         101,      0,     VMMU_EINVAL, 0, 0, 0 },
	{ "read-only on",                        0, 5,       16,    16,         100,      RO,    VMMU_EINVAL, 0, 0, 0 },
	{ "read-only on with a move",            0, 5,       64,    16,         100,      RO,    VMMU_EINVAL, 0, 0, 0 },
	{ "logging on",                          0, 5,       16,    16,         100,      LOG,   VMMU_OK, 0, 0, 0 },
	{ "logging off",                         0, 5,       16,    16,         100,      0,     VMMU_OK, 0, 0, 0 },
	{ "move over its own place",             0, 5,       24,    16,         100,      0,     VMMU_OK, 0, 0, 0 },
	{ "move back with logging",              0, 5,       16,    16,         100,      LOG,   VMMU_OK, 0, 0, 0 },
	{ "move with logging off",               0, 5,       32,    16,         100,      0,     VMMU_OK, 0, 0, 0 },
	{ "move back",                           0, 5,       16,    16,         100,      0,     VMMU_OK, 0, 0, 0 },
	{ "a neighbour below",                   0, 6,       8,     8,          200,      0,     VMMU_OK, 0, 0, 0 },
	{ "a neighbour above",                   0, 7,       32,    8,          300,      RO,    VMMU_OK, 0, 0, 0 },
	{ "read-only off",                       0, 7,       32,    8,          300,      0,     VMMU_EINVAL, 0, 0, 0 },
	{ "overlaps by its last page",           0, 8,       0,     9,          400,      0,     VMMU_EEXIST, 0, 0, 0 },
	{ "ends just below",                     0, 8,       0,     8,          400,      0,     VMMU_OK, 0, 0, 0 },
	{ "overlaps by its first page",          0, 9,       39,    4,          500,      0,     VMMU_EEXIST, 0, 0, 0 },
	{ "lies within another",                 0, 9,       20,    1,          500,      0,     VMMU_EEXIST, 0, 0, 0 },
	{ "covers all",                          0, 9,       0,     1000,       500,      0,     VMMU_EEXIST, 0, 0, 0 },
	{ "move onto the neighbour above",       0, 5,       17,    16,         100,      0,     VMMU_EEXIST, 0, 0, 0 },
	{ "move onto the neighbour below",       0, 5,       15,    16,         100,      0,     VMMU_EEXIST, 0, 0, 0 },
	{ "same host memory twice",              0, 9,       1000,  16,         100,      0,     VMMU_OK, 0, 0, 0 },
	{ "same place, other address space",     1, 5,       16,    16,         100,      0,     VMMU_OK, 0, 0, 0 },
	{ "delete it there",                     1, 5,       16,    0,          100,      0,     VMMU_OK, 0, 0, 0 },
	{ "delete it there again",               1, 5,       16,    0,          100,      0,     VMMU_EINVAL, 0, 0, 0 },
	{ "no such address space",               2, 5,       5000,  16,         100,      0,     VMMU_EINVAL, 0, 0, 0 },
	{ "the last slot number",                0, 32763,   5000,  1,          100,      0,     VMMU_OK, 0, 0, 0 },
	{ "one past the last slot number",       0, 32764,   5001,  1,          100,      0,     VMMU_EINVAL, 0, 0, 0 },
	{ "a wild slot number",                  0, ~0u,     5001,  1,          100,      0,     VMMU_EINVAL, 0, 0, 0 },
	{ "unknown flag",                        0, 10,      5001,  1,          100,      4,     VMMU_EINVAL, 0, 0, 0 },
	{ "core's own flag",                     0, 10,      5001,  1,          100,      SLOT_INVALID, VMMU_EINVAL,
	  0, 0, 0 },
	{ "unknown flag on a delete",            0, 9,       5001,  0,          100,      4,     VMMU_EINVAL, 0, 0, 0 },
	{ "gpa not aligned",                     0, 10,      5001,  1,          100,      0,     VMMU_EINVAL, 1, 0, 0 },
	{ "gpa half a page off",                 0, 10,      5001,  1,          100,      0,     VMMU_EINVAL,
	  2048, 0, 0 },
	{ "size not aligned",                    0, 10,      5001,  1,          100,      0,     VMMU_EINVAL, 0, 8, 0 },
	{ "size less than a page",               0, 9,       1000,  0,          100,      0,     VMMU_EINVAL,
	  0, 4095, 0 },
	{ "hva not aligned",                     0, 10,      5001,  1,          100,      0,     VMMU_EINVAL,
	  0, 0, 16 },
	{ "gpa not aligned on a delete",         0, 9,       1000,  0,          100,      0,     VMMU_EINVAL, 1, 0, 0 },
	{ "gpa wraps",                           0, 10,      ~UINT64_C(0) >> 12, 2, 100,  0,     VMMU_EINVAL, 0, 0, 0 },
	{ "gpa wraps to 0",                      0, 10,      ~UINT64_C(0) >> 12, 1, 100,  0,     VMMU_EINVAL, 0, 0, 0 },
	{ "one page beyond guest memory",        0, 11,      TOP_GFN - 2, 3,    100,      0,     VMMU_EINVAL, 0, 0, 0 },
	{ "reaches the end of guest memory",     0, 10,      TOP_GFN - 4, 4,    100,      0,     VMMU_OK, 0, 0, 0 },
	{ "all of it beyond guest memory",       0, 11,      TOP_GFN, 1,        100,      0,     VMMU_EINVAL, 0, 0, 0 },
	{ "overlaps, and ends beyond",           0, 11,      TOP_GFN - 1, 3,    100,      0,     VMMU_EEXIST, 0, 0, 0 },
	{ "move beyond guest memory",            0, 10,      TOP_GFN - 3, 4,    100,      0,     VMMU_EINVAL, 0, 0, 0 },
	{ "a delete may name any gpa",           0, 10,      ~UINT64_C(0) >> 12, 0, 100,  0,     VMMU_OK, 0, 0, 0 },
	{ "hva reaches the limit",               0, 11,      6000,  4,          TOP_HVA - 4, 0,  VMMU_OK, 0, 0, 0 },
	{ "hva beyond the limit",                0, 12,      6100,  5,          TOP_HVA - 4, 0,  VMMU_EINVAL, 0, 0, 0 },
	{ "hva at the limit",                    0, 12,      6100,  1,          TOP_HVA,  0,     VMMU_EINVAL, 0, 0, 0 },
	{ "hva wraps",                           0, 12,      6100,  2,          ~UINT64_C(0) >> 12, 0, VMMU_EINVAL,
	  0, 0, 0 },
	{ "hva in the kernel's half",            0, 12,      6100,  1,          UINT64_C(0xffff8) << 32, 0, VMMU_EINVAL,
	  0, 0, 0 },
	{ "hva beyond the limit on a delete",    0, 11,      6000,  0,          TOP_HVA + 1, 0,  VMMU_EINVAL, 0, 0, 0 },
	{ "the most pages",                      0, 12,      BIT(33), MOST,     1,        0,     VMMU_OK, 0, 0, 0 },
	{ "one page more than that",             0, 13,      BIT(34), MOST + 1, 1,        0,     VMMU_EINVAL, 0, 0, 0 },
	{ "a size that wraps in pages",          0, 13,      BIT(34), 0,        1,        0,     VMMU_EINVAL,
	  0, UINT64_C(0xfffffffffffff000), 0 },
	{ "hva 0",                               0, 13,      BIT(34), 1,        0,        0,     VMMU_OK, 0, 0, 0 },
	{ "delete says nothing but the number",  0, 12,      0,     0,          0,        0,     VMMU_OK, 0, 0, 0 },
	{ "the number is free again",            0, 12,      7000,  2,          700,      0,     VMMU_OK, 0, 0, 0 },
};

static void test_region_request_gets_expected_status(void **state)
{
	struct test_vm *test = test_vm_make(2);

	(void)state;
	for (unsigned i = 0; i < array_size(requests); i++) {
		const struct request *r = &requests[i];
		struct vmmu_region region = test_region(r->as_id, r->slot, r->gfn, r->npages, r->hva_page, r->flags);
		uint64_t changes = test->vm.stats.slot_changes;
		enum vmmu_status status;

		region.gpa.v += r->gpa_add;
		region.bytes += r->bytes_add;
		region.hva.v += r->hva_add;
		test_vm_forget(test);
		status = test_vm_set(test, &region);
		if (status != r->expected)
			fail_msg("%s: %d instead of %d", r->what, status, r->expected);
		if (status != VMMU_OK && (test->event_count || test->vm.stats.slot_changes != changes))
			fail_msg("%s: refused, but something changed", r->what);
		test_vm_audit(test);
	}
	test_vm_free(test);
}

static void set_ok(struct test_vm *test, uint32_t as_id, uint32_t slot, uint64_t gfn, uint64_t npages,
                   uint64_t hva_page, uint32_t flags)
{
	struct vmmu_region region = test_region(as_id, slot, gfn, npages, hva_page, flags);

	assert_int_equal(test_vm_set(test, &region), VMMU_OK);
	test_vm_audit(test);
}

static struct memslot *slot_now(struct test_vm *test, unsigned as_id, uint32_t id)
{
	return memslot_find_id(memslots_current(&test->vm, as_id), id);
}

static void event_is(struct test_vm *test, unsigned at, enum test_event_kind kind, enum slot_change change)
{
	assert_true(at < test->event_count);
	assert_int_equal(test->events[at].kind, kind);
	if (kind == EVENT_COMMITTED)
		assert_int_equal(test->events[at].change, change);
}

static void test_change_calls_hooks_in_order(void **state)
{
	struct test_vm *test = test_vm_make(1);

	(void)state;
	set_ok(test, 0, 0, 0, 16, 0, 0);
	assert_int_equal(test->event_count, 2);
	event_is(test, 0, EVENT_GENERATION, 0);
	event_is(test, 1, EVENT_COMMITTED, SLOT_CREATE);
	assert_null(test->events[1].old);
	assert_ptr_equal(test->events[1].new, slot_now(test, 0, 0));

	test_vm_forget(test);
	set_ok(test, 0, 0, 0, 16, 0, LOG);
	assert_int_equal(test->event_count, 2);
	event_is(test, 1, EVENT_COMMITTED, SLOT_FLAGS);
	assert_non_null(test->events[1].old);
	assert_ptr_equal(test->events[1].new, slot_now(test, 0, 0));

	test_vm_forget(test);
	set_ok(test, 0, 0, 0, 16, 0, LOG);
	assert_int_equal(test->event_count, 0);

	test_vm_forget(test);
	set_ok(test, 0, 0, 100, 16, 0, LOG);
	assert_int_equal(test->event_count, 4);
	event_is(test, 0, EVENT_GENERATION, 0);
	event_is(test, 1, EVENT_ZAP, 0);
	event_is(test, 2, EVENT_GENERATION, 0);
	event_is(test, 3, EVENT_COMMITTED, SLOT_MOVE);

	test_vm_forget(test);
	set_ok(test, 0, 0, 0, 0, 0, 0);
	assert_int_equal(test->event_count, 4);
	event_is(test, 1, EVENT_ZAP, 0);
	event_is(test, 3, EVENT_COMMITTED, SLOT_DELETE);
	assert_null(test->events[3].new);
	test_vm_free(test);
}

/* What readers must see at each step of a move. */
static void watch_move(struct test_vm *test, const struct test_event *event)
{
	const struct memslots *set = memslots_current(&test->vm, 0);
	const struct memslot *slot = memslot_find_id(set, 3);
	bool retiring = test->event_count < 2;

	assert_non_null(slot);
	assert_int_equal(!!(slot->flags & SLOT_INVALID), retiring);
	assert_int_equal(slot->base.v, retiring ? 16 : 64);
	assert_ptr_equal(memslot_find(set, GFN(retiring ? 20 : 68)), slot);
	assert_null(memslot_find(set, GFN(retiring ? 68 : 20)));
	/* While readers may still use either set, no answer may be cached. */
	if (event->kind == EVENT_GENERATION) {
		assert_true(memslots_generation(set) & GENERATION_IN_PROGRESS);
		assert_true(event->generation > (memslots_generation(set) & ~GENERATION_IN_PROGRESS));
	} else {
		assert_false(memslots_generation(set) & GENERATION_IN_PROGRESS);
	}
}

static void test_move_shows_invalid_slot_until_zapped(void **state)
{
	struct test_vm *test = test_vm_make(2);

	(void)state;
	set_ok(test, 0, 3, 16, 16, 100, 0);
	test_vm_forget(test);
	test->on_event = watch_move;
	set_ok(test, 0, 3, 64, 16, 100, 0);
	assert_int_equal(test->event_count, 4);
	test_vm_free(test);
}

static void test_generations_of_two_address_spaces_never_meet(void **state)
{
	struct test_vm *test = test_vm_make(2);
	uint64_t last[2] = { memslots_current(&test->vm, 0)->generation, memslots_current(&test->vm, 1)->generation };
	struct rng rng = rng_make(11);

	(void)state;
	assert_int_not_equal(last[0], last[1]);
	for (int i = 0; i < 200; i++) {
		unsigned as_id = rng_below(&rng, 2);
		bool exists = slot_now(test, as_id, 0);
		uint64_t now;

		set_ok(test, as_id, 0, 0, exists ? 0 : 1, 0, 0);
		now = memslots_current(&test->vm, as_id)->generation;
		assert_true(now > last[as_id]);
		assert_int_equal(now % 2, as_id);
		last[as_id] = now;
	}
	test_vm_free(test);
}

/* --- the bitmap of a slot --- */

static void test_bitmap_lives_as_long_as_logging(void **state)
{
	struct test_vm *test = test_vm_make(1);
	uint64_t *bits;
	long without;

	(void)state;
	set_ok(test, 0, 1, 0, 1000, 0, 0);
	assert_null(slot_now(test, 0, 1)->dirty);
	without = test->live_bytes;
	set_ok(test, 0, 1, 0, 1000, 0, LOG);
	bits = slot_now(test, 0, 1)->dirty;
	assert_non_null(bits);
	assert_int_equal(test->live_bytes - without, 2 * 16 * 8);
	for (int i = 0; i < 32; i++)
		assert_int_equal(bits[i], 0);
	dirty_mark(&test->vm, slot_now(test, 0, 1), GFN(70), NULL);
	/* A move keeps the marks. */
	set_ok(test, 0, 1, 5000, 1000, 0, LOG);
	assert_ptr_equal(slot_now(test, 0, 1)->dirty, bits);
	assert_int_equal(bits[1], 1 << 6);
	set_ok(test, 0, 1, 5000, 1000, 0, 0);
	assert_null(slot_now(test, 0, 1)->dirty);
	assert_int_equal(test->live_bytes, without);
	/* When logging starts again, the bitmap is empty. */
	set_ok(test, 0, 1, 5000, 1000, 0, LOG);
	assert_int_equal(slot_now(test, 0, 1)->dirty[1], 0);
	/* A move that also starts or stops logging. */
	set_ok(test, 0, 1, 0, 1000, 0, 0);
	assert_int_equal(test->live_bytes, without);
	set_ok(test, 0, 1, 5000, 1000, 0, LOG);
	assert_non_null(slot_now(test, 0, 1)->dirty);
	set_ok(test, 0, 1, 0, 0, 0, 0);
	test_vm_free(test);
}

static void test_bitmap_initially_set_has_one_bit_a_page(void **state)
{
	static const uint64_t sizes[] = { 1, 63, 64, 65, 127, 128, 1000 };
	struct test_vm *test = test_vm_make(1);

	(void)state;
	test->vm.slots->dirty_mode = VMMU_DIRTY_MANUAL_PROTECT | VMMU_DIRTY_INITIALLY_SET;
	for (unsigned i = 0; i < array_size(sizes); i++) {
		const struct memslot *slot;
		uint64_t bits = 0;

		set_ok(test, 0, i, i * 2000, sizes[i], 0, LOG);
		slot = slot_now(test, 0, i);
		for (uint64_t word = 0; word < dirty_words(slot); word++)
			bits += __builtin_popcountll(slot->dirty[word]);
		assert_int_equal(bits, sizes[i]);
		for (uint64_t page = 0; page < sizes[i]; page++)
			assert_true(slot->dirty[page / 64] & BIT(page % 64));
	}
	test_vm_free(test);
}

static void test_bitmap_is_not_made_when_the_vm_has_rings(void **state)
{
	struct test_vm *test = test_vm_make(1);

	(void)state;
	test->vm.slots->ring_entries = 256;
	set_ok(test, 0, 0, 0, 16, 0, LOG);
	assert_null(slot_now(test, 0, 0)->dirty);
	set_ok(test, 0, 0, 0, 16, 0, 0);
	set_ok(test, 0, 0, 0, 16, 0, LOG);
	set_ok(test, 0, 0, 0, 0, 0, 0);
	test_vm_free(test);
}

/* --- fail allocation n, for every n --- */

struct failing {
	const char *what;
	struct vmmu_region before, request;
};

static void change_survives_every_failure(const struct failing *f)
{
	for (long n = 1;; n++) {
		struct test_vm *test = test_vm_make(1);
		uint64_t generation;
		enum vmmu_status status;
		long live, bytes;

		if (f->before.bytes)
			assert_int_equal(test_vm_set(test, &f->before), VMMU_OK);
		generation = memslots_current(&test->vm, 0)->generation;
		test_vm_forget(test);
		live = test->live, bytes = test->live_bytes;
		test->countdown = n;
		status = test_vm_set(test, &f->request);
		test_vm_audit(test);
		if (status == VMMU_OK) {
			assert_int_not_equal(test->countdown, 0); /* it did not ignore a failed allocation */
			test_vm_free(test);
			assert_true(n > 1);
			return;
		}
		assert_int_equal(status, VMMU_ENOMEM);
		/* Nothing was published or called. Only the part of the id map is kept, and the next call uses it. */
		assert_int_equal(test->event_count, 0);
		assert_int_equal(memslots_current(&test->vm, 0)->generation, generation);
		if (test->live != live) {
			assert_int_equal(test->live, live + 1);
			assert_int_equal(test->live_bytes, bytes + (long)sizeof(struct id_part));
		}
		/* And the same request works once there is memory. */
		assert_int_equal(test_vm_set(test, &f->request), VMMU_OK);
		test_vm_audit(test);
		test_vm_free(test);
	}
}

static void test_change_without_memory_changes_nothing(void **state)
{
	const struct vmmu_region plain = test_region(0, 1, 16, 100, 50, 0),
	                         logged = test_region(0, 1, 16, 100, 50, LOG);
	const struct failing cases[] = {
		{ "create", { 0 }, plain },
		{ "create logged", { 0 }, logged },
		{ "delete", logged, test_region(0, 1, 0, 0, 0, 0) },
		{ "move", plain, test_region(0, 1, 17, 100, 50, 0) },
		{ "move logged", logged, test_region(0, 1, 17, 100, 50, LOG) },
		{ "move and log", plain, test_region(0, 1, 17, 100, 50, LOG) },
		{ "log", plain, logged },
		{ "log no more", logged, plain },
		{ "second part of the id map", plain, test_region(0, 1000, 1000, 1, 0, LOG) },
	};

	(void)state;
	for (unsigned i = 0; i < array_size(cases); i++)
		change_survives_every_failure(&cases[i]);
}

static void test_slots_init_without_memory_leaves_nothing(void **state)
{
	struct test_vm *test = test_vm_make(2);
	const struct slots_hooks *hooks = test->vm.slots->hooks;

	(void)state;
	slots_fini(&test->vm);
	test->countdown = 1;
	assert_int_equal(slots_init(&test->vm, hooks), VMMU_ENOMEM);
	assert_null(test->vm.slots);
	test_vm_free(test);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_region_request_gets_expected_status),
		cmocka_unit_test(test_change_calls_hooks_in_order),
		cmocka_unit_test(test_move_shows_invalid_slot_until_zapped),
		cmocka_unit_test(test_generations_of_two_address_spaces_never_meet),
		cmocka_unit_test(test_bitmap_lives_as_long_as_logging),
		cmocka_unit_test(test_bitmap_initially_set_has_one_bit_a_page),
		cmocka_unit_test(test_bitmap_is_not_made_when_the_vm_has_rings),
		cmocka_unit_test(test_change_without_memory_changes_nothing),
		cmocka_unit_test(test_slots_init_without_memory_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

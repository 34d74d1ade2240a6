/* SPDX-License-Identifier: MIT */
/*
 * P1: the arrays of slots appear with the first shadow root, while slots change. The arrays are stand-ins, and the
 * first root is a small copy of what core/shadow/arrays.c does.
 */
#include "test/unit/threads.h"

#include "core/memslot/set.h"
#include "test/unit/test_vm.h"

#define IDS 6

struct fixture {
	struct test_vm *test;
	struct vm *vm;
	uint32_t done;
	uint64_t seen; /* atomic: how many slots were looked at while the flag was set */
};

static void fixture_make(struct fixture *f)
{
	*f = (struct fixture){ .test = test_vm_make(1) };
	f->vm = &f->test->vm;
	f->vm->shadow = (void *)f; /* only whether there is one matters here */
	f->test->arch_lock_is_busy = true;
}

static void change(struct fixture *f, unsigned id, uint64_t gfn, uint64_t npages, uint32_t flags)
{
	struct vmmu_region region = test_region(0, id, gfn, npages, id * 100, flags);

	CHECK(test_vm_set(f->test, &region) == VMMU_OK);
}

static struct memslot *slot_now(struct fixture *f, unsigned id)
{
	return memslot_find_id(memslots_current(f->vm, 0), id);
}

static bool give_arrays(void *arg, struct memslot *slot)
{
	struct vm *vm = arg;

	return !slot->arrays && !vm->slots->hooks->arrays_reserve(vm, slot, &slot->arrays);
}

static bool first_root(struct vm *vm)
{
	struct srcu_read token = srcu_read_lock(&vm->srcu, 1);
	bool failed;

	mutex_lock(&vm->slots_arch_lock);
	failed = memslots_for_each(memslots_active(vm, 0, token), give_arrays, vm);
	if (!failed)
		store_release(&vm->shadow_root_allocated, 1);
	mutex_unlock(&vm->slots_arch_lock);
	srcu_read_unlock(&vm->srcu, token);
	return !failed;
}

/* I1.1: the arrays are read by plain loads, as walkers read them. */
static bool has_arrays(void *arg, struct memslot *slot)
{
	const struct test_arrays *arrays = (const struct test_arrays *)slot->arrays;
	struct fixture *f = arg;

	CHECK(arrays && arrays->magic == TEST_ARRAYS_MAGIC && arrays->id == slot->id);
	add_relaxed(&f->seen, 1);
	return false;
}

static void all_have_arrays(struct fixture *f)
{
	struct srcu_read token = srcu_read_lock(&f->vm->srcu, 2);

	if (load_acquire(&f->vm->shadow_root_allocated))
		memslots_for_each(memslots_active(f->vm, 0, token), has_arrays, f);
	srcu_read_unlock(&f->vm->srcu, token);
}

/* --- step by step --- */

static void test_no_arrays_before_the_first_root_and_always_after(void **state)
{
	struct test_arrays *before;
	struct fixture f;

	(void)state;
	fixture_make(&f);
	change(&f, 0, 0, 10, 0);
	change(&f, 1, 100, 10, 0);
	change(&f, 1, 200, 10, 0);
	assert_null(slot_now(&f, 0)->arrays);
	assert_null(slot_now(&f, 1)->arrays);
	assert_int_equal(f.vm->stats.rmap_bytes, 0);
	assert_true(first_root(f.vm));
	all_have_arrays(&f);
	/* A change of flags keeps the arrays. A move makes new ones: it has zapped all that the old ones described. */
	before = (struct test_arrays *)slot_now(&f, 0)->arrays;
	change(&f, 0, 0, 10, VMMU_SLOT_LOG_DIRTY);
	assert_ptr_equal(slot_now(&f, 0)->arrays, before);
	change(&f, 0, 20, 10, VMMU_SLOT_LOG_DIRTY);
	assert_non_null(slot_now(&f, 0)->arrays);
	change(&f, 2, 300, 10, 0);
	all_have_arrays(&f);
	assert_int_equal(f.vm->stats.rmap_bytes, 3 * sizeof(struct test_arrays));
	change(&f, 0, 0, 0, 0);
	assert_int_equal(f.vm->stats.rmap_bytes, 2 * sizeof(struct test_arrays));
	test_vm_audit(f.test);
	test_vm_free(f.test);
}

/* The first root comes while a slot is INVALID: arrays that it gives that copy are neither lost nor leaked (zoo 7). */
static void root_during_zap(struct test_vm *test, const struct test_event *event)
{
	if (event->kind == EVENT_ZAP)
		CHECK(first_root(&test->vm));
}

static void root_at_commit(struct test_vm *test, const struct test_event *event)
{
	if (event->kind == EVENT_COMMITTED)
		CHECK(first_root(&test->vm));
}

static void test_first_root_in_the_middle_of_a_change(void **state)
{
	void (*const moments[])(struct test_vm *, const struct test_event *) = { root_during_zap, root_at_commit };

	(void)state;
	for (unsigned moment = 0; moment < array_size(moments); moment++)
		for (unsigned what = 0; what < 3; what++) {
			struct fixture f;

			fixture_make(&f);
			change(&f, 0, 0, 10, 0);
			change(&f, 1, 100, 10, 0);
			f.test->on_event = moments[moment];
			change(&f, 1, 200, what == 0 ? 0 : 10, what == 1 ? VMMU_SLOT_LOG_DIRTY : 0);
			f.test->on_event = NULL;
			assert_int_equal(f.vm->shadow_root_allocated, 1);
			all_have_arrays(&f);
			test_vm_audit(f.test);
			test_vm_free(f.test);
		}
}

/* A first root without memory keeps the arrays that it made. Slots with arrays can change before the flag is set. */
static void test_first_root_without_memory_leaves_slots_usable(void **state)
{
	(void)state;
	for (unsigned what = 0; what < 4; what++) {
		struct fixture f;

		fixture_make(&f);
		for (unsigned id = 0; id < 3; id++)
			change(&f, id, id * 100, 10, 0);
		f.test->countdown = 2;
		assert_false(first_root(f.vm));
		f.test->countdown = 0;
		assert_non_null(slot_now(&f, 0)->arrays);
		assert_null(slot_now(&f, 2)->arrays);
		if (what < 3)
			change(&f, 0, what == 2 ? 0 : 1000, what == 0 ? 0 : 10, what == 2 ? VMMU_SLOT_LOG_DIRTY : 0);
		test_vm_audit(f.test);
		assert_true(first_root(f.vm));
		all_have_arrays(&f);
		test_vm_free(f.test);
	}
}

static void test_change_without_memory_for_arrays_changes_nothing(void **state)
{
	struct vmmu_region region = test_region(0, 0, 7, 10, 0, 0);

	(void)state;
	for (long n = 1; n <= 3; n++) {
		struct fixture f;

		fixture_make(&f);
		assert_true(first_root(f.vm));
		f.test->countdown = n;
		assert_int_equal(test_vm_set(f.test, &region), VMMU_ENOMEM);
		test_vm_audit(f.test);
		assert_int_equal(test_vm_set(f.test, &region), VMMU_OK);
		all_have_arrays(&f);
		test_vm_free(f.test);
	}
}

/* --- storm --- */

static void *changer(void *arg)
{
	struct fixture *f = arg;
	struct rng rng = rng_make((uintptr_t)&rng);

	while (!load_relaxed(&f->done)) {
		unsigned id = rng_below(&rng, IDS);

		if (slot_now(f, id) && rng_below(&rng, 3) == 0)
			change(f, id, 0, 0, 0);
		else
			change(f, id, id * 100 + rng_below(&rng, 3) * 20, 10, rng_below(&rng, 2));
	}
	return NULL;
}

static void *walker(void *arg)
{
	struct fixture *f = arg;

	while (!load_relaxed(&f->done))
		all_have_arrays(f);
	return NULL;
}

static void test_storm_first_root_among_changes_and_walkers(void **state)
{
	struct rng rng = rng_make(4);

	(void)state;
	for (int round = 0; round < 120; round++) {
		pthread_t threads[2];
		struct fixture f;

		fixture_make(&f);
		threads[0] = thread_start(changer, &f);
		threads[1] = thread_start(walker, &f);
		sleep_us(rng_below(&rng, 1500));
		CHECK(first_root(f.vm));
		sleep_us(1000);
		store_relaxed(&f.done, 1);
		for (unsigned i = 0; i < 2; i++)
			thread_join(threads[i]);
		all_have_arrays(&f);
		test_vm_audit(f.test);
		test_vm_free(f.test);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_arrays_before_the_first_root_and_always_after),
		cmocka_unit_test(test_first_root_in_the_middle_of_a_change),
		cmocka_unit_test(test_first_root_without_memory_leaves_slots_usable),
		cmocka_unit_test(test_change_without_memory_for_arrays_changes_nothing),
		cmocka_unit_test(test_storm_first_root_among_changes_and_walkers),
	};

	return cmocka_run_group_tests(tests, watchdog_setup, NULL);
}

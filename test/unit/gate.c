/* SPDX-License-Identifier: MIT */
/* The gate (P5): a publication and an invalidation never overlap, and no wake-up is lost. */
#include "test/unit/threads.h"

#include "core/memslot/gate.h"

struct fixture {
	struct gate gate;
	uint32_t version;   /* publications change it; not atomic, so that TSan watches it */
	uint32_t published; /* atomic */
	uint32_t done;
};

static void publish(void *arg)
{
	struct fixture *f = arg;

	CHECK(f->gate.active == 0 && spin_is_locked(&f->gate.lock));
	f->version++;
	add_release(&f->published, 1);
}

static void *publisher(void *arg)
{
	struct fixture *f = arg;

	gate_publish(&f->gate, publish, f);
	return NULL;
}

static void test_publish_with_nothing_in_flight_is_immediate(void **state)
{
	struct fixture f = { .version = 0 };

	(void)state;
	gate_init(&f.gate);
	gate_publish(&f.gate, publish, &f);
	assert_int_equal(f.version, 1);
	gate_enter(&f.gate);
	assert_true(gate_leave(&f.gate));
	gate_publish(&f.gate, publish, &f);
	assert_int_equal(f.version, 2);
}

static void test_publish_waits_for_the_last_one_to_leave(void **state)
{
	struct fixture f = { .version = 0 };
	pthread_t thread;

	(void)state;
	gate_init(&f.gate);
	for (int i = 0; i < 3; i++)
		gate_enter(&f.gate);
	thread = thread_start(publisher, &f);
	for (int i = 0; i < 3; i++) {
		sleep_us(3000);
		assert_int_equal(load_acquire(&f.published), 0);
		/* Unfair on purpose: an invalidation that comes now does not wait behind the waiting publication. */
		gate_enter(&f.gate);
		gate_leave(&f.gate);
		assert_true(gate_leave(&f.gate));
	}
	thread_join(thread);
	assert_int_equal(f.version, 1);
}

static void test_leave_without_enter_has_no_effect(void **state)
{
	struct fixture f = { .version = 0 };

	(void)state;
	gate_init(&f.gate);
	assert_false(gate_leave(&f.gate));
	gate_enter(&f.gate);
	assert_true(gate_leave(&f.gate));
	assert_false(gate_leave(&f.gate));
	gate_publish(&f.gate, publish, &f);
	assert_int_equal(f.version, 1);
}

static void test_force_open_lets_the_waiter_through(void **state)
{
	struct fixture f = { .version = 0 };
	pthread_t thread;

	(void)state;
	gate_init(&f.gate);
	gate_enter(&f.gate);
	gate_enter(&f.gate);
	thread = thread_start(publisher, &f);
	sleep_us(2000);
	assert_int_equal(load_acquire(&f.published), 0);
	gate_force_open(&f.gate);
	thread_join(thread);
	assert_false(gate_leave(&f.gate));
}

/* --- storms --- */

static void *invalidator(void *arg)
{
	struct fixture *f = arg;
	struct rng rng = rng_make((uintptr_t)&rng);

	while (!load_relaxed(&f->done)) {
		uint32_t version;

		gate_enter(&f->gate);
		version = f->version;
		if (rng_below(&rng, 8) == 0)
			port_yield();
		CHECK(f->version == version); /* I5.2 */
		CHECK(gate_leave(&f->gate));
		for (uint64_t pause = rng_below(&rng, 20000); pause; pause--)
			port_pause();
	}
	return NULL;
}

static void test_storm_begin_and_end_see_the_same_version(void **state)
{
	struct fixture f = { .version = 0 };
	pthread_t threads[3];
	uint32_t rounds = 0;

	(void)state;
	gate_init(&f.gate);
	for (unsigned i = 0; i < 3; i++)
		threads[i] = thread_start(invalidator, &f);
	for (long end = now_ms() + 300; now_ms() < end; rounds++)
		gate_publish(&f.gate, publish, &f);
	store_relaxed(&f.done, 1);
	for (unsigned i = 0; i < 3; i++)
		thread_join(threads[i]);
	assert_int_equal(f.version, rounds);
	assert_int_equal(f.gate.active, 0);
}

/*
 * One invalidation against one publication in each round, with a different delay: the leave may meet the waiter at
 * any point between its look at the count and its sleep.
 */
static void *stepper(void *arg)
{
	struct fixture *f = arg;

	for (uint32_t round = 1; !load_acquire(&f->done); round++) {
		gate_enter(&f->gate);
		for (uint32_t i = round % 400; i; i--)
			port_pause();
		gate_leave(&f->gate);
		while (load_acquire(&f->published) < round && !load_acquire(&f->done))
			port_yield();
	}
	return NULL;
}

static void test_wake_up_is_never_lost(void **state)
{
	struct fixture f = { .version = 0 };
	pthread_t thread;

	(void)state;
	gate_init(&f.gate);
	thread = thread_start(stepper, &f);
	for (long end = now_ms() + 300; now_ms() < end;)
		gate_publish(&f.gate, publish, &f);
	store_release(&f.done, 1);
	thread_join(thread);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_publish_with_nothing_in_flight_is_immediate),
		cmocka_unit_test(test_publish_waits_for_the_last_one_to_leave),
		cmocka_unit_test(test_leave_without_enter_has_no_effect),
		cmocka_unit_test(test_force_open_lets_the_waiter_through),
		cmocka_unit_test(test_storm_begin_and_end_see_the_same_version),
		cmocka_unit_test(test_wake_up_is_never_lost),
	};

	return cmocka_run_group_tests(tests, watchdog_setup, NULL);
}

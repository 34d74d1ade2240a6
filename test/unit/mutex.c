/* SPDX-License-Identifier: MIT */
#include "test/unit/threads.h"

#include "core/sync/mutex.h"

struct fixture {
	struct mutex mutex;
	uint64_t count; /* not atomic */
	bool naps;
};

static void *counter(void *arg)
{
	struct fixture *f = arg;

	for (int i = 0; i < 10000; i++) {
		mutex_lock(&f->mutex);
		f->count++;
		if (f->naps && i % 500 == 0)
			sleep_us(20);
		mutex_unlock(&f->mutex);
	}
	return NULL;
}

static void mutex_excludes(bool naps)
{
	struct fixture f = { .naps = naps };
	pthread_t threads[4];

	for (unsigned i = 0; i < 4; i++)
		threads[i] = thread_start(counter, &f);
	for (unsigned i = 0; i < 4; i++)
		thread_join(threads[i]);
	assert_int_equal(f.count, 40000);
	assert_false(mutex_is_locked(&f.mutex));
	assert_int_equal(f.mutex.word, 0);
}

static void test_mutex_excludes(void **state)
{
	(void)state;
	mutex_excludes(false);
}

static void test_mutex_excludes_while_holders_sleep(void **state)
{
	(void)state;
	mutex_excludes(true);
}

static void *taker(void *arg)
{
	struct fixture *f = arg;

	mutex_lock(&f->mutex);
	f->count++;
	mutex_unlock(&f->mutex);
	return NULL;
}

/* After one unlock all of several sleepers get the mutex in turn: each wakes the next. */
static void test_mutex_unlock_reaches_every_sleeper(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++) {
		struct fixture f = { .count = 0 };
		pthread_t threads[4];

		mutex_lock(&f.mutex);
		assert_true(mutex_is_locked(&f.mutex));
		for (unsigned i = 0; i < 4; i++)
			threads[i] = thread_start(taker, &f);
		sleep_us(1000);
		assert_int_equal(f.count, 0);
		mutex_unlock(&f.mutex);
		for (unsigned i = 0; i < 4; i++)
			thread_join(threads[i]);
		assert_int_equal(f.count, 4);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mutex_excludes),
		cmocka_unit_test(test_mutex_excludes_while_holders_sleep),
		cmocka_unit_test(test_mutex_unlock_reaches_every_sleeper),
	};

	return cmocka_run_group_tests(tests, watchdog_setup, NULL);
}

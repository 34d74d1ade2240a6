/* SPDX-License-Identifier: MIT */
/*
 * SRCU: a grace period waits for every read section that was open when it began, also if it sleeps, and for no other.
 */
#include "test/unit/threads.h"

#include "core/sync/srcu.h"

struct object {
	uint64_t value, check; /* not atomic: equal until the object is freed */
};

struct fixture {
	struct srcu srcu;
	struct object *current; /* atomic */
	uint32_t done, entered, left, over;
	uint64_t reads; /* atomic */
};

static void *holder(void *arg)
{
	struct fixture *f = arg;
	struct srcu_read token = srcu_read_lock(&f->srcu, 3);

	store_release(&f->entered, 1);
	CHECK(word_becomes(&f->left, 1));
	srcu_read_unlock(&f->srcu, token);
	return NULL;
}

static void *synchronizer(void *arg)
{
	struct fixture *f = arg;

	srcu_synchronize(&f->srcu);
	store_release(&f->over, 1);
	return NULL;
}

static void test_synchronize_with_no_reader_returns(void **state)
{
	struct fixture f = { .done = 0 };

	(void)state;
	srcu_init(&f.srcu);
	for (int i = 0; i < 1000; i++) {
		struct srcu_read token = srcu_read_lock(&f.srcu, i);

		srcu_read_unlock(&f.srcu, token);
		srcu_synchronize(&f.srcu);
	}
}

static void test_synchronize_waits_for_open_section_in_either_bank(void **state)
{
	(void)state;
	for (int flips = 0; flips < 4; flips++) {
		struct fixture f = { .done = 0 };
		pthread_t reader, writer;

		srcu_init(&f.srcu);
		for (int i = 0; i < flips; i++)
			srcu_synchronize(&f.srcu);
		reader = thread_start(holder, &f);
		assert_true(word_becomes(&f.entered, 1));
		writer = thread_start(synchronizer, &f);
		sleep_us(4000);
		assert_int_equal(load_acquire(&f.over), 0);
		store_release(&f.left, 1);
		thread_join(reader);
		thread_join(writer);
		assert_int_equal(f.over, 1);
	}
}

static void test_nested_section_keeps_the_outer_one_open(void **state)
{
	struct fixture f = { .done = 0 };
	struct srcu_read outer, inner;
	pthread_t writer;

	(void)state;
	srcu_init(&f.srcu);
	outer = srcu_read_lock(&f.srcu, 0);
	inner = srcu_read_lock(&f.srcu, 0);
	writer = thread_start(synchronizer, &f);
	sleep_us(1000);
	srcu_read_unlock(&f.srcu, inner);
	/* A section that is opened and closed inside the outer one, in whichever bank, does not end the wait. */
	inner = srcu_read_lock(&f.srcu, 0);
	srcu_read_unlock(&f.srcu, inner);
	sleep_us(3000);
	assert_int_equal(load_acquire(&f.over), 0);
	srcu_read_unlock(&f.srcu, outer);
	thread_join(writer);
}

/*
 * A reader is delayed between reading the bank's number and counting itself in, and meanwhile a grace period flips
 * the bank. Here that is done by hand. The next grace period must find the reader in the bank that is not current.
 */
static void test_synchronize_waits_for_reader_that_was_overtaken_by_a_flip(void **state)
{
	struct fixture f = { .done = 0 };
	struct srcu_read token = { .stripe = &f.srcu.stripe[1] };
	pthread_t writer;

	(void)state;
	srcu_init(&f.srcu);
	token.bank = f.srcu.bank & 1;
	srcu_synchronize(&f.srcu);
	assert_int_not_equal(f.srcu.bank & 1, token.bank);
	add_seqcst(&token.stripe->entered[token.bank], 1);
	writer = thread_start(synchronizer, &f);
	sleep_us(4000);
	assert_int_equal(load_acquire(&f.over), 0);
	srcu_read_unlock(&f.srcu, token);
	thread_join(writer);
}

/* Sections that overlap, so that there is an open one at every moment. */
static void *relay(void *arg)
{
	struct fixture *f = arg;
	struct srcu_read token = srcu_read_lock(&f->srcu, 0);

	while (!load_relaxed(&f->done)) {
		struct srcu_read next = srcu_read_lock(&f->srcu, 0);

		srcu_read_unlock(&f->srcu, token);
		token = next;
		add_relaxed(&f->reads, 1);
	}
	srcu_read_unlock(&f->srcu, token);
	return NULL;
}

static void test_synchronize_does_not_wait_for_later_sections(void **state)
{
	struct fixture f = { .done = 0 };
	pthread_t reader;

	(void)state;
	srcu_init(&f.srcu);
	reader = thread_start(relay, &f);
	for (int i = 0; i < 200; i++)
		srcu_synchronize(&f.srcu);
	store_relaxed(&f.done, 1);
	thread_join(reader);
}

/* --- storm: objects are freed a grace period after they were replaced --- */

static unsigned next_hint;

static void *object_reader(void *arg)
{
	struct fixture *f = arg;
	unsigned hint = add_relaxed(&next_hint, 1);
	struct rng rng = rng_make(hint);

	while (!load_relaxed(&f->done)) {
		struct srcu_read token = srcu_read_lock(&f->srcu, hint);
		const struct object *object = load_seqcst(&f->current);

		for (uint64_t looks = rng_below(&rng, 4); looks; looks--) {
			CHECK(object->value == object->check);
			if (rng_below(&rng, 64) == 0)
				sleep_us(30);
		}
		CHECK(object->value == object->check);
		srcu_read_unlock(&f->srcu, token);
		add_relaxed(&f->reads, 1);
	}
	return NULL;
}

static void *object_writer(void *arg)
{
	struct fixture *f = arg;

	for (uint64_t i = 1; !load_relaxed(&f->done); i++) {
		struct object *object = malloc(sizeof(*object)), *old;

		*object = (struct object){ i, i };
		old = swap_seqcst(&f->current, object);
		srcu_synchronize(&f->srcu);
		old->check = ~old->value;
		free(old);
	}
	return NULL;
}

static void objects_outlive_readers(unsigned readers, unsigned writers)
{
	struct fixture f = { .current = calloc(1, sizeof(struct object)) };
	pthread_t threads[8];

	srcu_init(&f.srcu);
	for (unsigned i = 0; i < readers + writers; i++)
		threads[i] = thread_start(i < readers ? object_reader : object_writer, &f);
	STORM_RUN(300000, load_relaxed(&f.reads));
	store_relaxed(&f.done, 1);
	for (unsigned i = 0; i < readers + writers; i++)
		thread_join(threads[i]);
	assert_true(f.reads > 0);
	free(f.current);
}

static void test_storm_objects_outlive_their_readers(void **state)
{
	(void)state;
	objects_outlive_readers(3, 1);
}

static void test_storm_with_several_writers(void **state)
{
	(void)state;
	objects_outlive_readers(2, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_synchronize_with_no_reader_returns),
		cmocka_unit_test(test_synchronize_waits_for_open_section_in_either_bank),
		cmocka_unit_test(test_synchronize_waits_for_reader_that_was_overtaken_by_a_flip),
		cmocka_unit_test(test_nested_section_keeps_the_outer_one_open),
		cmocka_unit_test(test_synchronize_does_not_wait_for_later_sections),
		cmocka_unit_test(test_storm_objects_outlive_their_readers),
		cmocka_unit_test(test_storm_with_several_writers),
	};

	return cmocka_run_group_tests(tests, watchdog_setup, NULL);
}

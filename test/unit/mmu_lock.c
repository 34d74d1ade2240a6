/* SPDX-License-Identifier: MIT */
/* mmu_lock: exclusion, no starving of writers or readers, contention is noticed, no unlock with a flush pending. */
#include "test/unit/threads.h"

#include <signal.h>

#include "core/sync/vm.h"
#include "test/unit/test_vm.h"

struct fixture {
	struct test_vm *test;
	struct vm *vm;
	uint64_t a, b;            /* not atomic: equal whenever no writer is inside */
	uint32_t readers, writers; /* atomic: how many are inside now */
	uint32_t done, entered, over;
	uint64_t reads, writes;   /* atomic */
};

static void fixture_make(struct fixture *f)
{
	*f = (struct fixture){ .test = test_vm_make(1) };
	f->vm = &f->test->vm;
}

static void fixture_free(struct fixture *f)
{
	assert_int_equal(f->vm->mmu_lock.writer, 0);
	assert_int_equal(f->vm->mmu_lock.waiters, 0);
	for (int i = 0; i < MMU_LOCK_STRIPES; i++)
		assert_int_equal(f->vm->mmu_lock.stripe[i].readers, 0);
	test_vm_free(f->test);
}

static void look_as_reader(struct fixture *f)
{
	add_seqcst(&f->readers, 1);
	CHECK(load_seqcst(&f->writers) == 0);
	CHECK(f->a == f->b);
	add_seqcst(&f->readers, -1u);
}

static void change_as_writer(struct fixture *f)
{
	CHECK(add_seqcst(&f->writers, 1) == 0);
	CHECK(load_seqcst(&f->readers) == 0);
	f->a++;
	port_pause();
	CHECK(f->a == ++f->b);
	add_seqcst(&f->writers, -1u);
}

static unsigned next_hint;

static void *reader(void *arg)
{
	struct fixture *f = arg;
	unsigned hint = add_relaxed(&next_hint, 1);
	struct rng rng = rng_make(hint);

	while (!load_relaxed(&f->done)) {
		struct mmu_read token = mmu_read_lock(f->vm, hint);

		look_as_reader(f);
		if (rng_below(&rng, 50) == 0) {
			port_yield();
			look_as_reader(f);
		}
		if (rng_below(&rng, 20) == 0 || mmu_lock_contended(&token.token)) {
			mmu_yield(&token.token);
			look_as_reader(f);
		}
		mmu_read_unlock(&token);
		add_relaxed(&f->reads, 1);
		for (uint64_t pause = rng_below(&rng, 200); pause; pause--)
			port_pause();
	}
	return NULL;
}

static void *writer(void *arg)
{
	struct fixture *f = arg;
	struct rng rng = rng_make((uintptr_t)&rng);

	while (!load_relaxed(&f->done)) {
		struct mmu_write token = mmu_write_lock(f->vm);

		change_as_writer(f);
		if (rng_below(&rng, 20) == 0 || mmu_lock_contended(&token.token)) {
			mmu_yield(&token.token);
			change_as_writer(f);
		}
		mmu_write_unlock(&token);
		add_relaxed(&f->writes, 1);
		for (uint64_t pause = rng_below(&rng, 2000); pause; pause--)
			port_pause();
	}
	return NULL;
}

static void storm(unsigned readers, unsigned writers)
{
	struct fixture f;
	pthread_t threads[8];

	fixture_make(&f);
	for (unsigned i = 0; i < readers + writers; i++)
		threads[i] = thread_start(i < readers ? reader : writer, &f);
	STORM_RUN(250000, (!readers || load_relaxed(&f.reads)) && (!writers || load_relaxed(&f.writes)));
	store_relaxed(&f.done, 1);
	for (unsigned i = 0; i < readers + writers; i++)
		thread_join(threads[i]);
	assert_true(f.a == f.b && f.a >= f.writes);
	assert_true((!readers || f.reads > 0) && (!writers || f.writes > 0));
	fixture_free(&f);
}

static void test_storm_of_readers_and_one_writer(void **state)
{
	(void)state;
	storm(4, 1);
}

static void test_storm_of_readers_and_writers(void **state)
{
	(void)state;
	storm(2, 2);
}

static void test_storm_of_writers(void **state)
{
	(void)state;
	storm(0, 3);
}

/* Readers keep coming, on all stripes. They must not keep a writer out. */
static void *busy_reader(void *arg)
{
	struct fixture *f = arg;
	unsigned hint = add_relaxed(&next_hint, 1);

	while (!load_relaxed(&f->done)) {
		struct mmu_read token = mmu_read_lock(f->vm, hint++);

		look_as_reader(f);
		mmu_read_unlock(&token);
	}
	return NULL;
}

static void test_writer_does_not_starve(void **state)
{
	struct fixture f;
	pthread_t threads[3];

	(void)state;
	fixture_make(&f);
	for (unsigned i = 0; i < 3; i++)
		threads[i] = thread_start(busy_reader, &f);
	for (unsigned i = 0; i < 200; i++) {
		struct mmu_write token = mmu_write_lock(f.vm);

		change_as_writer(&f);
		mmu_write_unlock(&token);
	}
	store_relaxed(&f.done, 1);
	for (unsigned i = 0; i < 3; i++)
		thread_join(threads[i]);
	fixture_free(&f);
}

/* --- contention and yielding --- */

static void *one_write(void *arg)
{
	struct fixture *f = arg;
	struct mmu_write token = mmu_write_lock(f->vm);

	change_as_writer(f);
	mmu_write_unlock(&token);
	store_release(&f->over, 1);
	return NULL;
}

static void *one_read(void *arg)
{
	struct fixture *f = arg;
	struct mmu_read token = mmu_read_lock(f->vm, 7);

	store_release(&f->entered, 1);
	look_as_reader(f);
	mmu_read_unlock(&token);
	store_release(&f->over, 1);
	return NULL;
}

static bool contended_soon(const struct mmu_token *token)
{
	for (long end = now_ms() + 20000; now_ms() < end; sleep_us(100))
		if (mmu_lock_contended(token))
			return true;
	return false;
}

static void test_reader_yields_to_waiting_writer(void **state)
{
	struct mmu_read token;
	struct fixture f;
	pthread_t thread;

	(void)state;
	fixture_make(&f);
	token = mmu_read_lock(f.vm, 0);
	assert_false(mmu_lock_contended(&token.token));
	thread = thread_start(one_write, &f);
	assert_true(contended_soon(&token.token));
	assert_int_equal(load_acquire(&f.over), 0);
	mmu_yield(&token.token);
	/* A waiting writer goes first. */
	assert_int_equal(f.a, 1);
	mmu_read_unlock(&token);
	thread_join(thread);
	fixture_free(&f);
}

static void test_writer_yields_to_waiting_writer(void **state)
{
	struct mmu_write token;
	struct fixture f;
	pthread_t thread;

	(void)state;
	fixture_make(&f);
	token = mmu_write_lock(f.vm);
	assert_false(mmu_lock_contended(&token.token));
	thread = thread_start(one_write, &f);
	assert_true(contended_soon(&token.token));
	assert_int_equal(load_acquire(&f.over), 0);
	for (long end = now_ms() + 20000; !load_acquire(&f.over) && now_ms() < end;)
		mmu_yield(&token.token);
	assert_int_equal(load_acquire(&f.over), 1);
	mmu_write_unlock(&token);
	thread_join(thread);
	fixture_free(&f);
}

/* --- a waiting reader is next --- */

static struct mmu_lock *stopped_at;
static uint32_t stopped, let_go; /* atomic */

/* Does the next writer hold back, although it is its turn, so that waiting readers go first? */
static bool a_writer_stands_back(const struct mmu_lock *lock)
{
	for (int i = 0; i < 2000; i++, port_yield())
		if (!mutex_is_locked(&lock->writers) || load_seqcst(&lock->writer))
			return false;
	return true;
}

/*
 * Keeps the reader from looking at the lock, as a host does that gives its CPU to others. It may go on only when a
 * writer holds back for it.
 */
static void reader_stop(int signal)
{
	(void)signal;
	store_release(&stopped, 1);
	while (!load_acquire(&let_go) && !a_writer_stands_back(stopped_at))
		continue;
}

/* `again`: how the writer lets the lock go and takes it again. */
static void reader_is_next(void (*again)(struct vm *vm, struct mmu_write *token))
{
	struct sigaction stop = { .sa_handler = reader_stop }, before;
	struct mmu_write token;
	struct fixture f;
	pthread_t thread;

	fixture_make(&f);
	stopped_at = &f.vm->mmu_lock;
	stopped = let_go = 0;
	assert_int_equal(sigaction(SIGUSR1, &stop, &before), 0);
	token = mmu_write_lock(f.vm);
	assert_false(mmu_lock_contended(&token.token));
	thread = thread_start(one_read, &f);
	assert_true(contended_soon(&token.token));
	assert_int_equal(pthread_kill(thread, SIGUSR1), 0);
	assert_true(word_becomes(&stopped, 1));
	again(f.vm, &token);
	assert_int_equal(load_acquire(&f.entered), 1);
	store_release(&let_go, 1);
	mmu_write_unlock(&token);
	thread_join(thread);
	assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
	fixture_free(&f);
}

static void unlock_and_lock(struct vm *vm, struct mmu_write *token)
{
	mmu_write_unlock(token);
	*token = mmu_write_lock(vm);
}

static void yield(struct vm *vm, struct mmu_write *token)
{
	(void)vm;
	mmu_yield(&token->token);
}

static void test_writer_that_comes_back_at_once_finds_the_waiting_reader_served(void **state)
{
	(void)state;
	reader_is_next(unlock_and_lock);
}

static void test_writer_that_yields_finds_the_waiting_reader_served(void **state)
{
	(void)state;
	reader_is_next(yield);
}

static void test_drop_lets_writers_in_and_retake_keeps_them_out(void **state)
{
	struct mmu_read token;
	struct fixture f;
	pthread_t thread;

	(void)state;
	fixture_make(&f);
	token = mmu_read_lock(f.vm, 5);
	mmu_drop(&token.token);
	thread = thread_start(one_write, &f);
	assert_true(word_becomes(&f.over, 1));
	thread_join(thread);
	mmu_retake(&token.token);
	store_release(&f.over, 0);
	thread = thread_start(one_write, &f);
	sleep_us(2000);
	assert_int_equal(load_acquire(&f.over), 0);
	mmu_read_unlock(&token);
	thread_join(thread);
	fixture_free(&f);
}

/* --- the flush that a holder owes --- */

static void test_flush_is_done_once_and_only_when_owed(void **state)
{
	struct mmu_read token;
	struct fixture f;

	(void)state;
	fixture_make(&f);
	token = mmu_read_lock(f.vm, 0);
	mmu_flush(&token.token);
	assert_int_equal(f.vm->stats.tlb_flushes, 0);
	token.token.flush = true;
	mmu_flush(&token.token);
	mmu_flush(&token.token);
	assert_int_equal(f.vm->stats.tlb_flushes, 1);
	token.token.flush = true;
	mmu_yield(&token.token);
	assert_int_equal(f.vm->stats.tlb_flushes, 2);
	assert_false(token.token.flush);
	token.token.flush = true;
	mmu_drop(&token.token);
	assert_int_equal(f.vm->stats.tlb_flushes, 3);
	mmu_retake(&token.token);
	mmu_read_unlock(&token);
	fixture_free(&f);
}

/* The test prints a report on stderr: that is expected. */
static void test_unlock_with_flush_pending_kills_the_vm_after_flushing(void **state)
{
	struct mmu_write write;
	struct mmu_read read;
	struct fixture f;

	(void)state;
	fixture_make(&f);
	write = mmu_write_lock(f.vm);
	write.token.flush = true;
	mmu_write_unlock(&write);
	assert_true(vm_is_dead(f.vm));
	assert_int_equal(f.vm->stats.tlb_flushes, 1);
	f.vm->dead = 0;
	read = mmu_read_lock(f.vm, 0);
	read.token.flush = true;
	mmu_read_unlock(&read);
	assert_true(vm_is_dead(f.vm));
	assert_int_equal(f.vm->stats.tlb_flushes, 2);
	f.vm->dead = 0;
	fixture_free(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_storm_of_readers_and_one_writer),
		cmocka_unit_test(test_storm_of_readers_and_writers),
		cmocka_unit_test(test_storm_of_writers),
		cmocka_unit_test(test_writer_does_not_starve),
		cmocka_unit_test(test_reader_yields_to_waiting_writer),
		cmocka_unit_test(test_writer_yields_to_waiting_writer),
		cmocka_unit_test(test_writer_that_comes_back_at_once_finds_the_waiting_reader_served),
		cmocka_unit_test(test_writer_that_yields_finds_the_waiting_reader_served),
		cmocka_unit_test(test_drop_lets_writers_in_and_retake_keeps_them_out),
		cmocka_unit_test(test_flush_is_done_once_and_only_when_owed),
		cmocka_unit_test(test_unlock_with_flush_pending_kills_the_vm_after_flushing),
	};

	return cmocka_run_group_tests(tests, watchdog_setup, NULL);
}

/* SPDX-License-Identifier: MIT */
/* Threads for unit tests, and a watchdog for tests that may hang. */
#ifndef TEST_UNIT_THREADS_H
#define TEST_UNIT_THREADS_H

#include <pthread.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "core/sync/atomic.h"
#include "test/unit/test.h"

static inline pthread_t thread_start(void *(*body)(void *), void *arg)
{
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, body, arg) == 0);
	return thread;
}

static inline void thread_join(pthread_t thread)
{
	CHECK(pthread_join(thread, NULL) == 0);
}

static inline void sleep_us(long us)
{
	struct timespec time = { us / 1000000, us % 1000000 * 1000 };

	nanosleep(&time, NULL);
}

static inline long now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* Wait until a word becomes `value`. Returns: false if it did not, in a time that is ample on a busy machine, too. */
static inline bool word_becomes(const uint32_t *word, uint32_t value)
{
	for (long end = now_ms() + 20000; now_ms() < end; sleep_us(50))
		if (load_acquire(word) == value)
			return true;
	return load_acquire(word) == value;
}

/*
 * Let a storm go on for a time, and then until the condition says that it has done what it is for. A time alone is too
 * short on a machine that is busy with other things. The condition reads atomically.
 */
#define STORM_RUN(us, condition)                                                            \
	do {                                                                                \
		long end_ = now_ms() + 20000;                                               \
                                                                                            \
		for (sleep_us(us); !(condition) && now_ms() < end_; sleep_us(1000))         \
			continue;                                                           \
	} while (0)

/* Take memory away. Its addresses stay reserved: otherwise the library's next mapping might make them accessible. */
static inline void memory_goes(void *memory, size_t bytes)
{
	CHECK(mmap(memory, bytes, PROT_NONE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == memory);
}

/* Let a test that hangs fail: SIGALRM ends the program. */
static inline int watchdog_setup(void **state)
{
	(void)state;
	alarm(55);
	return 0;
}

#endif

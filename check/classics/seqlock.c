/* SPDX-License-Identifier: MIT */
/*
 * A sequence lock, with the orders of Boehm, "Can Seqlocks Get Along with Programming Language Memory Models?", MSPC
 * 2012. A reader that saw an odd sequence, or a change of it, reads again.
 *
 * checked: holds
 * checked -DNO_ACQUIRE: assertion
 * checked -DNO_RELEASE: assertion
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

static atomic_uint sequence, a, b;

static void *writer(void *arg)
{
	unsigned before = atomic_load_explicit(&sequence, memory_order_relaxed);

	(void)arg;
	atomic_store_explicit(&sequence, before + 1, memory_order_relaxed);
#ifndef NO_RELEASE
	atomic_thread_fence(memory_order_release);
#endif
	atomic_store_explicit(&a, 1, memory_order_relaxed);
	atomic_store_explicit(&b, 1, memory_order_relaxed);
	atomic_store_explicit(&sequence, before + 2, memory_order_release);
	return NULL;
}

static void *reader(void *arg)
{
	unsigned before, after, x, y;

	(void)arg;
	do {
		before = atomic_load_explicit(&sequence, memory_order_acquire);
		x = atomic_load_explicit(&a, memory_order_relaxed);
		y = atomic_load_explicit(&b, memory_order_relaxed);
#ifndef NO_ACQUIRE
		atomic_thread_fence(memory_order_acquire);
#endif
		after = atomic_load_explicit(&sequence, memory_order_relaxed);
	} while (before != after || before % 2);
	assert(x == y);
	return NULL;
}

int main(void)
{
	pthread_t thread[2];

	pthread_create(&thread[0], NULL, writer, NULL);
	pthread_create(&thread[1], NULL, reader, NULL);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
}

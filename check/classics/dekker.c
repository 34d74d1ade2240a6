/* SPDX-License-Identifier: MIT */
/*
 * The algorithm of Dekker, as in Dijkstra, "Cooperating Sequential Processes", 1965: mutual exclusion of two by loads
 * and stores. With fences, where Peterson has sequentially consistent accesses.
 *
 * checked: holds
 * checked -DNO_FENCE: data race
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

static atomic_bool wants[2];
static atomic_int turn;
static int counter;

static void want(int me)
{
	atomic_store_explicit(&wants[me], true, memory_order_relaxed);
#ifndef NO_FENCE
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

static void *enter(void *arg)
{
	int me = *(int *)arg, other = 1 - me;

	want(me);
	while (atomic_load_explicit(&wants[other], memory_order_acquire)) {
		if (atomic_load_explicit(&turn, memory_order_relaxed) == me)
			continue;
		atomic_store_explicit(&wants[me], false, memory_order_relaxed);
		while (atomic_load_explicit(&turn, memory_order_relaxed) != me)
			;
		want(me);
	}
	counter++;
	atomic_store_explicit(&turn, other, memory_order_relaxed);
	atomic_store_explicit(&wants[me], false, memory_order_release);
	return NULL;
}

int main(void)
{
	pthread_t thread[2];
	int number[2] = { 0, 1 };

	for (int i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, enter, &number[i]);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	assert(counter == 2);
}

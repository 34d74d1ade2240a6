/* SPDX-License-Identifier: MIT */
/*
 * Peterson, "Myths About the Mutual Exclusion Problem", Information Processing Letters 1981. Each thread must be seen
 * to want in before it looks at the other: that takes sequential consistency, on x86 as well.
 *
 * checked: holds
 * checked -DACQUIRE_RELEASE: data race
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#ifdef ACQUIRE_RELEASE
#define STORE memory_order_release
#define LOAD  memory_order_acquire
#else
#define STORE memory_order_seq_cst
#define LOAD  memory_order_seq_cst
#endif

static atomic_bool wants[2];
atomic_int turn; /* If it were static, clang 14 would make it a local variable of enter(), the only one to use it. */
static int counter;

static void *enter(void *arg)
{
	int me = *(int *)arg, other = 1 - me;

	atomic_store_explicit(&wants[me], true, STORE);
	atomic_store_explicit(&turn, other, STORE);
	while (atomic_load_explicit(&wants[other], LOAD) && atomic_load_explicit(&turn, LOAD) == other)
		;
	counter++;
	atomic_store_explicit(&wants[me], false, STORE);
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

/* SPDX-License-Identifier: MIT */
/*
 * Mellor-Crummey and Scott, "Algorithms for Scalable Synchronization on Shared-Memory Multiprocessors", ACM TOCS 1991.
 * Waiters queue; each spins on a node of its own, which here is thread-local.
 *
 * checked: holds
 * checked -DRELAXED: data race
 * checked -DFORGETS: deadlock
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#ifdef RELAXED
#define HAND_OVER memory_order_relaxed
#else
#define HAND_OVER memory_order_release
#endif

struct waiter {
	_Atomic(struct waiter *) next;
	atomic_bool waits;
};

static _Atomic(struct waiter *) last;
static _Thread_local struct waiter own;
static int counter;

static void lock(void)
{
	struct waiter *before;

	atomic_store_explicit(&own.next, NULL, memory_order_relaxed);
	atomic_store_explicit(&own.waits, true, memory_order_relaxed);
	before = atomic_exchange_explicit(&last, &own, memory_order_acq_rel);
	if (!before)
		return;
	atomic_store_explicit(&before->next, &own, memory_order_release);
	while (atomic_load_explicit(&own.waits, memory_order_acquire))
		;
}

static void unlock(void)
{
	struct waiter *self = &own, *next = atomic_load_explicit(&own.next, memory_order_acquire);

	if (!next) {
		if (atomic_compare_exchange_strong_explicit(&last, &self, NULL, memory_order_release,
		                                            memory_order_relaxed))
			return;
#ifdef FORGETS /* who has queued, and not linked itself yet */
		return;
#endif
		while (!(next = atomic_load_explicit(&own.next, memory_order_acquire)))
			;
	}
	atomic_store_explicit(&next->waits, false, HAND_OVER);
}

static void *count(void *arg)
{
	(void)arg;
	lock();
	counter++;
	unlock();
	return NULL;
}

int main(void)
{
	pthread_t thread[2];

	for (int i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, count, NULL);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	assert(counter == 2);
}

/* SPDX-License-Identifier: MIT */
/*
 * Reed and Kanodia, "Synchronization with Eventcounts and Sequencers", CACM 1979: take a number, and wait until it is
 * called.
 *
 * checked: holds
 * checked -DRELAXED: data race
 * checked -DSPLIT: data race
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

#ifdef RELAXED
#define CALL memory_order_relaxed
#else
#define CALL memory_order_release
#endif

static atomic_uint next, called;
static int counter;

static unsigned draw(void)
{
#ifdef SPLIT /* two may draw the same number */
	unsigned mine = atomic_load_explicit(&next, memory_order_relaxed);

	atomic_store_explicit(&next, mine + 1, memory_order_relaxed);
	return mine;
#else
	return atomic_fetch_add_explicit(&next, 1, memory_order_relaxed);
#endif
}

static void *count(void *arg)
{
	unsigned mine = draw();

	(void)arg;
	while (atomic_load_explicit(&called, memory_order_acquire) != mine)
		;
	counter++;
	atomic_store_explicit(&called, mine + 1, CALL);
	return NULL;
}

int main(void)
{
	pthread_t thread[3];

	for (int i = 0; i < 3; i++)
		pthread_create(&thread[i], NULL, count, NULL);
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	assert(counter == 3);
}

/* SPDX-License-Identifier: MIT */
/*
 * Lamport, "Specifying Concurrent Program Modules", ACM TOPLAS 1983: a ring between one producer and one consumer needs
 * no read-modify-write.
 *
 * checked: holds
 * checked -DRELAXED: data race
 * checked -DROOM=3: assertion
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

#define SIZE  2u
#define ITEMS 4u
#ifndef ROOM
#define ROOM SIZE
#endif
#ifdef RELAXED
#define PUBLISH memory_order_relaxed
#else
#define PUBLISH memory_order_release
#endif

static unsigned ring[SIZE];
static atomic_uint written, consumed;

static void *producer(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < ITEMS; i++) {
		while (i - atomic_load_explicit(&consumed, memory_order_acquire) >= ROOM)
			;
		ring[i % SIZE] = i + 1;
		atomic_store_explicit(&written, i + 1, PUBLISH);
	}
	return NULL;
}

static void *consumer(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < ITEMS; i++) {
		while (atomic_load_explicit(&written, memory_order_acquire) == i)
			;
		assert(ring[i % SIZE] == i + 1);
		atomic_store_explicit(&consumed, i + 1, memory_order_release);
	}
	return NULL;
}

int main(void)
{
	pthread_t thread[2];

	pthread_create(&thread[0], NULL, producer, NULL);
	pthread_create(&thread[1], NULL, consumer, NULL);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
}

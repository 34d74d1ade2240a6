/* SPDX-License-Identifier: MIT */
/*
 * Treiber, "Systems Programming: Coping with Parallelism", IBM RJ 5118, 1986. A stack whose top is swapped by one
 * compare-and-swap. When a popped node is pushed again, the swap may succeed though the node below has changed (ABA);
 * a count beside the top tells the two apart.
 *
 * checked: holds
 * checked -DABA: assertion
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

#define NODES 3

static atomic_uint below[NODES + 1]; /* nodes are numbers from 1; below[n]: the node under n; 0: none */
static atomic_ulong top;             /* a node, and from bit 16 a count of changes */
static atomic_uint owners[NODES + 1];

static unsigned node_of(unsigned long word) { return word & 0xffff; }

static unsigned long with_count(unsigned long before, unsigned node)
{
#ifdef ABA
	(void)before;
	return node;
#else
	return ((before >> 16) + 1) << 16 | node;
#endif
}

static void push(unsigned node)
{
	unsigned long old = atomic_load_explicit(&top, memory_order_relaxed);

	do
		atomic_store_explicit(&below[node], node_of(old), memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(&top, &old, with_count(old, node), memory_order_release,
	                                              memory_order_relaxed));
}

static unsigned pop(void)
{
	unsigned long old = atomic_load_explicit(&top, memory_order_acquire);
	unsigned next;

	do {
		if (!node_of(old))
			return 0;
		next = atomic_load_explicit(&below[node_of(old)], memory_order_relaxed);
	} while (!atomic_compare_exchange_weak_explicit(&top, &old, with_count(old, next), memory_order_acquire,
	                                                memory_order_acquire));
	return node_of(old);
}

/* A popped node is its thread's until it is pushed again. */
static unsigned take(void)
{
	unsigned node = pop();

	if (node)
		assert(atomic_fetch_add_explicit(&owners[node], 1, memory_order_relaxed) == 0);
	return node;
}

static void give(unsigned node)
{
	if (!node)
		return;
	atomic_fetch_sub_explicit(&owners[node], 1, memory_order_relaxed);
	push(node);
}

static void *take_two(void *arg)
{
	(void)arg;
	take();
	take();
	return NULL;
}

static void *take_two_give_first(void *arg)
{
	unsigned first = take();

	(void)arg;
	take();
	give(first);
	return NULL;
}

int main(void)
{
	pthread_t thread[2];

	for (unsigned i = 1; i <= NODES; i++)
		push(i);
	pthread_create(&thread[0], NULL, take_two, NULL);
	pthread_create(&thread[1], NULL, take_two_give_first, NULL);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
}

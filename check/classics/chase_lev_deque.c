/* SPDX-License-Identifier: MIT */
/*
 * Chase and Lev, "Dynamic Circular Work-Stealing Deque", SPAA 2005, with the orders of Le, Pop, Cohen and Zappa
 * Nardelli, "Correct and Efficient Work-Stealing for Weak Memory Models", PPoPP 2013. As first printed there, a grown
 * array is published without a release: a thief may see the new array and not what was copied into it (found by
 * Norris and Demsky, "CDSChecker", OOPSLA 2013).
 *
 * checked: holds
 * checked -DPUBLISHED: data race
 * checked -DNO_FENCE: assertion
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#ifdef PUBLISHED
#define GROWN memory_order_relaxed
#else
#define GROWN memory_order_release
#endif

struct array {
	long size;
	atomic_int item[4];
};

static atomic_long top, bottom;
static _Atomic(struct array *) array;
static atomic_int taken[4]; /* how often each item was taken */

static struct array *grow(struct array *old, long t, long b)
{
	struct array *new = calloc(1, sizeof(*new));

	new->size = 2 * old->size;
	for (long i = t; i < b; i++)
		atomic_store_explicit(&new->item[i % new->size],
		                      atomic_load_explicit(&old->item[i % old->size], memory_order_relaxed),
		                      memory_order_relaxed);
	atomic_store_explicit(&array, new, GROWN);
	return new;
}

static void push(int item)
{
	long b = atomic_load_explicit(&bottom, memory_order_relaxed);
	long t = atomic_load_explicit(&top, memory_order_acquire);
	struct array *a = atomic_load_explicit(&array, memory_order_relaxed);

	if (b - t > a->size - 1)
		a = grow(a, t, b);
	atomic_store_explicit(&a->item[b % a->size], item, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	atomic_store_explicit(&bottom, b + 1, memory_order_relaxed);
}

static int take(void)
{
	long b = atomic_load_explicit(&bottom, memory_order_relaxed) - 1, t;
	struct array *a = atomic_load_explicit(&array, memory_order_relaxed);
	int item = 0;

	atomic_store_explicit(&bottom, b, memory_order_relaxed);
#ifndef NO_FENCE
	atomic_thread_fence(memory_order_seq_cst);
#endif
	t = atomic_load_explicit(&top, memory_order_relaxed);
	if (t <= b) {
		item = atomic_load_explicit(&a->item[b % a->size], memory_order_relaxed);
		if (t < b)
			return item;
		if (!atomic_compare_exchange_strong_explicit(&top, &t, t + 1, memory_order_seq_cst,
		                                             memory_order_relaxed))
			item = 0;
	}
	atomic_store_explicit(&bottom, b + 1, memory_order_relaxed);
	return item;
}

/* Returns: the item; 0: there is none, or another thread took it. */
static int steal(void)
{
	long t = atomic_load_explicit(&top, memory_order_acquire), b;
	struct array *a;
	int item;

	atomic_thread_fence(memory_order_seq_cst);
	b = atomic_load_explicit(&bottom, memory_order_acquire);
	if (t >= b)
		return 0;
	a = atomic_load_explicit(&array, memory_order_acquire);
	item = atomic_load_explicit(&a->item[t % a->size], memory_order_relaxed);
	if (!atomic_compare_exchange_strong_explicit(&top, &t, t + 1, memory_order_seq_cst, memory_order_relaxed))
		return 0;
	assert(item); /* else it was not in the array yet */
	return item;
}

static void count(int item)
{
	if (item)
		assert(atomic_fetch_add_explicit(&taken[item], 1, memory_order_relaxed) == 0);
}

static void *thief(void *arg)
{
	(void)arg;
	count(steal());
	count(steal());
	return NULL;
}

int main(void)
{
	struct array *first = calloc(1, sizeof(*first));
	pthread_t thread;

	first->size = 1;
	atomic_init(&array, first);
	pthread_create(&thread, NULL, thief, NULL);
	push(1);
	push(2); /* the array grows, if item 1 is still there */
	count(take());
	count(take());
	pthread_join(thread, NULL);
	assert(taken[1] == 1 && taken[2] == 1);
}

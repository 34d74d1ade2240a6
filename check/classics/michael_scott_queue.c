/* SPDX-License-Identifier: MIT */
/*
 * Michael and Scott, "Simple, Fast, and Practical Non-Blocking and Blocking Concurrent Queue Algorithms", PODC 1996.
 * The queue always has a dummy node; the tail may lag behind, and whoever sees that helps it on.
 *
 * checked: holds
 * checked -DRELAXED: data race
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#ifdef RELAXED
#define PUBLISH memory_order_relaxed /* the value in the node is not published with it */
#else
#define PUBLISH memory_order_release
#endif

struct node {
	int value;
	_Atomic(struct node *) next;
};

static _Atomic(struct node *) head, tail;
static int got;

static void tail_on(struct node *from, struct node *to)
{
	atomic_compare_exchange_strong_explicit(&tail, &from, to, memory_order_release, memory_order_relaxed);
}

static void enqueue(int value)
{
	struct node *new = calloc(1, sizeof(*new)), *last, *next;

	new->value = value;
	for (;;) {
		last = atomic_load_explicit(&tail, memory_order_acquire);
		next = atomic_load_explicit(&last->next, memory_order_acquire);
		if (next)
			tail_on(last, next);
		else if (atomic_compare_exchange_strong_explicit(&last->next, &next, new, PUBLISH,
		                                                 memory_order_relaxed))
			break;
	}
	tail_on(last, new);
}

static int dequeue(void)
{
	for (;;) {
		struct node *first = atomic_load_explicit(&head, memory_order_acquire);
		struct node *last = atomic_load_explicit(&tail, memory_order_acquire);
		struct node *next = atomic_load_explicit(&first->next, memory_order_acquire);
		int value;

		if (!next)
			return 0;
		if (first == last) {
			tail_on(last, next);
			continue;
		}
		value = next->value;
		if (atomic_compare_exchange_strong_explicit(&head, &first, next, memory_order_acq_rel,
		                                            memory_order_relaxed))
			return value;
	}
}

static void *put(void *arg)
{
	enqueue(*(int *)arg);
	return NULL;
}

static void *get(void *arg)
{
	(void)arg;
	got = dequeue();
	return NULL;
}

int main(void)
{
	struct node *dummy = calloc(1, sizeof(*dummy));
	int value[2] = { 1, 2 }, left = 0;
	pthread_t thread[3];

	atomic_init(&head, dummy);
	atomic_init(&tail, dummy);
	for (int i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, put, &value[i]);
	pthread_create(&thread[2], NULL, get, NULL);
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	for (int next; (next = dequeue());)
		left += next;
	assert(got + left == 3);
}

/* SPDX-License-Identifier: MIT */
/*
 * A list that is read without locks, with the read-copy-update of Desnoyers, McKenney, Stern, Dagenais and Walpole,
 * "User-Level Implementations of Read-Copy Update", IEEE TPDS 2012 (two phases, full barriers).
 *
 * checked: holds
 * checked -DNO_WAIT: use after free
 * checked -DRELAXED: data race
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#ifdef RELAXED
#define PUBLISH memory_order_relaxed
#else
#define PUBLISH memory_order_release
#endif

#define PHASE 2u

struct node {
	int key, value;
	_Atomic(struct node *) next;
};

static _Atomic(struct node *) list;
static atomic_uint phase = 1; /* bit 0: set, so that it says "in a section" */
static atomic_uint section;   /* of the one reader. 0: outside; else the phase when it began */

static void read_lock(void)
{
	atomic_store_explicit(&section, atomic_load_explicit(&phase, memory_order_relaxed), memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
}

static void read_unlock(void)
{
	atomic_store_explicit(&section, 0, memory_order_release);
}

static void flip_and_wait(void)
{
	unsigned now = atomic_load_explicit(&phase, memory_order_relaxed) ^ PHASE, seen;

	atomic_store_explicit(&phase, now, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	do
		seen = atomic_load_explicit(&section, memory_order_acquire);
	while (seen && ((seen ^ now) & PHASE));
}

static void synchronize(void)
{
#ifndef NO_WAIT
	atomic_thread_fence(memory_order_seq_cst);
	flip_and_wait();
	flip_and_wait();
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

static struct node *make(int key, int value, struct node *next)
{
	struct node *node = malloc(sizeof(*node));

	node->key = key;
	node->value = value;
	atomic_init(&node->next, next);
	return node;
}

static void *reader(void *arg)
{
	(void)arg;
	read_lock();
	for (struct node *at = atomic_load_explicit(&list, memory_order_acquire); at;
	     at = atomic_load_explicit(&at->next, memory_order_acquire))
		assert(at->value == 10 * at->key || at->value == 11 * at->key);
	read_unlock();
	return NULL;
}

int main(void)
{
	struct node *second = make(2, 20, NULL), *old = make(1, 10, second);
	pthread_t thread;

	atomic_init(&list, old);
	pthread_create(&thread, NULL, reader, NULL);
	atomic_store_explicit(&list, make(1, 11, second), PUBLISH);
	synchronize();
	free(old);
	pthread_join(thread, NULL);
}

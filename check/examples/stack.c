/* SPDX-License-Identifier: MIT */
/*
 * Treiber's stack, with a pop that gives the node back at once. That makes two mistakes. Another thread may still
 * look into the node (use after free). When nodes are used again, its compare-and-swap may succeed on a head that
 * only looks the same (ABA). The right version keeps popped nodes until no thread looks at them, by grace periods.
 */
#include <stdatomic.h>

#include "check/check.h"

struct node {
	_Atomic(struct node *) next;
	int value;
};

static _Atomic(struct node *) top;
static int got[2];
static char domain;

static void push(struct node *node)
{
	struct node *old = atomic_load_explicit(&top, memory_order_relaxed);

	do
		atomic_store_explicit(&node->next, old, memory_order_relaxed);
	while (!atomic_compare_exchange_strong_explicit(&top, &old, node, memory_order_release, memory_order_relaxed));
}

static struct node *pop(void)
{
	struct node *old = atomic_load_explicit(&top, memory_order_acquire);

	while (old) {
		struct node *next = atomic_load_explicit(&old->next, memory_order_relaxed);

		if (atomic_compare_exchange_strong_explicit(&top, &old, next, memory_order_acquire,
		                                            memory_order_acquire))
			return old;
	}
	return NULL;
}

static void fill(void)
{
	for (int value = 1; value <= 2; value++) {
		struct node *node = check_alloc(sizeof(*node), 8);

		node->value = value;
		push(node);
	}
}

/* ---- freed at once ---- */

static void pop_and_free(int me)
{
	struct node *node = pop();

	got[me] = node->value;
	check_free(node);
}

static void free0(void) { pop_and_free(0); }
static void free1(void) { pop_and_free(1); }

/* ---- used again at once ---- */

static void pop_one(void)
{
	struct node *node = pop();

	got[0] = node ? node->value : 0;
}

static void pop_two_push_first(void)
{
	struct node *first = pop(), *second = pop();

	got[1] = second ? second->value : 0;
	if (first)
		push(first);
}

/* There are two nodes. In any order no value is popped twice. (1 is below 2; 2 may come back.) */
static void nobody_got_the_same(void)
{
	check_assert(!(got[0] == 1 && got[1] == 1));
	check_assert(!(got[1] == 1 && atomic_load(&top) && atomic_load(&top)->value == 1));
}

/* ---- freed when no thread looks ---- */

static void pop_and_defer(int me)
{
	struct node *node;

	check_rcu_read_lock(&domain);
	node = pop();
	check_rcu_read_unlock(&domain);
	got[me] = node->value;
	check_rcu_call(&domain, check_free, node);
}

static void defer0(void) { pop_and_defer(0); }
static void defer1(void) { pop_and_defer(1); }

static void each_got_one(void)
{
	check_assert(got[0] + got[1] == 3);
}

CHECK_SCENARIO(stack) = {
	.name = "stack",
	.protocol = "",
	.claim = "each value is popped once; nodes are freed after a grace period",
	.threads = 2,
	.setup = fill,
	.thread = { defer0, defer1 },
	.finish = each_got_one,
};

CHECK_SCENARIO(stack_free_broken) = {
	.name = "stack_free_broken",
	.protocol = "",
	.claim = "pop looks into a node that was freed",
	.threads = 2,
	.setup = fill,
	.thread = { free0, free1 },
	.flags = CHECK_EXPECT_FAILURE,
};

CHECK_SCENARIO(stack_aba_broken) = {
	.name = "stack_aba_broken",
	.protocol = "",
	.claim = "a head that came back is taken for one that never went",
	.threads = 2,
	.setup = fill,
	.thread = { pop_one, pop_two_push_first },
	.finish = nobody_got_the_same,
	.flags = CHECK_EXPECT_FAILURE,
};

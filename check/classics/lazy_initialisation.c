/* SPDX-License-Identifier: MIT */
/*
 * Initialisation by whoever comes first, with double-checked locking: Schmidt and Harrison, PLoP 1996, and what "The
 * Double-Checked Locking is Broken Declaration" found missing. With C11 threads.
 *
 * checked: holds
 * checked -DRELAXED: data race
 * checked -DONE_CHECK: assertion
 */
#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <threads.h>

#ifdef RELAXED
#define READY_LOAD  memory_order_relaxed
#define READY_STORE memory_order_relaxed
#else
#define READY_LOAD  memory_order_acquire
#define READY_STORE memory_order_release
#endif

struct thing {
	int value;
};

static mtx_t lock;
static _Atomic(struct thing *) thing;
static int made;

static struct thing *get(void)
{
	struct thing *seen = atomic_load_explicit(&thing, READY_LOAD);

	if (seen)
		return seen;
	mtx_lock(&lock);
#ifndef ONE_CHECK
	seen = atomic_load_explicit(&thing, memory_order_relaxed);
#endif
	if (!seen) {
		seen = malloc(sizeof(*seen));
		seen->value = 42;
		made++;
		atomic_store_explicit(&thing, seen, READY_STORE);
	}
	mtx_unlock(&lock);
	return seen;
}

static int use(void *arg)
{
	(void)arg;
	return get()->value;
}

int main(void)
{
	thrd_t thread[2];
	int value;

	mtx_init(&lock, mtx_plain);
	for (int i = 0; i < 2; i++)
		thrd_create(&thread[i], use, NULL);
	for (int i = 0; i < 2; i++) {
		thrd_join(thread[i], &value);
		assert(value == 42);
	}
	assert(made == 1);
}

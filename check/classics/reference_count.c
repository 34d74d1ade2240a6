/* SPDX-License-Identifier: MIT */
/*
 * A reference count with the orders of Boost and of the shared_ptr in libstdc++: counting up is relaxed; counting down
 * releases; the thread that comes to zero acquires before it frees.
 *
 * checked: holds
 * checked -DRELAXED: data race
 * checked -DNO_ACQUIRE: data race
 * checked -DSPLIT: data race
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#ifdef RELAXED
#define DOWN memory_order_relaxed
#else
#define DOWN memory_order_release
#endif

struct object {
	atomic_int count;
	int used[2];
};

struct work {
	struct object *object;
	int part;
};

static int count_down(atomic_int *count)
{
#ifdef SPLIT
	int left = atomic_load_explicit(count, memory_order_acquire) - 1;

	atomic_store_explicit(count, left, DOWN);
	return left;
#else
	return atomic_fetch_sub_explicit(count, 1, DOWN) - 1;
#endif
}

static void put(struct object *object)
{
	if (count_down(&object->count) != 0)
		return;
#ifndef NO_ACQUIRE
	atomic_thread_fence(memory_order_acquire);
#endif
	free(object);
}

static void *use(void *arg)
{
	struct work *work = arg;

	work->object->used[work->part]++;
	put(work->object);
	return NULL;
}

int main(void)
{
	struct object *object = calloc(1, sizeof(*object));
	struct work work[2] = { { object, 0 }, { object, 1 } };
	pthread_t thread[2];

	atomic_init(&object->count, 1);
	for (int i = 0; i < 2; i++) {
		atomic_fetch_add_explicit(&object->count, 1, memory_order_relaxed);
		pthread_create(&thread[i], NULL, use, &work[i]);
	}
	put(object);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
}

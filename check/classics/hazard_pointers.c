/* SPDX-License-Identifier: MIT */
/*
 * Michael, "Hazard Pointers: Safe Memory Reclamation for Lock-Free Objects", IEEE TPDS 2004. A reader announces what it
 * is about to use, then looks whether it is still there. Who removed something keeps it while it is announced.
 *
 * checked: holds
 * checked -DNO_LOOK: use after free
 * checked -DNO_FENCE: use after free
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct box {
	int value;
};

static _Atomic(struct box *) shared, hazard;

static struct box *make(int value)
{
	struct box *box = malloc(sizeof(*box));

	box->value = value;
	return box;
}

static void fence(void)
{
#ifndef NO_FENCE
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

static struct box *protect(void)
{
	struct box *box, *again;

	do {
		box = atomic_load_explicit(&shared, memory_order_acquire);
		atomic_store_explicit(&hazard, box, memory_order_release);
		fence();
#ifdef NO_LOOK
		again = box;
#else
		again = atomic_load_explicit(&shared, memory_order_acquire);
#endif
	} while (box != again);
	return box;
}

static void *reader(void *arg)
{
	int value = protect()->value;

	(void)arg;
	assert(value == 1 || value == 2);
	atomic_store_explicit(&hazard, NULL, memory_order_release);
	return NULL;
}

static void *writer(void *arg)
{
	struct box *old = atomic_exchange_explicit(&shared, make(2), memory_order_acq_rel);

	(void)arg;
	fence();
	while (atomic_load_explicit(&hazard, memory_order_acquire) == old)
		;
	free(old);
	return NULL;
}

int main(void)
{
	pthread_t thread[2];

	atomic_init(&shared, make(1));
	pthread_create(&thread[0], NULL, reader, NULL);
	pthread_create(&thread[1], NULL, writer, NULL);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
}

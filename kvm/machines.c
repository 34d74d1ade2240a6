/* SPDX-License-Identifier: MIT */
/* The list of VMs behind one reader-writer lock: memory calls share it, creation and destruction own it. */
#include "kvm/machines.h"
#include "kvm/vm.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <vmmu/notifier.h>

/* glibc's default prefers readers: a memory call made in a signal handler, inside another one, does not wait. */
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static struct vm **list; /* lock */
static size_t capacity;  /* lock */

atomic_uint machines_count;

/* A handler that makes a memory call must not run while this thread owns the list. */
static void own(sigset_t *saved)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, saved);
	pthread_rwlock_wrlock(&lock);
}

static void disown(const sigset_t *saved)
{
	pthread_rwlock_unlock(&lock);
	pthread_sigmask(SIG_SETMASK, saved, NULL);
}

int machines_add(struct vm *vm)
{
	sigset_t saved;
	size_t count;
	int result = 0;

	own(&saved);
	count = atomic_load_explicit(&machines_count, memory_order_relaxed);
	if (count == capacity) {
		struct vm **bigger = realloc(list, (capacity * 2 + 8) * sizeof(*list));

		if (bigger) {
			list = bigger;
			capacity = capacity * 2 + 8;
		} else {
			result = -ENOMEM;
		}
	}
	if (!result) {
		list[count] = vm;
		atomic_store_explicit(&machines_count, (unsigned)count + 1, memory_order_release);
	}
	disown(&saved);
	return result;
}

void machines_remove(struct vm *vm)
{
	sigset_t saved;
	size_t count;

	own(&saved);
	count = atomic_load_explicit(&machines_count, memory_order_relaxed);
	for (size_t i = 0; i < count; i++) {
		if (list[i] != vm)
			continue;
		list[i] = list[count - 1];
		atomic_store_explicit(&machines_count, (unsigned)count - 1, memory_order_release);
		break;
	}
	disown(&saved);
}

void machines_each(void (*each)(struct vm *vm, void *context), void *context)
{
	pthread_rwlock_rdlock(&lock);
	for (size_t i = 0; i < atomic_load(&machines_count); i++)
		each(list[i], context);
	pthread_rwlock_unlock(&lock);
}

void invalidate_begin(const struct host_range *ranges, size_t count)
{
	pthread_rwlock_rdlock(&lock);
	for (size_t i = 0; i < atomic_load_explicit(&machines_count, memory_order_relaxed); i++)
		for (size_t r = 0; r < count; r++)
			if (ranges[r].start < ranges[r].end)
				vmmu_invalidate_begin(list[i]->mmu, (struct vmmu_hva){ ranges[r].start },
				                      (struct vmmu_hva){ ranges[r].end });
}

void invalidate_end(const struct host_range *ranges, size_t count)
{
	for (size_t i = 0; i < atomic_load_explicit(&machines_count, memory_order_relaxed); i++)
		for (size_t r = 0; r < count; r++)
			if (ranges[r].start < ranges[r].end)
				vmmu_invalidate_end(list[i]->mmu, (struct vmmu_hva){ ranges[r].start },
				                    (struct vmmu_hva){ ranges[r].end });
	pthread_rwlock_unlock(&lock);
}

void machines_fork_child(void)
{
	pthread_rwlock_t fresh = PTHREAD_RWLOCK_INITIALIZER;

	/* Whoever held the lock in the parent is not here. */
	memcpy(&lock, &fresh, sizeof(lock));
	atomic_store(&machines_count, 0);
}

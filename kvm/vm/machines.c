/* SPDX-License-Identifier: MIT */
/*
 * The list of VMs behind one reader-writer lock. Memory calls hold it shared. Creation and destruction of a VM
 * hold it exclusively.
 */
#include "kvm/vm/machines.h"
#include "kvm/vm/vm.h"
#include "port/posix/raw.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <vmmu/notifier.h>

/*
 * glibc prefers readers by default. So a memory call in a signal handler that interrupted another one does not
 * wait for a writer.
 */
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static struct kvm **list; /* lock */
static size_t capacity;  /* lock */

atomic_uint machines_count;

/*
 * Signals are blocked while this thread owns the list: a handler that made a memory call would wait for its own
 * thread.
 */
static uint64_t own(void)
{
	uint64_t mask = raw_signals_block();

	pthread_rwlock_wrlock(&lock);
	return mask;
}

static void disown(uint64_t mask)
{
	pthread_rwlock_unlock(&lock);
	raw_signals_restore(mask);
}

int machines_add(struct kvm *kvm)
{
	uint64_t mask = own();
	size_t count;
	int result = 0;

	count = atomic_load_explicit(&machines_count, memory_order_relaxed);
	if (count == capacity) {
		struct kvm **bigger = realloc(list, (capacity * 2 + 8) * sizeof(*list));

		if (bigger) {
			list = bigger;
			capacity = capacity * 2 + 8;
		} else {
			result = -ENOMEM;
		}
	}
	if (!result) {
		list[count] = kvm;
		atomic_store_explicit(&machines_count, (unsigned)count + 1, memory_order_release);
	}
	disown(mask);
	return result;
}

void machines_remove(struct kvm *kvm)
{
	uint64_t mask = own();
	size_t count;

	count = atomic_load_explicit(&machines_count, memory_order_relaxed);
	for (size_t i = 0; i < count; i++) {
		if (list[i] != kvm)
			continue;
		list[i] = list[count - 1];
		atomic_store_explicit(&machines_count, (unsigned)count - 1, memory_order_release);
		break;
	}
	disown(mask);
}

void machines_each(void (*each)(struct kvm *kvm, void *context), void *context)
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

void machines_fork(enum fork_step step)
{
	pthread_rwlock_t fresh = PTHREAD_RWLOCK_INITIALIZER;

	switch (step) {
	case FORK_PREPARE:
		pthread_rwlock_rdlock(&lock); /* keeps the list unchanged; invalidations under way may go on */
		break;
	case FORK_PARENT:
		pthread_rwlock_unlock(&lock);
		break;
	case FORK_CHILD:
		/* other threads may have held it, and they do not exist in the child */
		memcpy(&lock, &fresh, sizeof(lock));
		atomic_store(&machines_count, 0);
		break;
	}
}

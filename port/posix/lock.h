/* SPDX-License-Identifier: MIT */
/*
 * A lock that lives as long as the process. Two things can happen to its holder that cannot happen to the lock of an
 * object:
 *
 *   signal  The handler may make a call that takes the same lock. So signals are blocked while the lock is held.
 *   fork    The child has the lock as it was, but not the thread that held it. So each lock's owner is on the list
 *           of fork.h.
 */
#ifndef PORT_POSIX_LOCK_H
#define PORT_POSIX_LOCK_H

#include <pthread.h>
#include <stdint.h>

#include "port/posix/raw.h"

struct posix_lock {
	pthread_mutex_t mutex;
	uint64_t mask; /* mutex: the holder's signal mask before it took the lock */
};

#define POSIX_LOCK_INIT { PTHREAD_MUTEX_INITIALIZER, 0 }

/**
 * Sleeps. After: no signal reaches this thread until posix_unlock. A thread may hold several, and must release them in
 * the opposite order.
 */
static inline void posix_lock(struct posix_lock *lock)
{
	uint64_t mask = raw_signals_block();

	pthread_mutex_lock(&lock->mutex);
	lock->mask = mask;
}

static inline void posix_unlock(struct posix_lock *lock)
{
	uint64_t mask = lock->mask;

	pthread_mutex_unlock(&lock->mutex);
	raw_signals_restore(mask);
}

#endif

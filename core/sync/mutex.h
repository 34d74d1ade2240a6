/* SPDX-License-Identifier: MIT */
/* A sleeping mutex and a short spin lock, over the port's wait and wake. Neither is recursive. */
#ifndef CORE_SYNC_MUTEX_H
#define CORE_SYNC_MUTEX_H

#include "core/base/assert.h"
#include "core/base/types.h"
#include "core/sync/atomic.h"

struct mutex {
	uint32_t word; /* 0 free, 1 held, 2 held and a thread may sleep for it */
};

/** Take the mutex. Sleeps. */
void mutex_lock(struct mutex *mutex);
void mutex_unlock(struct mutex *mutex);

static inline bool mutex_is_locked(const struct mutex *mutex)
{
	return load_relaxed(&mutex->word) != 0;
}

/**
 * Does any thread sleep for it, or did one until the holder got it? One relaxed load. A spinning thread does not show.
 */
static inline bool mutex_is_contended(const struct mutex *mutex)
{
	return load_relaxed(&mutex->word) == 2;
}

/*
 * Hold it for a few dozen instructions at most. The host may take the CPU away from the holder. Waiters then soon
 * sleep instead of burning the CPU that the holder needs: hence the mutex inside.
 */
struct spin {
	struct mutex mutex;
};

static inline void spin_lock(struct spin *spin)
{
	mutex_lock(&spin->mutex);
}

static inline void spin_unlock(struct spin *spin)
{
	mutex_unlock(&spin->mutex);
}

static inline bool spin_is_locked(const struct spin *spin)
{
	return mutex_is_locked(&spin->mutex);
}

#endif

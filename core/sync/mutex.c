/* SPDX-License-Identifier: MIT */
#include "core/sync/mutex.h"

#define SPINS SPIN_LIMIT(100)

void mutex_lock(struct mutex *mutex)
{
	uint32_t free = 0;

	/* acquire: pairs with the release in mutex_unlock */
	if (likely(cas_acquire(&mutex->word, &free, 1)))
		return;
	for (int i = 0; i < SPINS; i++) {
		port_pause();
		free = 0;
		if (load_relaxed(&mutex->word) == 0 && cas_acquire(&mutex->word, &free, 1))
			return;
	}
	/* From here on the holder must wake us: 2 says so. Keep 2 when we get it, because others may sleep, too. */
	while (swap_acquire(&mutex->word, 2) != 0)
		port_wait(&mutex->word, 2);
}

void mutex_unlock(struct mutex *mutex)
{
	ASSERT(mutex_is_locked(mutex));
	/* release: pairs with the acquires in mutex_lock */
	if (__atomic_exchange_n(&mutex->word, 0, __ATOMIC_RELEASE) == 2)
		port_wake(&mutex->word);
}

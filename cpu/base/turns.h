/* SPDX-License-Identifier: MIT */
/*
 * How the CPUs of a VM wait for each other. Of all system calls only futex is made, so that a client may forbid the others.
 */
#ifndef CPU_BASE_TURNS_H
#define CPU_BASE_TURNS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * A lock that goes to the CPU that has asked first, so that nobody is kept out by others who take it again and again. It is for a few
 * instructions: the wait for it is as long as the queue, and cannot be given up.
 */
struct turns {
	_Atomic(uint32_t) next; /* the number that the next one to ask gets */
	_Atomic(uint32_t) now;  /* whose turn it is */
};

void turns_take(struct turns *turns);
void turns_give(struct turns *turns);

/*
 * A place to sleep until something, of any kind, has changed:
 *
 *     sleeper:  seen = bell_listen ; look whether there is a reason not to sleep ; bell_sleep, unless there is ; bell_leave
 *     ringer:   change something ; full barrier ; bell_ring
 *
 * One of the two sees the other. A sleeper may wake for nothing, and looks again.
 */
struct bell {
	_Atomic(uint32_t) sleepers;
	_Atomic(uint32_t) rung;
};

uint32_t bell_listen(struct bell *bell);
void bell_sleep(struct bell *bell, uint32_t seen);
void bell_leave(struct bell *bell);
void bell_wake(struct bell *bell);
/** Async-signal-safe. Costs a load while nobody sleeps. */
static inline void bell_ring(struct bell *bell)
{
	if (__builtin_expect(atomic_load(&bell->sleepers) != 0, 0))
		bell_wake(bell);
}

/** A moment in a loop that waits for another CPU. */
static inline void turns_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

#endif

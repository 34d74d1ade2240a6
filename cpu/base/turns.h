/* SPDX-License-Identifier: MIT */
/*
 * How the CPUs of a VM wait for each other. The only system call is futex, so that a client may forbid all others.
 */
#ifndef CPU_BASE_TURNS_H
#define CPU_BASE_TURNS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Looks before a thread sleeps. The concurrency checker's are fewer. */
#ifndef TURNS_SPINS
#define TURNS_SPINS 200u
#endif

/*
 * A lock that goes to the CPU that asked first, so that no CPU starves while others take it again and again. Hold it
 * for a few instructions only: a CPU waits as long as the queue is, and cannot give up.
 */
struct turns {
	_Atomic(uint32_t) next; /* the number that the next CPU to ask gets */
	_Atomic(uint32_t) now;  /* the number whose turn it is */
};

void turns_take(struct turns *turns);
void turns_give(struct turns *turns);

/*
 * A place to sleep until something has changed, whatever it is:
 *
 *     sleeper:  seen = bell_listen ; is there a reason not to sleep? if there is none, bell_sleep ; bell_leave
 *     ringer:   change something ; full barrier ; bell_ring
 *
 * Either the ringer sees the sleeper, or the sleeper sees the change. A sleeper may wake for nothing, and looks again.
 */
struct bell {
	_Atomic(uint32_t) sleepers;
	_Atomic(uint32_t) rung;
};

uint32_t bell_listen(struct bell *bell);
void bell_sleep(struct bell *bell, uint32_t seen);
void bell_leave(struct bell *bell);
void bell_wake(struct bell *bell);
/** Wake the sleepers. Async-signal-safe. Costs one load while no CPU sleeps. */
static inline void bell_ring(struct bell *bell)
{
	if (__builtin_expect(atomic_load(&bell->sleepers) != 0, 0))
		bell_wake(bell);
}

/** A short pause in a loop that waits for another CPU. */
static inline void turns_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

#endif

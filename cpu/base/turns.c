/* SPDX-License-Identifier: MIT */
#include "cpu/base/turns.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Keeps errno: a signal handler that rings interrupts a program that may be using it. */
static void futex(_Atomic(uint32_t) *word, int operation, uint32_t value, uint32_t bits)
{
	int saved = errno;

	syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, bits);
	errno = saved;
}

/* The futex bit of a number. CPUs whose numbers have the same last five bits wake together. */
static uint32_t turn_bit(uint32_t number)
{
	return UINT32_C(1) << (number % 32);
}

void turns_take(struct turns *turns)
{
	/* seq_cst: take the number before reading `now`. Pairs with turns_give. */
	uint32_t mine = atomic_fetch_add(&turns->next, 1), now;

	for (unsigned i = 0; i < TURNS_SPINS; i++) {
		/* acquire: see what the last holder did under the lock. Pairs with turns_give. */
		if (atomic_load_explicit(&turns->now, memory_order_acquire) == mine)
			return;
		turns_pause();
	}
	while ((now = atomic_load(&turns->now)) != mine)
		futex(&turns->now, FUTEX_WAIT_BITSET, now, turn_bit(mine));
}

void turns_give(struct turns *turns)
{
	uint32_t now = atomic_load_explicit(&turns->now, memory_order_relaxed) + 1;

	/* seq_cst: either this CPU sees a waiter's number, or the waiter sees its turn. Pairs with turns_take. */
	atomic_store(&turns->now, now);
	if (atomic_load(&turns->next) != now)
		futex(&turns->now, FUTEX_WAKE_BITSET, INT_MAX, turn_bit(now));
}

uint32_t bell_listen(struct bell *bell)
{
	/* seq_cst: count the sleeper before it looks for a reason not to sleep. Pairs with bell_ring. */
	atomic_fetch_add(&bell->sleepers, 1);
	return atomic_load(&bell->rung);
}

void bell_sleep(struct bell *bell, uint32_t seen)
{
	futex(&bell->rung, FUTEX_WAIT_BITSET, seen, FUTEX_BITSET_MATCH_ANY);
}

void bell_leave(struct bell *bell)
{
	atomic_fetch_sub(&bell->sleepers, 1);
}

void bell_wake(struct bell *bell)
{
	atomic_fetch_add(&bell->rung, 1);
	futex(&bell->rung, FUTEX_WAKE_BITSET, INT_MAX, FUTEX_BITSET_MATCH_ANY);
}

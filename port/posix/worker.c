/* SPDX-License-Identifier: MIT */
/* What liburcu's thread that runs callbacks wants, for either rcu.c: no signals, and care around fork. */
#include "port/posix/worker.h"

#include <pthread.h>
#include <urcu/urcu-bp.h>

#include "port/posix/raw.h"

/* liburcu would make the thread at the first callback, with the mask of whoever that is. */
static void start(void)
{
	uint64_t mask = raw_signals_block();

	urcu_bp_get_default_call_rcu_data();
	raw_signals_restore(mask);
}

void rcu_worker_start(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, start);
}

/*
 * A forked child has none of the threads that run the callbacks: liburcu starts new ones, and forgets the readers that are not there. Its two
 * halves are separate, and the callback threads must be still first.
 */
static void fork_before(void)
{
	urcu_bp_call_rcu_before_fork();
	urcu_bp_before_fork();
}

static void fork_parent(void)
{
	urcu_bp_after_fork_parent();
	urcu_bp_call_rcu_after_fork_parent();
}

static void fork_child(void)
{
	uint64_t mask = raw_signals_block();

	urcu_bp_after_fork_child();
	urcu_bp_call_rcu_after_fork_child();
	raw_signals_restore(mask);
}

__attribute__((constructor)) static void fork_init(void)
{
	pthread_atfork(fork_before, fork_parent, fork_child);
}

/* SPDX-License-Identifier: MIT */
/* What liburcu wants done around fork, for either rcu.c. */
#include <pthread.h>
#include <urcu/urcu-bp.h>

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
	urcu_bp_after_fork_child();
	urcu_bp_call_rcu_after_fork_child();
}

__attribute__((constructor)) static void fork_init(void)
{
	pthread_atfork(fork_before, fork_parent, fork_child);
}

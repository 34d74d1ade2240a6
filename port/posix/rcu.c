/* SPDX-License-Identifier: MIT */
/* RCU by liburcu's "bulletproof" flavour: threads need no registration, as calls come from threads that the client made. */
#define _LGPL_SOURCE /* the read side inline: two sections a page fault */
#include <pthread.h>
#include <urcu/urcu-bp.h>

#include "port/contract/port.h"

_Static_assert(sizeof(struct port_rcu_head) >= sizeof(struct rcu_head), "the head is liburcu's");

void port_rcu_read_lock(void)
{
	urcu_bp_read_lock();
}

void port_rcu_read_unlock(void)
{
	urcu_bp_read_unlock();
}

void port_rcu_call(struct port_rcu_head *head, void (*fn)(struct port_rcu_head *head))
{
	urcu_bp_call_rcu((struct rcu_head *)head, (void (*)(struct rcu_head *))fn);
}

void port_rcu_barrier(void)
{
	urcu_bp_barrier();
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
	urcu_bp_after_fork_child();
	urcu_bp_call_rcu_after_fork_child();
}

__attribute__((constructor)) static void fork_init(void)
{
	pthread_atfork(fork_before, fork_parent, fork_child);
}

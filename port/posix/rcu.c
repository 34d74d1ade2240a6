/* SPDX-License-Identifier: MIT */
/* RCU by liburcu's "bulletproof" flavour: threads need no registration, as calls come from the client's threads. */
#define _LGPL_SOURCE /* inlines the read side: two sections for each page fault */
#include <urcu/urcu-bp.h>

#include "port/contract/port.h"
#include "port/posix/worker.h"

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
	rcu_worker_start();
	urcu_bp_call_rcu((struct rcu_head *)head, (void (*)(struct rcu_head *))fn);
}

void port_rcu_barrier(void)
{
	rcu_worker_start();
	urcu_bp_barrier();
}

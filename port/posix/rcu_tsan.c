/* SPDX-License-Identifier: MIT */
/*
 * rcu.c for builds with ThreadSanitizer, which cannot see into liburcu: says what RCU orders. What was done before the
 * end of a read section, and before port_rcu_call, happens before the callback. Callbacks happen before
 * port_rcu_barrier returns.
 */
#include <stdlib.h>

#include <sanitizer/tsan_interface.h>
#include <urcu/urcu-bp.h>

#include "port/contract/port.h"
#include "port/posix/worker.h"

static char grace, done; /* only their addresses are used */

/* A callback, with what liburcu needs: liburcu cannot be made to call something else first. */
struct deferred {
	struct rcu_head rcu;
	struct port_rcu_head *head;
	void (*fn)(struct port_rcu_head *head);
};

void port_rcu_read_lock(void)
{
	urcu_bp_read_lock();
}

void port_rcu_read_unlock(void)
{
	__tsan_release(&grace);
	urcu_bp_read_unlock();
}

static void run_deferred(struct rcu_head *rcu)
{
	struct deferred *d = (struct deferred *)((char *)rcu - offsetof(struct deferred, rcu));

	__tsan_acquire(&grace);
	__tsan_acquire(d);
	d->fn(d->head);
	__tsan_release(&done);
	free(d);
}

void port_rcu_call(struct port_rcu_head *head, void (*fn)(struct port_rcu_head *head))
{
	struct deferred *d = malloc(sizeof(*d));

	if (!d)
		port_panic(__FILE__, __LINE__, "no memory for a callback");
	d->head = head;
	d->fn = fn;
	__tsan_release(d);
	rcu_worker_start();
	urcu_bp_call_rcu(&d->rcu, run_deferred);
}

void port_rcu_barrier(void)
{
	rcu_worker_start();
	urcu_bp_barrier();
	__tsan_acquire(&done);
}

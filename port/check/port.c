/* SPDX-License-Identifier: MIT */
/*
 * The port contract for the concurrency checker: each call is one of the checker's runtime. The checker watches this
 * file, because port_rcu_call writes.
 */
#include "port/contract/port.h"

#include "check/check.h"

static char rcu; /* only its address is used: the domain of the grace periods */

int port_spin_limit;

void port_pause(void)
{
	if (!port_spin_limit)
		check_pause();
}

void port_rest(void)
{
	port_yield();
}

void port_yield(void)
{
	check_yield();
}

void port_wait(const uint32_t *word, uint32_t expected)
{
	check_wait(word, expected);
}

void port_wake(const uint32_t *word)
{
	check_wake(word);
}

void port_rcu_read_lock(void)
{
	check_rcu_read_lock(&rcu);
}

void port_rcu_read_unlock(void)
{
	check_rcu_read_unlock(&rcu);
}

static void rcu_run(void *arg)
{
	struct port_rcu_head *head = arg;

	((void (*)(struct port_rcu_head *))head->opaque[0])(head);
}

void port_rcu_call(struct port_rcu_head *head, void (*fn)(struct port_rcu_head *head))
{
	head->opaque[0] = (void *)fn;
	check_rcu_call(&rcu, rcu_run, head);
}

void port_rcu_barrier(void)
{
	check_rcu_barrier(&rcu);
}

void port_panic(const char *file, int line, const char *what)
{
	check_fail("%s:%d: assertion failed: %s", file, line, what);
}

/* If a VM dies, the execution has failed. */
void port_warn(const char *file, int line, const char *what)
{
	check_fail("%s:%d: internal check failed: %s", file, line, what);
}

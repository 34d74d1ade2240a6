/* SPDX-License-Identifier: MIT */
/* The inline part of the port contract (port/contract/port.h) for the concurrency checker: what may wait or be freed goes through its runtime. */
#ifndef PORT_CHECK_PORT_INLINE_H
#define PORT_CHECK_PORT_INLINE_H

#include <stdint.h>

struct port_rcu_head {
	void *opaque[2]; /* the function, while it waits for its grace period */
};

/*
 * core is built with SPIN_LIMIT(n) = port_spin_limit: how often a waiter looks before it sleeps. 0: at once. 1: once more, and then a pause is nothing: the loop ends
 * by itself, and must be let go to its end. A scenario's choice, made before its VM.
 */
extern int port_spin_limit;

void port_pause(void);
void port_rcu_read_lock(void);
void port_rcu_read_unlock(void);

static inline void *port_pfn_to_ptr(uint64_t pfn)
{
	return (void *)(uintptr_t)(pfn << 12);
}

static inline uint64_t port_ptr_to_pfn(const void *ptr)
{
	return (uintptr_t)ptr >> 12;
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The inline part of the port contract (port/contract/port.h) for the concurrency checker. What may wait, or be freed,
 * goes through the checker's runtime.
 */
#ifndef PORT_CHECK_PORT_INLINE_H
#define PORT_CHECK_PORT_INLINE_H

#include <stdint.h>

struct port_rcu_head {
	void *opaque[2]; /* the function, while it waits for its grace period */
};

/*
 * How often a waiter looks before it sleeps: core is built with SPIN_LIMIT(n) = port_spin_limit. 0: it sleeps at once.
 * 1: it looks once more. A pause then does nothing: the loop ends by itself, and must run to its end. A scenario
 * chooses before it makes its VM.
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

/* SPDX-License-Identifier: MIT */
/*
 * The inline part of the port contract (port/contract/port.h) for a POSIX process on x86-64. Host physical memory is
 * the process's address space.
 */
#ifndef PORT_POSIX_PORT_INLINE_H
#define PORT_POSIX_PORT_INLINE_H

#include <stdint.h>

static inline void port_pause(void)
{
	__builtin_ia32_pause();
}

struct port_rcu_head {
	void *opaque[2]; /* liburcu's struct rcu_head */
};

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

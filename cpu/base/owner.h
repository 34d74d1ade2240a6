/* SPDX-License-Identifier: MIT */
/* Around a callback of the owner, in the guest or outside: the owner's code finds the host's own MXCSR and x87. */
#ifndef CPU_BASE_OWNER_H
#define CPU_BASE_OWNER_H

#include "cpu/base/mxcsr.h"
#include "cpu/base/x87_host.h"

/** Returns: for owner_end. */
INLINE uint32_t owner_begin(struct cpu *cpu)
{
	x87_unload(cpu);
	return mxcsr_owner(cpu);
}

INLINE void owner_end(uint32_t mxcsr)
{
	host_mxcsr_set(mxcsr);
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * While the CPU is in the guest, the guest's MXCSR is in the host's register, so that no instruction loads it. The
 * register has the guest's rounding, every exception masked, and collects the flags. s.fx.mxcsr has everything but the
 * flags that were collected meanwhile.
 *
 *     reading s.fx.mxcsr in the guest:  mxcsr_fold(cpu) first
 *     writing it in the guest:          mxcsr_load(cpu) after that
 *
 * With an unmasked exception, cpu->mxcsr_careful, each instruction looks at its own flags (sse_raised), and leaves none
 * in the register.
 *
 * The host's own value comes back whenever the guest is left, and while a callback of the owner runs. A signal handler
 * has a fresh one from the kernel.
 */
#ifndef CPU_BASE_MXCSR_H
#define CPU_BASE_MXCSR_H

#include "cpu/base/types.h"

#define MXCSR_FLAGS   0x3fu
#define MXCSR_IE      0x01u
#define MXCSR_DE      0x02u
#define MXCSR_ZE      0x04u
#define MXCSR_OE      0x08u
#define MXCSR_UE      0x10u
#define MXCSR_PE      0x20u
#define MXCSR_MASKS   0x1f80u
#define MXCSR_OM      0x0400u
#define MXCSR_UM      0x0800u
#define MXCSR_FTZ     0x8000u

INLINE uint32_t host_mxcsr_get(void)
{
	uint32_t value;

	__asm__ volatile("stmxcsr %0" : "=m"(value) : : "memory");
	return value;
}

INLINE void host_mxcsr_set(uint32_t value)
{
	__asm__ volatile("ldmxcsr %0" : : "m"(value) : "memory");
}

/* The MXCSR with which the host runs an instruction: the guest's rounding, everything masked, no flag set. */
INLINE uint32_t mxcsr_for_host(const struct cpu *cpu)
{
	uint32_t guest = cpu->s.fx.mxcsr, host = (guest | MXCSR_MASKS) & ~MXCSR_FLAGS;

	/* Flushing to zero is the masked response to underflow. */
	return guest & MXCSR_UM ? host : host & ~MXCSR_FTZ;
}

/** Bring s.fx.mxcsr up to date. */
INLINE void mxcsr_fold(struct cpu *cpu)
{
	cpu->s.fx.mxcsr |= host_mxcsr_get() & MXCSR_FLAGS;
}

/** s.fx.mxcsr is new. */
INLINE void mxcsr_load(struct cpu *cpu)
{
	cpu->mxcsr_careful = ~cpu->s.fx.mxcsr & MXCSR_MASKS;
	host_mxcsr_set(mxcsr_for_host(cpu));
}

/**
 * For owner.h, before a callback of the owner.
 * Returns: for host_mxcsr_set, after it.
 */
INLINE uint32_t mxcsr_owner(const struct cpu *cpu)
{
	uint32_t now = host_mxcsr_get();

	if (cpu->mxcsr_inside)
		host_mxcsr_set(cpu->mxcsr_outside);
	return now;
}

/** Around the guest. */
INLINE void mxcsr_enter(struct cpu *cpu)
{
	cpu->mxcsr_outside = host_mxcsr_get();
	cpu->mxcsr_inside = true;
	mxcsr_load(cpu);
}

INLINE void mxcsr_leave(struct cpu *cpu)
{
	mxcsr_fold(cpu);
	cpu->mxcsr_inside = false;
	host_mxcsr_set(cpu->mxcsr_outside);
}

#endif

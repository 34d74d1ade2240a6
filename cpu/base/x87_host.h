/* SPDX-License-Identifier: MIT */
/*
 * From the first x87 instruction on until the guest is left, the guest's x87 registers are the host's: cpu->x87_loaded.
 * So no instruction loads and stores them. The host's control word is the guest's then, and an exception that it does
 * not mask leaves in the registers what hardware leaves.
 *
 *     reading or writing x87's part of s.fx in the guest:  x87_unload(cpu) first
 *
 * While loaded, of x87's part of s.fx only fcw, fop, fip and fdp are right, and ES of fsw, which is 0: the instruction
 * that makes an exception pending takes the registers out. So the host never has one to raise.
 *
 * C code of the CPU uses no x87 and no MMX. An owner's callback finds the host's own x87, as does whoever runs after
 * the guest: the registers empty, as the ABI has them at every call, the control and the status word as they were. A
 * signal handler has a fresh x87 from the kernel, and the guest's comes back after it.
 */
#ifndef CPU_BASE_X87_HOST_H
#define CPU_BASE_X87_HOST_H

#include "cpu/base/types.h"

/** Supplied by fpu/x87_host.c. Move the registers from s.fx into the host's, and back. Nothing may be pending. */
void x87_host_load(struct cpu *cpu);
void x87_host_unload(struct cpu *cpu);
/**
 * Supplied by fpu/x87_host.c. The guest is left by a jump out of a signal handler, so that the host's registers stay
 * the handler's. `saved`: what the kernel saved of those before, the guest's or the host's own, as FXSAVE stores them.
 */
void x87_host_lost(struct cpu *cpu, const struct cpu_fx *saved);

INLINE void x87_unload(struct cpu *cpu)
{
	if (unlikely(cpu->x87_loaded))
		x87_host_unload(cpu);
}

#endif

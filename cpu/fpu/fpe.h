/* SPDX-License-Identifier: MIT */
/*
 * Unmasked SSE and AVX exceptions. The host's instruction runs under the guest's own MXCSR, and the host's processor
 * raises SIGFPE where the guest's would raise #XM: before anything is written, and with the flags that the guest is to
 * see. The handler (cpu_signal) makes the thread go on behind the instruction.
 */
#ifndef CPU_FPU_FPE_H
#define CPU_FPU_FPE_H

#include "cpu/base/mxcsr.h"

/** The guest's own MXCSR, with no flag set, for an instruction that may raise an unmasked exception. */
INLINE uint32_t mxcsr_careful(const struct cpu *cpu)
{
	return cpu->s.fx.mxcsr & ~MXCSR_FLAGS;
}

/**
 * Before an instruction that may raise SIGFPE: see that this thread can take the signal. Returns: the window, for which
 * SSE_RUN in sse.h sets `from` and `landing`. Raises CPU_ERROR_EMULATION when nobody handles the signal.
 */
struct fpe_window *fpe_open(struct cpu *cpu);

/** At the end of cpu_run. */
void fpe_close(struct cpu *cpu);

/**
 * Run a stub under the guest's MXCSR: code(cpu, memory), `length` bytes that leave RBX, RBP and R12 to R15 alone up to
 * the instruction. *raised: the flags of this instruction, for sse_raised. If an unmasked one is among them, it was
 * stopped.
 * Returns: what the code returned.
 */
uint64_t fpe_call(struct cpu *cpu, const void *code, size_t length, void *memory, uint32_t *raised);

/** `raised`: the flags of this instruction. Raises #XM if one of them is unmasked. Call before a result is written. */
void sse_raised(struct cpu *cpu, uint32_t raised);

#endif

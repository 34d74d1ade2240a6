/* SPDX-License-Identifier: MIT */
/*
 * System management mode (APM vol. 2, chapter 10; SDM vol. 3, "System Management Mode"). An SMI saves the state at
 * SMBASE + 0xfe00 and begins at SMBASE + 0x8000; RSM loads the state again. In SMM all accesses go to address space 1.
 * A VM that has one address space keeps its SMRAM in that one.
 */
#ifndef CPU_SYSTEM_SMM_H
#define CPU_SYSTEM_SMM_H

#include "cpu/base/types.h"

/** Is an SMI pending that can be taken now? An event whose delivery has begun comes first. */
INLINE bool smm_is_due(const struct cpu *cpu)
{
	const struct cpu_events *e = &cpu->s.events;

	return unlikely(e->smi.pending) && !e->smi.smm && cpu->s.svm.gif && !e->exception.pending &&
	       !e->exception.injected && !e->interrupt.injected && !e->nmi.injected;
}

/* ---- outside the guest ---- */

/** Where the state is saved: a guest physical address of address space 1. */
uint64_t smm_save_area(const struct cpu *cpu);

/**
 * Take the pending SMI. Returns: VMMU_OK; otherwise why the state could not be saved (as vmmu_guest_write), and then
 * nothing has changed.
 */
enum vmmu_status smm_enter(struct cpu *cpu);

/**
 * RSM. `halted`: set if the CPU returns to the HLT that the SMI ended.
 * Returns: false when the saved state is not legal, so that the CPU shuts down. SMM has been left in either case.
 */
bool smm_leave(struct cpu *cpu, bool *halted);

/** events.smi.smm was written: go on in the address space that belongs to it. */
void smm_address_space(struct cpu *cpu);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * AMD SVM (APM vol. 2, chapter 15): VMRUN and #VMEXIT, and what an instruction asks before it acts in guest mode.
 *
 * #VMEXIT writes to guest memory, so it is made outside the guest. An instruction that is intercepted calls svm_exit,
 * which leaves the guest with the exit noted; the run loop then calls svm_vmexit_noted. If the VMCB cannot be written
 * now (the dirty ring is full), the exit stays noted, and the run loop tries again before anything else runs.
 */
#ifndef CPU_SYSTEM_SVM_H
#define CPU_SYSTEM_SVM_H

#include "cpu/base/private.h"
#include "cpu/system/vmcb.h"

/** Does the hypervisor want `exit`, one of the codes that are also bits? Always false outside guest mode. */
INLINE bool svm_intercepts(const struct cpu *cpu, unsigned exit)
{
	return unlikely(cpu->p->svm.intercepts[exit / 32] >> exit % 32 & 1);
}

/** In the guest: leave the instruction at cpu->op, which has had no effect, by #VMEXIT. */
_Noreturn void svm_exit(struct cpu *cpu, uint64_t code, uint64_t info1, uint64_t info2);

/** In the guest: the intercept of an instruction without exit information. */
INLINE void svm_check(struct cpu *cpu, unsigned exit)
{
	if (svm_intercepts(cpu, exit))
		svm_exit(cpu, exit, 0, 0);
}

/* ---- outside the guest ---- */

/** Note a #VMEXIT. s.rip is where the guest goes on. The run loop makes it. */
void svm_exit_note(struct cpu *cpu, uint64_t code, uint64_t info1, uint64_t info2);

/**
 * Make the #VMEXIT that was noted. Returns: VMMU_OK; otherwise why the VMCB could not be written (as vmmu_guest_write),
 * and then nothing has changed.
 */
enum vmmu_status svm_vmexit_noted(struct cpu *cpu);

/**
 * The owner wrote s.svm (KVM_SET_NESTED_STATE), or took the CPU out of guest mode: intercepts and what the vCPU walks
 * now follow from it. Returns: VMMU_OK; VMMU_ENOMEM, VMMU_EINVAL.
 */
enum vmmu_status svm_state_changed(struct cpu *cpu);

#endif

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

/** What leaves the guest by EXIT_SVM when no #VMEXIT is noted. */
enum svm_operation { SVM_VMRUN, SVM_VMLOAD, SVM_VMSAVE, SVM_STGI_HELD /* GIF is set, and the owner holds an INIT */ };

/**
 * VMLOAD and VMSAVE, which are not intercepted: is their operand a physical address of the nested guest (APM vol. 2,
 * 15.33.1)? Does not return where the hypervisor wants that and the CPU cannot do it: that is an intercept.
 */
bool svm_operand_is_virtual(struct cpu *cpu, unsigned exit);

/** STGI and CLGI in guest mode with a virtual GIF: that one. Returns: false where it is the CPU's own. */
bool svm_virtual_gif_set(struct cpu *cpu, bool set);

/** In guest mode with V_INTR_MASKING, CR8 is V_TPR. */
bool svm_tpr_is_virtual(const struct cpu *cpu);
INLINE bool svm_has_tpr(const struct cpu *cpu)
{
	return unlikely(cpu->s.svm.guest) && svm_tpr_is_virtual(cpu);
}
uint64_t svm_tpr_read(const struct cpu *cpu);
void svm_tpr_write(struct cpu *cpu, uint64_t tpr);

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
 * follow from it, at the latest at the next svm_attach.
 */
void svm_state_changed(struct cpu *cpu);

/** Before an entry: make true what the owner wrote. Returns: VMMU_OK, VMMU_ENOMEM. */
enum vmmu_status svm_attach(struct cpu *cpu);

/**
 * VMRUN, VMLOAD or VMSAVE of p->svm.operand, with RIP at the instruction. VMRUN that succeeds leaves s.rip in the
 * nested guest; one that fails by VMEXIT_INVALID leaves the CPU outside guest mode. Returns: VMMU_OK; VMMU_ENOENT: no
 * memory there; otherwise as vmmu_guest_write or vmmu_nested_enter, and nothing has changed.
 */
enum vmmu_status svm_operate(struct cpu *cpu);

/* ---- events, outside the guest or between instructions ---- */

/** interrupt_possible in guest mode or with GIF clear. */
bool svm_interrupt_possible(const struct cpu *cpu);
/** In guest mode: does an event wait that becomes a #VMEXIT, or a virtual interrupt? Can it be taken now? */
bool svm_event_waits(const struct cpu *cpu);
bool svm_event_possible(const struct cpu *cpu);
/** Note the #VMEXIT of a pending INIT, SMI or NMI, if one comes now. */
void svm_event_look(struct cpu *cpu);
/** The same for the virtual interrupt; or it becomes the event to deliver. Physical interrupts have gone before. */
void svm_virtual_look(struct cpu *cpu);
/** Can the virtual interrupt be taken now? It ends a HLT then. */
bool svm_virtual_possible(const struct cpu *cpu);

/* ---- delivery, for event.c ---- */

/** The event of EVENTINJ was delivered, or another one took its place. */
void svm_inject_done(struct cpu *cpu);
/** Where the handler of the event that is delivered next returns to. */
INLINE uint64_t svm_return_rip(const struct cpu *cpu)
{
	return unlikely(cpu->p->svm.inject_rip_valid) ? cpu->p->svm.inject_rip : cpu->s.rip;
}

#endif

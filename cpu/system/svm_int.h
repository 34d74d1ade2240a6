/* SPDX-License-Identifier: MIT */
/* What the files of SVM share: the steps into guest mode and out of it. */
#ifndef CPU_SYSTEM_SVM_INT_H
#define CPU_SYSTEM_SVM_INT_H

#include <vmmu/nested.h>

#include "cpu/system/svm.h"

/** In guest mode: the control area, as VMRUN loaded it. */
INLINE struct vmcb_control *svm_control(struct cpu *cpu)
{
	return (struct vmcb_control *)(void *)cpu->s.svm.control;
}

INLINE const struct vmcb_control *svm_control_const(const struct cpu *cpu)
{
	return (const struct vmcb_control *)(const void *)cpu->s.svm.control;
}

/* ---- svm_segment.c --------------------------------------------------------------------------------------- */

/** Sign-extended as segment bases are when VMRUN and VMLOAD load them. */
uint64_t svm_canonical(const struct cpu *cpu, uint64_t base);
struct vmcb_segment svm_segment_pack(const struct cpu_segment *s);
struct cpu_segment svm_segment_unpack(const struct cpu *cpu, const struct vmcb_segment *from);
struct vmcb_segment svm_table_pack(const struct cpu_table *t);
struct cpu_table svm_table_unpack(const struct cpu *cpu, const struct vmcb_segment *from);

/* ---- svm_check.c ----------------------------------------------------------------------------------------- */

/** The checks of APM vol. 2, 15.5.1. `l1_cr0`: of the hypervisor. Returns: false for VMEXIT_INVALID. */
bool svm_vmcb_legal(struct cpu *cpu, const struct vmcb *vmcb, uint64_t l1_cr0);

/* ---- svm_run.c ------------------------------------------------------------------------------------------- */

/** In guest mode: has the nested guest nested paging? */
bool svm_is_nested(const struct cpu *cpu);
/** L1's half of its nested paging, in `to`. Returns: `to`, or NULL when there is none. */
const struct vmmu_nested *svm_nested(struct cpu *cpu, struct vmmu_nested *to);
/**
 * Guest mode begins, with the control area and the host's state in cpu->s.svm: what the vCPU walks, and which
 * intercepts hold. Returns: as vmmu_nested_enter.
 */
enum vmmu_status svm_guest_attach(struct cpu *cpu);
/** Guest mode ends. */
void svm_guest_detach(struct cpu *cpu);

/* ---- svm.c ----------------------------------------------------------------------------------------------- */

/** Leave guest mode, with GIF clear, and go on in the hypervisor. Nothing is written to memory. */
void svm_leave(struct cpu *cpu);
/** Write to the VMCB what #VMEXIT writes, with the exit that is noted. Returns: as vmmu_guest_write. */
enum vmmu_status svm_guest_write(struct cpu *cpu);
/** Write the parts of a VMCB that #VMEXIT writes, with VMEXIT_INVALID only those of the control area. */
enum vmmu_status svm_parts_write(struct cpu *cpu, uint64_t at, const struct vmcb *vmcb, bool invalid);

/* ---- svm_event.c ----------------------------------------------------------------------------------------- */

/** Put the event of EVENTINJ in s.events. */
void svm_event_inject(struct cpu *cpu, uint64_t event_inject);
/** Is EVENTINJ legal (APM vol. 2, 15.20)? */
bool svm_event_legal(uint64_t event_inject);

#endif

/* SPDX-License-Identifier: MIT */
/* AMD SVM: guest mode that was interrupted goes on, after KVM_SET_NESTED_STATE or RSM. All outside the guest. */
#ifndef CPU_SYSTEM_SVM_OWNER_H
#define CPU_SYSTEM_SVM_OWNER_H

#include "cpu/system/svm.h"

/**
 * Guest mode goes on with this control area and, from the save area, this state of the hypervisor. The registers are
 * the nested guest's already. Returns: false, and nothing has changed, where VMRUN would have refused it.
 */
bool svm_guest_restore(struct cpu *cpu, uint64_t vmcb_pa, const struct vmcb *vmcb);

/**
 * An SMI comes in guest mode: save what RSM needs to go on there. svm_leave comes next. Returns: VMMU_OK; otherwise as
 * vmmu_guest_write, and then only memory has changed.
 */
enum vmmu_status svm_smm_suspend(struct cpu *cpu);
/** RSM of such an SMI; the registers were loaded. Returns: false for shutdown. */
bool svm_smm_resume(struct cpu *cpu, uint64_t vmcb_pa);

#endif

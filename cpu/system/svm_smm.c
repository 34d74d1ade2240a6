/* SPDX-License-Identifier: MIT */
/*
 * AMD SVM and system management mode. An SMI that the hypervisor does not intercept suspends guest mode. As in KVM, so
 * that it can go to a KVM and come from one in the middle of a handler: the nested guest goes to its VMCB by a #VMEXIT,
 * and the hypervisor's state to the host save area, in the form of a VMCB's save area. RSM takes both from there.
 */
#include <string.h>

#include "cpu/system/svm_int.h"
#include "cpu/system/svm_owner.h"

#define EXIT_SOFTWARE UINT64_C(0xf0000000) /* an exit that no processor makes */

enum vmmu_status svm_smm_suspend(struct cpu *cpu)
{
	uint8_t bytes[CPU_VMCB_BYTES];
	enum vmmu_status status;

	cpu_nested_get(cpu, bytes);
	status = vmmu_guest_write(cpu->p->vcpu, (struct vmmu_gpa){ cpu->s.svm.hsave_pa + VMCB_SAVE },
	                          bytes + VMCB_SAVE, sizeof(struct vmcb_save));
	if (status != VMMU_OK)
		return status;
	svm_exit_note(cpu, EXIT_SOFTWARE, 0, 0);
	status = svm_guest_write(cpu);
	cpu->p->svm.exit.noted = false;
	return status;
}

bool svm_smm_resume(struct cpu *cpu, uint64_t vmcb_pa)
{
	struct vmcb vmcb;
	struct vmmu_gpa at = { vmcb_pa }, host = { cpu->s.svm.hsave_pa + VMCB_SAVE };

	memset(&vmcb, 0, sizeof(vmcb));
	if ((vmcb_pa & 0xfff) || (vmcb_pa & ~cpu->p->phys_mask) || !(cpu->s.efer & EFER_SVME))
		return false;
	if (vmmu_guest_read(cpu->p->vcpu, at, &vmcb.control, sizeof(vmcb.control)) != VMMU_OK ||
	    vmmu_guest_read(cpu->p->vcpu, host, &vmcb.save, sizeof(vmcb.save)) != VMMU_OK)
		return false;
	cpu->s.svm.gif = true;
	return svm_guest_restore(cpu, vmcb_pa, &vmcb);
}

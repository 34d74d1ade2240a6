/* SPDX-License-Identifier: MIT */
/*
 * KVM_SET_VAPIC_ADDR and KVM_TPR_ACCESS_REPORTING. A client may patch a guest that writes the task priority register
 * often (32-bit Windows), so that it writes a word of memory instead and needs no exit. The word has the TPR in its low
 * byte, the priority of what is in service in the second, and in the highest the vector that is requested.
 */
#include "kvm/irq/ioctls.h"
#include "kvm/irq/lapic_int.h"
#include "kvm/process/user.h"
#include <errno.h>

void lapic_vapic_in(struct lapic *a)
{
	uint32_t word;

	if (!a->vapic)
		return;
	if (vmmu_guest_read(a->vcpu->mmu, (struct vmmu_gpa){ a->vapic }, &word, sizeof(word)) != VMMU_OK)
		return;
	if ((word & 0xff) == *reg(a, REG_TPR))
		return;
	*reg(a, REG_TPR) = word & 0xff;
	cpu_state(a->vcpu->cpu)->cr8 = word >> 4 & 15;
}

void lapic_vapic_out(struct lapic *a)
{
	uint32_t word;
	int requested, served;

	if (!a->vapic)
		return;
	requested = lapic_highest_requested(a);
	served = lapic_highest_in_service(a);
	word = (*reg(a, REG_TPR) & 0xff) | (served > 0 ? ((uint32_t)served & 0xf0) << 8 : 0) |
	       (requested > 0 ? (uint32_t)requested << 24 : 0);
	/* Once the word's memory is gone, the guest has no use for it. */
	if (vmmu_guest_write(a->vcpu->mmu, (struct vmmu_gpa){ a->vapic }, &word, sizeof(word)) != VMMU_OK)
		a->vapic = 0;
}

long vcpu_set_vapic_addr(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_vapic_addr in;
	struct vmmu_gpa gpa;
	uint32_t word;

	if (!vcpu->lapic)
		return -EINVAL;
	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	gpa.v = in.vapic_addr;
	if (in.vapic_addr && vmmu_guest_read(vcpu->mmu, gpa, &word, sizeof(word)) != VMMU_OK)
		return -EINVAL;
	vcpu->lapic->vapic = in.vapic_addr;
	return 0;
}

long vcpu_tpr_access_reporting(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_tpr_access_ctl ctl;

	if (user_read(&ctl, argument, sizeof(ctl)) != 0)
		return -EFAULT;
	if (ctl.flags || !vcpu->lapic)
		return -EINVAL;
	vcpu->lapic->report_tpr = ctl.enabled != 0;
	return user_write(argument, &ctl, sizeof(ctl));
}

void lapic_tpr_accessed(struct lapic *a, bool write)
{
	if (!a->report_tpr)
		return;
	a->vcpu->tpr_access = write ? TPR_WRITTEN : TPR_READ;
	a->vcpu->tpr_rip = cpu_state(a->vcpu->cpu)->rip;
	cpu_request_exit(a->vcpu->cpu);
}

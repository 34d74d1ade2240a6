/* SPDX-License-Identifier: MIT */
/*
 * KVM_GET/SET_NESTED_STATE in the format of SVM: a header, and in guest mode a VMCB: the control area that L1 gave
 * VMRUN, and as the save area L1's own state, to which #VMEXIT returns. What L2 has in its registers is in those of the
 * vCPU, which the other ioctls show.
 */
#include "kvm/vcpu/nested.h"
#include "kvm/process/user.h"
#include "kvm/vcpu/cpuid.h"
#include "kvm/vcpu/ioctls.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <stddef.h>
#include <string.h>

#define EFER_SVME UINT64_C(0x1000)
#define CR0_NW    (1u << 29)
#define CR0_CD    (1u << 30)

#define HEADER_BYTES sizeof(struct kvm_nested_state)
#define STATE_BYTES  (HEADER_BYTES + KVM_STATE_NESTED_SVM_VMCB_SIZE)

#define SVM_FLAGS (KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_RUN_PENDING | KVM_STATE_NESTED_GIF_SET)

_Static_assert(HEADER_BYTES == 128, "as the kernel's");
_Static_assert(KVM_STATE_NESTED_SVM_VMCB_SIZE == CPU_VMCB_BYTES, "a VMCB");

long nested_state_bytes(void)
{
	return cpuid_has_svm() ? (long)STATE_BYTES : 0;
}

long vcpu_get_nested_state(struct kvm_vcpu *vcpu, unsigned long argument)
{
	const struct cpu_svm *svm = &cpu_state(vcpu->cpu)->svm;
	struct kvm_nested_state head = { .format = KVM_STATE_NESTED_FORMAT_SVM, .size = HEADER_BYTES };
	uint8_t vmcb[CPU_VMCB_BYTES];
	uint32_t room;

	if (!cpuid_has_svm())
		return -EINVAL;
	if (user_read(&room, argument + offsetof(struct kvm_nested_state, size), sizeof(room)) != 0)
		return -EFAULT;
	if (svm->guest) {
		head.size = STATE_BYTES;
		head.flags |= KVM_STATE_NESTED_GUEST_MODE;
		head.hdr.svm.vmcb_pa = svm->vmcb_pa;
		if (vcpu->nested_run_pending)
			head.flags |= KVM_STATE_NESTED_RUN_PENDING;
	}
	if (svm->gif)
		head.flags |= KVM_STATE_NESTED_GIF_SET;
	if (room < HEADER_BYTES) {
		/* Like KVM, which asks for no more than a header then. */
		head.size = HEADER_BYTES;
		return user_write(argument + offsetof(struct kvm_nested_state, size), &head.size, sizeof(head.size)) ?
		       -EFAULT : -E2BIG;
	}
	if (user_write(argument, &head, sizeof(head)) != 0)
		return -EFAULT;
	if (room < head.size)
		return -E2BIG;
	if (!svm->guest)
		return 0;
	cpu_nested_get(vcpu->cpu, vmcb);
	return user_write(argument + offsetof(struct kvm_nested_state, data), vmcb, sizeof(vmcb)) ? -EFAULT : 0;
}

/* Refuse what KVM refuses for every processor, and then what it refuses for SVM. */
static long head_check(struct kvm_vcpu *vcpu, const struct kvm_nested_state *head)
{
	const struct cpu_state *s = cpu_state(vcpu->cpu);
	bool guest = head->flags & KVM_STATE_NESTED_GUEST_MODE;

	if (head->size < HEADER_BYTES || head->flags & ~SVM_FLAGS || head->format != KVM_STATE_NESTED_FORMAT_SVM)
		return -EINVAL;
	if (head->flags & KVM_STATE_NESTED_RUN_PENDING && !guest)
		return -EINVAL;
	/* EFER is L2's, but VMRUN needs SVME in both. GIF may be 0 without it: clearing SVME leaves GIF alone. */
	if (!(s->efer & EFER_SVME) && head->flags & ~KVM_STATE_NESTED_GIF_SET)
		return -EINVAL;
	if (!guest)
		return 0;
	if (s->events.smi.smm)
		return -EINVAL; /* an SMI suspends guest mode */
	if (head->hdr.svm.vmcb_pa & (cpuid_guest_reserved_gpa(vcpu) | (VMMU_PAGE_SIZE - 1)))
		return -EINVAL;
	if (head->size < STATE_BYTES)
		return -EINVAL;
	return 0;
}

static long enter(struct kvm_vcpu *vcpu, const struct kvm_nested_state *head, const uint8_t vmcb[CPU_VMCB_BYTES])
{
	const struct cpu_state *s = cpu_state(vcpu->cpu);

	if (s->cr0 & CR0_NW && !(s->cr0 & CR0_CD))
		return -EINVAL; /* VMRUN would have refused L2's CR0 */
	return cpu_nested_set(vcpu->cpu, head->hdr.svm.vmcb_pa, vmcb) ? 0 : -EINVAL;
}

long vcpu_set_nested_state(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_nested_state head;
	uint8_t vmcb[CPU_VMCB_BYTES];
	long result;

	if (!cpuid_has_svm())
		return -EINVAL;
	if (user_read(&head, argument, sizeof(head)) != 0)
		return -EFAULT;
	result = head_check(vcpu, &head);
	if (result)
		return result;
	if (head.flags & KVM_STATE_NESTED_GUEST_MODE) {
		if (user_read(vmcb, argument + offsetof(struct kvm_nested_state, data), sizeof(vmcb)) != 0)
			return -EFAULT;
		result = enter(vcpu, &head, vmcb);
		if (result)
			return result;
	} else {
		cpu_nested_leave(vcpu->cpu);
	}
	vcpu->nested_restored = head.flags & KVM_STATE_NESTED_GUEST_MODE;
	vcpu->nested_run_pending = head.flags & KVM_STATE_NESTED_RUN_PENDING;
	cpu_state(vcpu->cpu)->svm.gif = head.flags & KVM_STATE_NESTED_GIF_SET;
	return 0;
}

/* Not at once, since KVM_SET_VCPU_EVENTS may follow and replaces all events: EVENTINJ is none of those that it has. */
void nested_before_run(struct kvm_vcpu *vcpu)
{
	if (!vcpu->nested_restored)
		return;
	vcpu->nested_restored = vcpu->nested_run_pending = false;
	cpu_nested_inject(vcpu->cpu);
}

void nested_efer_written(struct kvm_vcpu *vcpu, uint64_t before)
{
	struct cpu_state *s = cpu_state(vcpu->cpu);

	if (s->efer & EFER_SVME || !(before & EFER_SVME))
		return;
	cpu_nested_leave(vcpu->cpu);
	s->svm.gif = true;
}

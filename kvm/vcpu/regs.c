/* SPDX-License-Identifier: MIT */
/* KVM_GET_REGS and KVM_SET_REGS, and KVM_CAP_SYNC_REGS. */
#include "kvm/vcpu/regs.h"
#include "kvm/vcpu/ioctls.h"
#include "kvm/process/user.h"
#include "kvm/vm/vm.h"
#include <errno.h>

void regs_get(struct kvm_vcpu *vcpu, struct kvm_regs *out)
{
	const struct cpu_state *s = cpu_state(vcpu->cpu);

	*out = (struct kvm_regs){
		.rax = s->gpr[CPU_RAX], .rbx = s->gpr[CPU_RBX], .rcx = s->gpr[CPU_RCX], .rdx = s->gpr[CPU_RDX],
		.rsi = s->gpr[CPU_RSI], .rdi = s->gpr[CPU_RDI], .rsp = s->gpr[CPU_RSP], .rbp = s->gpr[CPU_RBP],
		.r8 = s->gpr[CPU_R8], .r9 = s->gpr[CPU_R9], .r10 = s->gpr[CPU_R10], .r11 = s->gpr[CPU_R11],
		.r12 = s->gpr[CPU_R12], .r13 = s->gpr[CPU_R13], .r14 = s->gpr[CPU_R14], .r15 = s->gpr[CPU_R15],
		.rip = s->rip, .rflags = s->rflags,
	};
}

void regs_set(struct kvm_vcpu *vcpu, const struct kvm_regs *in)
{
	struct cpu_state *s = cpu_state(vcpu->cpu);

	s->gpr[CPU_RAX] = in->rax;
	s->gpr[CPU_RBX] = in->rbx;
	s->gpr[CPU_RCX] = in->rcx;
	s->gpr[CPU_RDX] = in->rdx;
	s->gpr[CPU_RSI] = in->rsi;
	s->gpr[CPU_RDI] = in->rdi;
	s->gpr[CPU_RSP] = in->rsp;
	s->gpr[CPU_RBP] = in->rbp;
	s->gpr[CPU_R8] = in->r8;
	s->gpr[CPU_R9] = in->r9;
	s->gpr[CPU_R10] = in->r10;
	s->gpr[CPU_R11] = in->r11;
	s->gpr[CPU_R12] = in->r12;
	s->gpr[CPU_R13] = in->r13;
	s->gpr[CPU_R14] = in->r14;
	s->gpr[CPU_R15] = in->r15;
	s->rip = in->rip;
	s->rflags = in->rflags | 2;
	/* A pending exception belongs to the old instruction pointer. */
	s->events.exception.pending = false;
	cpu_state_changed(vcpu->cpu, CPU_CHANGED_RFLAGS);
}

long vcpu_get_regs(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_regs regs;

	regs_get(vcpu, &regs);
	return user_write(argument, &regs, sizeof(regs));
}

long vcpu_set_regs(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_regs regs;

	if (user_read(&regs, argument, sizeof(regs)) != 0)
		return -EFAULT;
	regs_set(vcpu, &regs);
	return 0;
}

long regs_sync_in(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	/* Copy them before checking: the client may write there meanwhile. */
	struct kvm_sync_regs in = run->s.regs;

	if (run->kvm_dirty_regs & KVM_SYNC_X86_REGS) {
		regs_set(vcpu, &in.regs);
		run->kvm_dirty_regs &= ~(uint64_t)KVM_SYNC_X86_REGS;
	}
	if (run->kvm_dirty_regs & KVM_SYNC_X86_SREGS) {
		if (sregs_set(vcpu, &in.sregs) != 0)
			return -EINVAL;
		run->kvm_dirty_regs &= ~(uint64_t)KVM_SYNC_X86_SREGS;
	}
	if (run->kvm_dirty_regs & KVM_SYNC_X86_EVENTS) {
		if (events_set(vcpu, &in.events) != 0)
			return -EINVAL;
		run->kvm_dirty_regs &= ~(uint64_t)KVM_SYNC_X86_EVENTS;
	}
	return 0;
}

void regs_sync_out(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if (run->kvm_valid_regs & KVM_SYNC_X86_REGS)
		regs_get(vcpu, &run->s.regs.regs);
	if (run->kvm_valid_regs & KVM_SYNC_X86_SREGS)
		sregs_get(vcpu, &run->s.regs.sregs);
	if (run->kvm_valid_regs & KVM_SYNC_X86_EVENTS)
		events_get(vcpu, &run->s.regs.events);
}

/* SPDX-License-Identifier: MIT */
/* KVM_SET_GUEST_DEBUG and KVM_GET/SET_DEBUGREGS. */
#include "kvm/vcpu/ioctls.h"
#include "kvm/process/user.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <string.h>

#define DR6_ACTIVE_LOW UINT64_C(0xffff0ff0)
#define DR7_FIXED      UINT64_C(0x400)

long vcpu_get_debugregs(struct kvm_vcpu *vcpu, unsigned long argument)
{
	const struct cpu_state *s = cpu_state(vcpu->cpu);
	struct kvm_debugregs out;

	memset(&out, 0, sizeof(out));
	memcpy(out.db, s->dr, sizeof(out.db));
	out.dr6 = s->dr[6];
	out.dr7 = s->dr[7];
	return user_write(argument, &out, sizeof(out));
}

long vcpu_set_debugregs(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct cpu_state *s = cpu_state(vcpu->cpu);
	struct kvm_debugregs in;

	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	if (in.flags || in.dr6 >> 32 || in.dr7 >> 32)
		return -EINVAL;
	memcpy(s->dr, in.db, sizeof(in.db));
	s->dr[6] = in.dr6;
	s->dr[7] = in.dr7;
	cpu_state_changed(vcpu->cpu, CPU_CHANGED_DEBUG);
	return 0;
}

long vcpu_set_guest_debug(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct cpu_events *e = &cpu_state(vcpu->cpu)->events;
	struct kvm_guest_debug in;
	uint64_t dr[8] = { 0 };
	unsigned flags = 0;

	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	/* Like KVM, ignore unknown bits. */
	if (in.control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP)) {
		if (e->exception.pending)
			return -EBUSY;
		e->exception.pending = true;
		e->exception.injected = false;
		e->exception.has_error = false;
		e->exception.has_payload = false;
		e->exception.vector = in.control & KVM_GUESTDBG_INJECT_DB ? 1 : 3;
	}
	vcpu->debug_control = in.control & KVM_GUESTDBG_ENABLE ? in.control : 0;
	if (vcpu->debug_control & KVM_GUESTDBG_SINGLESTEP)
		flags |= CPU_DEBUG_STEP;
	if (vcpu->debug_control & KVM_GUESTDBG_USE_SW_BP)
		flags |= CPU_DEBUG_SW_BP;
	if (vcpu->debug_control & KVM_GUESTDBG_BLOCKIRQ)
		flags |= CPU_DEBUG_BLOCK_IRQ;
	if (vcpu->debug_control & KVM_GUESTDBG_USE_HW_BP) {
		flags |= CPU_DEBUG_HW_BP;
		for (unsigned i = 0; i < 4; i++)
			dr[i] = in.arch.debugreg[i];
		dr[6] = DR6_ACTIVE_LOW;
		dr[7] = in.arch.debugreg[7] | DR7_FIXED;
	}
	cpu_debug_set(vcpu->cpu, flags, dr);
	cpu_interrupt_raise(vcpu->cpu); /* KVM_GUESTDBG_BLOCKIRQ may have held an interrupt back */
	return 0;
}

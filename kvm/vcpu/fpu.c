/* SPDX-License-Identifier: MIT */
/* KVM_GET/SET_FPU, XSAVE and XCRS. */
#include "kvm/vcpu/cpuid.h"
#include "kvm/vcpu/ioctls.h"
#include "kvm/process/user.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <stddef.h>
#include <string.h>

_Static_assert(sizeof(struct kvm_xsave) == CPU_XSAVE_BYTES, "the area without its flexible end");

long vcpu_get_fpu(struct kvm_vcpu *vcpu, unsigned long argument)
{
	const struct cpu_state *state = cpu_state(vcpu->cpu);
	const struct cpu_fx *fx = &state->fx;
	struct kvm_fpu fpu = { 0 };

	memcpy(fpu.fpr, fx->st, sizeof(fpu.fpr));
	fpu.fcw = fx->fcw;
	fpu.fsw = fx->fsw;
	fpu.ftwx = fx->ftw;
	fpu.last_opcode = fx->fop;
	fpu.last_ip = fx->fip;
	fpu.last_dp = fx->fdp;
	for (unsigned i = 0; i < 16; i++)
		memcpy(fpu.xmm[i], state->vectors.v[i], sizeof(fpu.xmm[i]));
	/* Like KVM, which neither reads nor writes mxcsr by this structure. */
	fpu.mxcsr = 0;
	return user_write(argument, &fpu, sizeof(fpu));
}

long vcpu_set_fpu(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct cpu_state *state = cpu_state(vcpu->cpu);
	struct cpu_fx *fx = &state->fx;
	struct kvm_fpu fpu;

	if (user_read(&fpu, argument, sizeof(fpu)) != 0)
		return -EFAULT;
	memcpy(fx->st, fpu.fpr, sizeof(fpu.fpr));
	fx->fcw = fpu.fcw;
	fx->fsw = fpu.fsw;
	fx->ftw = fpu.ftwx;
	fx->fop = fpu.last_opcode;
	fx->fip = fpu.last_ip;
	fx->fdp = fpu.last_dp;
	for (unsigned i = 0; i < 16; i++)
		memcpy(state->vectors.v[i], fpu.xmm[i], sizeof(fpu.xmm[i]));
	cpu_state_changed(vcpu->cpu, CPU_CHANGED_FPU);
	return 0;
}

long vcpu_get_xsave(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_xsave out;

	/* As KVM: what CPUID gives the guest, and always what FXSAVE stores. */
	cpu_xsave_get(vcpu->cpu, cpuid_guest_components(vcpu) | 3, (uint8_t *)&out);
	return user_write(argument, &out, sizeof(out));
}

/* No component needs more room than struct kvm_xsave has. */
long vcpu_get_xsave2(struct kvm_vcpu *vcpu, unsigned long argument)
{
	return vcpu_get_xsave(vcpu, argument);
}

long vcpu_set_xsave(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_xsave in;

	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	if (!cpu_xsave_set(vcpu->cpu, (const uint8_t *)&in))
		return -EINVAL;
	cpu_state_changed(vcpu->cpu, CPU_CHANGED_FPU | CPU_CHANGED_PAGING);
	return 0;
}

long vcpu_get_xcrs(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_xcrs out = { 0 };

	if (!cpuid_has_xsave()) {
		out.nr_xcrs = 0;
	} else {
		out.nr_xcrs = 1;
		out.xcrs[0].xcr = 0;
		out.xcrs[0].value = cpu_state(vcpu->cpu)->xcr0;
	}
	return user_write(argument, &out, sizeof(out));
}

long vcpu_set_xcrs(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_xcrs in;

	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	if (!cpuid_has_xsave() || in.nr_xcrs > KVM_MAX_XCRS || in.flags)
		return -EINVAL;
	for (unsigned i = 0; i < in.nr_xcrs; i++) {
		if (in.xcrs[i].xcr != 0)
			continue;
		/* Without a CPUID the guest has x87 alone. */
		if (in.xcrs[i].value & ~(cpuid_guest_components(vcpu) | 1) ||
		    !cpu_xcr0_set(vcpu->cpu, in.xcrs[i].value))
			return -EINVAL;
		cpu_state_changed(vcpu->cpu, CPU_CHANGED_MODE);
		break;
	}
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* KVM_GET/SET_FPU, XSAVE and XCRS. The CPU keeps one FXSAVE image; the other forms are views of it. */
#include "kvm/vcpu/cpuid.h"
#include "kvm/vcpu/ioctls.h"
#include "kvm/process/user.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <stddef.h>
#include <string.h>

#define XSTATE_FP  1u
#define XSTATE_SSE 2u
#define MXCSR_MASK 0xffffu

/* The start of an XSAVE area, standard format: legacy region, then the header. */
struct xsave_area {
	struct cpu_fxsave legacy;
	uint64_t xstate_bv, xcomp_bv, reserved[6];
};
_Static_assert(sizeof(struct cpu_fxsave) == 512 && sizeof(struct xsave_area) == 576, "as the processor lays it out");
_Static_assert(sizeof(struct xsave_area) <= sizeof(struct kvm_xsave), "it fits");

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

static long xsave_get(struct kvm_vcpu *vcpu, unsigned long argument)
{
	const struct cpu_state *state = cpu_state(vcpu->cpu);
	struct kvm_xsave out;
	struct xsave_area area;

	memset(&area, 0, sizeof(area));
	memset(&out, 0, sizeof(out));
	area.legacy.fx = state->fx;
	area.legacy.fx.mxcsr_mask = MXCSR_MASK;
	for (unsigned i = 0; i < 16; i++)
		memcpy(area.legacy.xmm[i], state->vectors.v[i], sizeof(area.legacy.xmm[i]));
	area.xstate_bv = XSTATE_FP | XSTATE_SSE;
	memcpy(&out, &area, sizeof(area));
	return user_write(argument, &out, sizeof(out));
}

long vcpu_get_xsave(struct kvm_vcpu *vcpu, unsigned long argument)
{
	return xsave_get(vcpu, argument);
}

long vcpu_get_xsave2(struct kvm_vcpu *vcpu, unsigned long argument)
{
	return xsave_get(vcpu, argument);
}

/* Set the components that an XSAVE area leaves out to their initial values. */
static void legacy_reset(struct cpu_fxsave *image, uint64_t present)
{
	struct cpu_fx *fx = &image->fx;

	if (!(present & XSTATE_FP)) {
		fx->fcw = 0x37f;
		fx->fsw = 0;
		fx->ftw = 0;
		fx->fop = 0;
		fx->fip = fx->fdp = 0;
		memset(fx->st, 0, sizeof(fx->st));
	}
	if (!(present & XSTATE_SSE))
		memset(image->xmm, 0, sizeof(image->xmm));
}

long vcpu_set_xsave(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct cpu_state *state = cpu_state(vcpu->cpu);
	struct kvm_xsave in;
	struct xsave_area area;

	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	memcpy(&area, &in, sizeof(area));
	/* Refuse components that this CPU lacks, the compacted format, and reserved bits. */
	if (area.xstate_bv & ~(uint64_t)(XSTATE_FP | XSTATE_SSE) || area.xcomp_bv)
		return -EINVAL;
	if (area.legacy.fx.mxcsr & ~MXCSR_MASK)
		return -EINVAL;
	legacy_reset(&area.legacy, area.xstate_bv);
	area.legacy.fx.mxcsr_mask = MXCSR_MASK;
	state->fx = area.legacy.fx;
	for (unsigned i = 0; i < 16; i++)
		memcpy(state->vectors.v[i], area.legacy.xmm[i], sizeof(area.legacy.xmm[i]));
	cpu_state_changed(vcpu->cpu, CPU_CHANGED_FPU);
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
		/* x87 must be set, and nothing that the CPU lacks. */
		if (!(in.xcrs[i].value & XSTATE_FP) || in.xcrs[i].value & ~cpuid_xcr0_max())
			return -EINVAL;
		cpu_state(vcpu->cpu)->xcr0 = in.xcrs[i].value;
		cpu_state_changed(vcpu->cpu, CPU_CHANGED_MODE);
		break;
	}
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Handlers of the ioctls about vCPUs: their state, CPUID and MSRs. kvm/ioctl/dispatch.h says what a handler may
 * expect.
 */
#ifndef VMMU_KVM_VCPU_IOCTLS_H
#define VMMU_KVM_VCPU_IOCTLS_H

struct kvm;
struct kvm_vcpu;

long system_mce_cap(unsigned long argument);
long system_supported_cpuid(unsigned long argument);
long system_emulated_cpuid(unsigned long argument);
long system_msr_list(unsigned long argument);
long system_msr_feature_list(unsigned long argument);
long system_get_msrs(unsigned long argument);
long vm_create_vcpu(struct kvm *kvm, unsigned long argument);
long vm_set_msr_filter(struct kvm *kvm, unsigned long argument);
long vcpu_get_regs(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_set_regs(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_get_sregs(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_set_sregs(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_get_sregs2(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_set_sregs2(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_translate(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_get_fpu(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_set_fpu(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_get_xsave(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_get_xsave2(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_set_xsave(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_get_xcrs(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_set_xcrs(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_get_msrs(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_set_msrs(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_set_cpuid(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_set_cpuid2(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_get_cpuid2(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_get_mp_state(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_set_mp_state(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_get_events(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_set_events(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_get_debugregs(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_set_debugregs(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_set_guest_debug(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_set_signal_mask(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_interrupt(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_nmi(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_smi(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_setup_mce(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_set_mce(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_enable_cap(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_set_tsc_khz(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_get_tsc_khz(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_kvmclock_ctrl(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_has_attr(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_get_attr(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_set_attr(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_get_nested_state(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_set_nested_state(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_prefault(struct kvm_vcpu *vcpu, unsigned long argument);

#endif

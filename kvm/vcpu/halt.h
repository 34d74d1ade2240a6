/* SPDX-License-Identifier: MIT */
/*
 * A vCPU with a local APIC that is not running: in HLT, or waiting for INIT and SIPI. On the vCPU's thread, in
 * KVM_RUN.
 */
#ifndef VMMU_KVM_HALT_H
#define VMMU_KVM_HALT_H

struct kvm_vcpu;

/** Take INIT and SIPI that have come; never sleeps. On the vCPU's thread, or with its mutex. Needs a local APIC. */
void halt_take_start(struct kvm_vcpu *vcpu);

/** Take INIT and SIPI, and sleep while halted. Returns: 1 to run the guest, -EINTR when KVM_RUN must end. */
long halt_accept(struct kvm_vcpu *vcpu);

/**
 * KVM_RUN of a vCPU that was never started. Returns: -EAGAIN when INIT or SIPI arrived, -EINTR when KVM_RUN must
 * end.
 */
long halt_uninitialized(struct kvm_vcpu *vcpu);

/** HLT of a vCPU without a local APIC that is not to exit for it. Returns when KVM_RUN must end. */
void halt_until_signal(struct kvm_vcpu *vcpu);

#endif

/* SPDX-License-Identifier: MIT */
/* A vCPU with a local APIC that is not running: HLT, and waiting for INIT and SIPI. On the vCPU's thread, in KVM_RUN. */
#ifndef VMMU_KVM_HALT_H
#define VMMU_KVM_HALT_H

struct kvm_vcpu;

/** Take INIT and SIPI, and sleep while halted. Returns: 1 to run the guest, -EINTR when a signal ended the sleep. */
long halt_accept(struct kvm_vcpu *vcpu);

/** KVM_RUN of a vCPU that was never started. Returns: -EAGAIN when something arrived, -EINTR for a signal. */
long halt_uninitialized(struct kvm_vcpu *vcpu);

#endif

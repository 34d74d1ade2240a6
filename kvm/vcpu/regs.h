/* SPDX-License-Identifier: MIT */
/* Registers, copied between the CPU's state and KVM's structures. */
#ifndef VMMU_KVM_REGS_H
#define VMMU_KVM_REGS_H

#include <linux/kvm.h>

struct kvm_vcpu;

void regs_get(struct kvm_vcpu *vcpu, struct kvm_regs *out);
void regs_set(struct kvm_vcpu *vcpu, const struct kvm_regs *in);
void sregs_get(struct kvm_vcpu *vcpu, struct kvm_sregs *out);
/** Returns: 0, or -EINVAL with nothing changed. */
long sregs_set(struct kvm_vcpu *vcpu, const struct kvm_sregs *in);
void events_get(struct kvm_vcpu *vcpu, struct kvm_vcpu_events *out);
long events_set(struct kvm_vcpu *vcpu, const struct kvm_vcpu_events *in);
/** Move NMIs and SMIs that other threads sent to the state of the CPU. On the vCPU's thread. */
void events_collect(struct kvm_vcpu *vcpu);

/** Copy what kvm_dirty_regs names to the vCPU. Returns: 0 or -EINVAL. */
long regs_sync_in(struct kvm_vcpu *vcpu);
/** Copy what kvm_valid_regs asks for from the vCPU. */
void regs_sync_out(struct kvm_vcpu *vcpu);

#endif

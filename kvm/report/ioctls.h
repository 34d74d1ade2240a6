/* SPDX-License-Identifier: MIT */
/* Handlers of the ioctls about statistics. kvm/ioctl/dispatch.h says what a handler may expect. */
#ifndef VMMU_KVM_REPORT_IOCTLS_H
#define VMMU_KVM_REPORT_IOCTLS_H

struct kvm;
struct kvm_vcpu;

long vm_stats_fd(struct kvm *kvm, unsigned long argument);
long vcpu_stats_fd(struct kvm_vcpu *vcpu, unsigned long argument);

#endif

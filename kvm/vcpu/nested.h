/* SPDX-License-Identifier: MIT */
/* The state of a vCPU whose guest is a hypervisor (AMD SVM): what of it the front end decides. */
#ifndef VMMU_KVM_NESTED_H
#define VMMU_KVM_NESTED_H

#include <stdint.h>

struct kvm_vcpu;

/** KVM_CAP_NESTED_STATE: the most that KVM_GET_NESTED_STATE writes; 0 if guests cannot be hypervisors. */
long nested_state_bytes(void);

/**
 * The client has written EFER, which was `before`. Without SVME there is no guest mode, and GIF is set. The other
 * registers stay as they are: they are the client's to write. With the vCPU's mutex.
 */
void nested_efer_written(struct kvm_vcpu *vcpu, uint64_t before);

/** Before guest code runs: what KVM_SET_NESTED_STATE left to do. On the vCPU's thread. */
void nested_before_run(struct kvm_vcpu *vcpu);

#endif

/* SPDX-License-Identifier: MIT */
/* The time stamp counter of a vCPU: its rate, its offset, and how it stays equal to those of the VM's other vCPUs. */
#ifndef VMMU_KVM_TSC_H
#define VMMU_KVM_TSC_H

#include <stdint.h>

struct kvm_vcpu;

/** Give a new vCPU the VM's rate and the TSC of the other vCPUs; the first of a VM counts from 0. */
void tsc_vcpu_created(struct kvm_vcpu *vcpu);

/**
 * The client writes IA32_TSC. A value within a second of what an earlier write made of another vCPU's TSC is
 * taken for the same moment: this TSC then equals that one. So a client may copy vCPU after vCPU. On the vCPU's thread.
 */
void tsc_client_write(struct kvm_vcpu *vcpu, uint64_t value);

/** The guest moves its TSC by `delta`, through IA32_TSC or IA32_TSC_ADJUST. On the vCPU's thread. */
void tsc_guest_adjust(struct kvm_vcpu *vcpu, uint64_t delta);

/** Answer PV_CLOCK_MASTER: have all vCPUs the same TSC? If the answer changes, all write their pages again. */
void tsc_master_update(struct kvm_vcpu *vcpu);

#endif

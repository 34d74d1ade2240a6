/* SPDX-License-Identifier: MIT */
/*
 * Steal time: a page that says how long the vCPU could have run and did not, and whether it runs now. While it says
 * that it does not, other vCPUs do not send it interrupts to flush its TLB, but leave a note there (KVM's PV TLB
 * flush). All on the vCPU's thread.
 */
#ifndef VMMU_KVM_STEAL_H
#define VMMU_KVM_STEAL_H

#include <stdbool.h>
#include <stdint.h>

struct kvm_vcpu;

/** MSR_KVM_STEAL_TIME is written. Returns: false for #GP. */
bool steal_msr_write(struct kvm_vcpu *vcpu, uint64_t value);

/** Ask for the delays of this thread, unless that was done a moment ago. If there are new ones, request an update. */
void steal_look(struct kvm_vcpu *vcpu);

/** Answer PV_STEAL_UPDATE. Returns: false if it must be asked again, as the dirty ring is full. */
bool steal_update(struct kvm_vcpu *vcpu);

/** The vCPU goes to sleep. Requests the update that is to be answered before it runs again. */
void steal_away(struct kvm_vcpu *vcpu);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * kvmclock: a page from which the guest computes the time, by its TSC, and the wall clock at which that time was 0.
 * Linux describes the layout in Documentation/virt/kvm/x86/msr.rst. All on the vCPU's thread.
 */
#ifndef VMMU_KVM_KVMCLOCK_H
#define VMMU_KVM_KVMCLOCK_H

#include <stdbool.h>
#include <stdint.h>

struct kvm_vcpu;

/** MSR_KVM_SYSTEM_TIME (`old`) or MSR_KVM_SYSTEM_TIME_NEW is written. */
void kvmclock_system_time_write(struct kvm_vcpu *vcpu, uint64_t value, bool old, bool host);

/** MSR_KVM_WALL_CLOCK or its successor is written. They share one value, for the whole VM. */
void kvmclock_wall_clock_write(struct kvm_vcpu *vcpu, uint64_t value);
uint64_t kvmclock_wall_clock_read(struct kvm_vcpu *vcpu);

/** Answer PV_CLOCK_UPDATE and PV_WALL_CLOCK. Returns: false if it must be asked again, as the dirty ring is full. */
bool kvmclock_page_update(struct kvm_vcpu *vcpu);
bool kvmclock_wall_update(struct kvm_vcpu *vcpu);

#endif

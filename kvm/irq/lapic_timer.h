/* SPDX-License-Identifier: MIT */
/*
 * The timers of local APICs, one each. The timers' thread (kvm/irq/timer.h) wakes vCPUs whose timer is due. It must
 * run before a vCPU with a local APIC does.
 */
#ifndef VMMU_KVM_LAPIC_TIMER_H
#define VMMU_KVM_LAPIC_TIMER_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct kvm_vcpu;
struct lapic_timer;

struct lapic_timer *lapic_timer_create(struct kvm_vcpu *vcpu);
/** After: the timers' thread no longer knows the vCPU. */
void lapic_timer_destroy(struct lapic_timer *timer);

/** Make it due after `ns`, and then every `period` ns unless `period` is 0. */
void lapic_timer_arm(struct lapic_timer *timer, uint64_t ns, uint64_t period);
/** Make it due when the guest's TSC reaches `tsc`. That TSC is `now` and runs at `khz`. 0 stops the timer. */
void lapic_timer_arm_deadline(struct lapic_timer *timer, uint64_t tsc, uint64_t now, uint32_t khz);
/** Let the running count end as it would. Then start another of `period` ns, or none if that is 0. */
void lapic_timer_period(struct lapic_timer *timer, uint64_t period);
void lapic_timer_stop(struct lapic_timer *timer);
/** Is its LVT entry masked? A masked timer counts, and no running guest is disturbed. The vCPU's thread. */
void lapic_timer_mask(struct lapic_timer *timer, bool masked);

/** True once each time it was due. Several missed periods count once. */
bool lapic_timer_expired(struct lapic_timer *timer);
/** When a halted vCPU must look. Returns: false for never: the timer is stopped, or nobody sees it end. */
bool lapic_timer_due(struct lapic_timer *timer, struct timespec *due);
/** Nanoseconds left, 0 when stopped. */
uint64_t lapic_timer_left(struct lapic_timer *timer);
/** The armed TSC deadline, or 0. */
uint64_t lapic_timer_deadline(struct lapic_timer *timer);

#endif

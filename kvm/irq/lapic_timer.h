/* SPDX-License-Identifier: MIT */
/* One timer a local APIC. One thread for the whole process wakes vCPUs whose timer is due; it exists once a vCPU with one has run. */
#ifndef VMMU_KVM_LAPIC_TIMER_H
#define VMMU_KVM_LAPIC_TIMER_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "port/posix/fork.h"

struct kvm_vcpu;
struct lapic_timer;

struct lapic_timer *lapic_timer_create(struct kvm_vcpu *vcpu);
/** After: the thread does not know the vCPU any more. */
void lapic_timer_destroy(struct lapic_timer *timer);

/** The vCPU runs for the first time: what may need the thread comes later, when no thread may be made any more. */
void lapic_timer_start(void);

/** Due after `ns`, then every `period` ns unless 0. */
void lapic_timer_arm(struct lapic_timer *timer, uint64_t ns, uint64_t period);
/** Due when the guest's TSC, which is `now` and runs at `khz`, reaches `tsc`; 0 stops. */
void lapic_timer_arm_deadline(struct lapic_timer *timer, uint64_t tsc, uint64_t now, uint32_t khz);
/** What follows when a running count is over: another one of `period` ns, or nothing for 0. */
void lapic_timer_period(struct lapic_timer *timer, uint64_t period);
void lapic_timer_stop(struct lapic_timer *timer);

/** True once for each time that it was due (missed periods count once). */
bool lapic_timer_expired(struct lapic_timer *timer);
bool lapic_timer_due(struct lapic_timer *timer, struct timespec *due);
/** Nanoseconds left, 0 when stopped. */
uint64_t lapic_timer_left(struct lapic_timer *timer);
/** The armed TSC deadline, or 0. */
uint64_t lapic_timer_deadline(struct lapic_timer *timer);

/** A forked child has no timers and no thread for them. */
fork_fn lapic_timer_fork;

#endif

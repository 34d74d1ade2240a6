/* SPDX-License-Identifier: MIT */
#include "kvm/irq/lapic_timer.h"
#include "kvm/irq/timer.h"
#include "kvm/vm/vm.h"
#include <stddef.h>
#include <stdlib.h>

/*
 * `due` is what counts: the vCPU's thread compares it with the clock. The timer only wakes the vCPU at that time. It
 * stays armed when `due` is cleared, since most are armed again at once, and then finds nothing to do. While the LVT
 * entry is masked, the timer is not armed: a running guest has nothing to see then, and a halted vCPU sleeps on.
 */
struct lapic_timer {
	struct timer timer;
	struct kvm_vcpu *vcpu;
	_Atomic uint64_t due; /* monotonic ns; 0: stopped */
	uint64_t period;      /* only the vCPU's thread */
	uint64_t deadline;    /* only the vCPU's thread */
	bool masked;          /* only the vCPU's thread */
};

/* If the timers' thread does not run, the timer still ends HLT, but a running guest sees it only at its next exit. */
static void wake_vcpu(struct timer *timer)
{
	struct lapic_timer *t = (struct lapic_timer *)((char *)timer - offsetof(struct lapic_timer, timer));

	if (atomic_load(&t->due))
		vcpu_wake(t->vcpu);
}

struct lapic_timer *lapic_timer_create(struct kvm_vcpu *vcpu)
{
	struct lapic_timer *timer = calloc(1, sizeof(*timer));

	if (!timer)
		return NULL;
	timer->timer.expired = wake_vcpu;
	timer->vcpu = vcpu;
	return timer;
}

void lapic_timer_destroy(struct lapic_timer *timer)
{
	timer_cancel(&timer->timer);
	free(timer);
}

static void set_due(struct lapic_timer *timer, uint64_t due)
{
	atomic_store(&timer->due, due);
	if (!timer->masked)
		timer_arm(&timer->timer, due);
}

void lapic_timer_mask(struct lapic_timer *timer, bool masked)
{
	uint64_t due = atomic_load(&timer->due);

	if (timer->masked && !masked && due)
		timer_arm(&timer->timer, due);
	timer->masked = masked;
}

void lapic_timer_arm(struct lapic_timer *timer, uint64_t ns, uint64_t period)
{
	timer->period = period;
	timer->deadline = 0;
	set_due(timer, timer_now() + ns);
}

void lapic_timer_arm_deadline(struct lapic_timer *timer, uint64_t tsc, uint64_t now, uint32_t khz)
{
	lapic_timer_stop(timer);
	if (!tsc)
		return;
	timer->deadline = tsc;
	set_due(timer, timer_now() + (tsc > now ? (uint64_t)((unsigned __int128)(tsc - now) * 1000000u / khz) : 0));
}

void lapic_timer_period(struct lapic_timer *timer, uint64_t period)
{
	timer->period = period;
}

void lapic_timer_stop(struct lapic_timer *timer)
{
	atomic_store(&timer->due, 0);
	timer->period = 0;
	timer->deadline = 0;
}

bool lapic_timer_expired(struct lapic_timer *timer)
{
	uint64_t due = atomic_load_explicit(&timer->due, memory_order_relaxed), now;

	if (!due)
		return false;
	now = timer_now();
	if (now < due)
		return false;
	timer->deadline = 0;
	if (timer->period)
		set_due(timer, due + ((now - due) / timer->period + 1) * timer->period);
	else
		atomic_store(&timer->due, 0);
	return true;
}

bool lapic_timer_due(struct lapic_timer *timer, struct timespec *due)
{
	uint64_t at = atomic_load(&timer->due);

	*due = timer_timespec(at);
	return at != 0 && !timer->masked;
}

uint64_t lapic_timer_left(struct lapic_timer *timer)
{
	uint64_t due = atomic_load(&timer->due), now = timer_now();

	return due > now ? due - now : 0;
}

uint64_t lapic_timer_deadline(struct lapic_timer *timer)
{
	return timer->deadline;
}

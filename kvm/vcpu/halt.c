/* SPDX-License-Identifier: MIT */
#include "kvm/vcpu/halt.h"
#include "kvm/irq/lapic.h"
#include "kvm/irq/timer.h"
#include "kvm/vcpu/async_pf.h"
#include "kvm/vcpu/pv.h"
#include "kvm/vcpu/regs.h"
#include "kvm/vcpu/run.h"
#include "kvm/vcpu/steal.h"
#include "kvm/process/sys.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <linux/futex.h>
#include <time.h>

static bool wants_to_run(struct kvm_vcpu *vcpu)
{
	if (atomic_load(&vcpu->pv_kicked))
		return true;
	events_collect(vcpu);
	return cpu_event_wakes(vcpu->cpu) || (cpu_interrupt_wakes(vcpu->cpu) && lapic_has_interrupt(vcpu->lapic));
}

static long futex_wait(struct kvm_vcpu *vcpu, unsigned seen, const struct timespec *until)
{
	return SYS6(SYS_futex, &vcpu->wake, FUTEX_WAIT_BITSET_PRIVATE, seen, until, 0, FUTEX_BITSET_MATCH_ANY);
}

/* The longest that a sleep is taken to end late, and so the longest spin before a timer, in ns. */
#define LATE_MOST 100000u

/* A sleep until `asked` has ended. Remember how late: less at once, more only when it stays so. */
static void late_learn(struct kvm_vcpu *vcpu, uint64_t asked)
{
	uint64_t late = timer_now() - asked;

	if (late < vcpu->sleep_late)
		vcpu->sleep_late -= (uint32_t)(vcpu->sleep_late - late) / 2;
	else
		vcpu->sleep_late += (uint32_t)((late < LATE_MOST ? late : LATE_MOST) - vcpu->sleep_late) / 16;
}

/*
 * Sleep until `due`. The host ends a sleep some 20 to 90 us late, by about the same each time. So ask for so much
 * earlier, and spin for what is left then; KVM does so, too (lapic_timer_advance).
 */
static void sleep_until(struct kvm_vcpu *vcpu, unsigned seen, uint64_t due)
{
	uint64_t asked = due - vcpu->sleep_late;
	struct timespec until = timer_timespec(asked);

	if (asked > timer_now()) {
		if (futex_wait(vcpu, seen, &until) != -ETIMEDOUT)
			return;
		late_learn(vcpu, asked);
	}
	while (timer_now() < due && atomic_load(&vcpu->wake) == seen && !run_must_end(vcpu))
		continue;
}

/* Sleep until `wake` differs from `seen`, the timer of the APIC is due, or a signal comes. */
static void sleep_once(struct kvm_vcpu *vcpu, unsigned seen)
{
	struct timespec due;

	if (vcpu->lapic && lapic_next_timer(vcpu->lapic, &due))
		sleep_until(vcpu, seen, (uint64_t)due.tv_sec * 1000000000u + (uint64_t)due.tv_nsec);
	else
		futex_wait(vcpu, seen, NULL);
}

/*
 * INIT resets the vCPU. SIPI starts it if it waits for one. While an INIT is held back (SMM, GIF = 0, a hypervisor that
 * is told of it first) it stays latched, and a SIPI is lost.
 */
void halt_take_start(struct kvm_vcpu *vcpu)
{
	struct cpu_state *state = cpu_state(vcpu->cpu);
	struct lapic_start start;

	if (!lapic_start_pending(vcpu->lapic))
		return;
	start = lapic_take_start(vcpu->lapic);
	if (start.init && !cpu_init_take(vcpu->cpu)) {
		lapic_init_latch(vcpu->lapic, true);
		return;
	}
	if (start.init) {
		lapic_reset(vcpu->lapic);
		cpu_reset(vcpu->cpu, true);
		pv_reset(vcpu);
		cpu_state_changed(vcpu->cpu, CPU_CHANGED_ALL);
		state->mp_state = vcpu->id == vcpu->kvm->boot_cpu_id ? CPU_MP_RUNNABLE : CPU_MP_INIT_RECEIVED;
	}
	if (start.sipi && state->mp_state == CPU_MP_INIT_RECEIVED) {
		state->seg[CPU_CS].selector = (uint16_t)(start.vector << 8);
		state->seg[CPU_CS].base = (uint64_t)start.vector << 12;
		state->rip = 0;
		cpu_state_changed(vcpu->cpu, CPU_CHANGED_ALL);
		state->mp_state = CPU_MP_RUNNABLE;
	}
}

long halt_accept(struct kvm_vcpu *vcpu)
{
	struct cpu_state *state = cpu_state(vcpu->cpu);

	for (;;) {
		unsigned seen = atomic_load(&vcpu->wake);

		if (atomic_load(&vcpu->pv_requests) & PV_ASYNC_PF)
			pv_requests_do(vcpu);
		lapic_timer_check(vcpu->lapic);
		halt_take_start(vcpu);
		if (state->mp_state == CPU_MP_HALTED && wants_to_run(vcpu)) {
			state->mp_state = CPU_MP_RUNNABLE;
			state->events.smi.from_halt = state->events.smi.pending && !state->events.smi.smm;
			atomic_store(&vcpu->pv_kicked, false);
			count(&vcpu->halt_wakeups);
		}
		if (async_pf_halted(vcpu) && wants_to_run(vcpu))
			async_pf_wake(vcpu);
		if (state->mp_state == CPU_MP_RUNNABLE && !async_pf_halted(vcpu))
			return 1;
		if (run_must_end(vcpu))
			return -EINTR;
		if (vcpu->pv.steal_page.on)
			steal_away(vcpu);
		sleep_once(vcpu, seen);
	}
}

long halt_uninitialized(struct kvm_vcpu *vcpu)
{
	for (;;) {
		unsigned seen = atomic_load(&vcpu->wake);

		if (run_must_end(vcpu))
			return -EINTR;
		if (lapic_start_pending(vcpu->lapic)) {
			halt_take_start(vcpu);
			return -EAGAIN;
		}
		futex_wait(vcpu, seen, NULL); /* the timer ends nothing here */
	}
}

void halt_until_signal(struct kvm_vcpu *vcpu)
{
	for (;;) {
		unsigned seen = atomic_load(&vcpu->wake);

		if (run_must_end(vcpu))
			return;
		futex_wait(vcpu, seen, NULL);
	}
}

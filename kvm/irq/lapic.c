/* SPDX-License-Identifier: MIT */
/* Interrupts of the local APIC: which one is next, its end, INIT and SIPI (SDM vol. 3, chapter 11). */
#include "kvm/irq/irqchip.h"
#include "kvm/irq/lapic_int.h"
#include "kvm/irq/pic.h"
#include "kvm/irq/pv_eoi.h"
#include <stdlib.h>

static uint32_t reset_value(const struct lapic *a, uint32_t offset)
{
	const struct kvm *kvm = a->vcpu->kvm;

	switch (offset) {
	case REG_ID: return a->vcpu->id << 24;
	case REG_VERSION: return lapic_version(a);
	case REG_DFR: return UINT32_MAX;
	case REG_SVR: return 0xff;
	case REG_LVT_LINT0:
		/* On the boot processor the PIC gets through, as firmware would set it. */
		if (a->vcpu->id == kvm->boot_cpu_id && !quirk_is_off(kvm, KVM_X86_QUIRK_LINT0_REENABLED))
			return LVT_EXTINT;
		return LVT_MASKED;
	default: return offset >= REG_LVT_TIMER && offset <= REG_LVT_LAST ? LVT_MASKED : 0;
	}
}

void lapic_reset(struct lapic *a)
{
	/*
	 * One store for each register: a sender reads some of them. A SIPI that follows its INIT at once must find the
	 * ID.
	 */
	for (uint32_t o = 0; o < 0x400; o += 0x10)
		*reg(a, o) = reset_value(a, o);
	for (int i = 0; i < 8; i++)
		atomic_store(&a->irr[i], 0);
	cpu_state(a->vcpu->cpu)->cr8 = 0; /* CR8 shows the TPR */
	lapic_timer_stop(a->timer);
}

struct lapic *lapic_create(struct kvm_vcpu *vcpu)
{
	struct lapic *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->vcpu = vcpu;
	a->base = 0xfee00000u | BASE_ENABLE;
	a->timer = lapic_timer_create(vcpu);
	if (!a->timer) {
		free(a);
		return NULL;
	}
	lapic_reset(a);
	return a;
}

void lapic_destroy(struct lapic *a)
{
	lapic_timer_destroy(a->timer);
	free(a);
}

/* ---- priorities ------------------------------------------------------------------------------------------ */

static int highest(const uint32_t words[8])
{
	for (int i = 7; i >= 0; i--)
		if (words[i])
			return i * 32 + 31 - __builtin_clz(words[i]);
	return -1;
}

int lapic_highest_requested(struct lapic *a)
{
	uint32_t words[8];

	for (int i = 0; i < 8; i++)
		words[i] = atomic_load(&a->irr[i]);
	return highest(words);
}

int lapic_highest_in_service(struct lapic *a)
{
	uint32_t words[8];

	for (unsigned i = 0; i < 8; i++)
		words[i] = *reg(a, REG_ISR + i * 16);
	return highest(words);
}

uint32_t lapic_processor_priority(struct lapic *a)
{
	uint32_t tpr = *reg(a, REG_TPR) & 0xff;
	int isr = lapic_highest_in_service(a);

	return isr >= 0 && ((unsigned)isr & 0xf0) > (tpr & 0xf0) ? (unsigned)isr & 0xf0 : tpr;
}

static int deliverable(struct lapic *a)
{
	int vector;

	/* An APIC that its SVR turns off takes nothing new, but gives what it has (SDM vol. 3, 11.4.7.2). */
	if (!(a->base & BASE_ENABLE))
		return -1;
	vector = lapic_highest_requested(a);
	return vector >= 0 && ((unsigned)vector & 0xf0) > (lapic_processor_priority(a) & 0xf0) ? vector : -1;
}

/* ---- interrupts of a PIC --------------------------------------------------------------------------------- */

bool lapic_takes_external(struct lapic *a)
{
	uint32_t lint0 = *reg(a, REG_LVT_LINT0);

	return !(a->base & BASE_ENABLE) || (lint0 & (LVT_MASKED | LVT_MODE)) == LVT_EXTINT;
}

/* Of the VM's PIC, or given by KVM_INTERRUPT when the client has the PIC. */
static bool external_waits(struct lapic *a)
{
	if (!lapic_takes_external(a))
		return false;
	return a->vcpu->kvm->pic ? pic_output(a->vcpu->kvm->pic) : a->vcpu->extint >= 0;
}

static int external_acknowledge(struct lapic *a)
{
	struct kvm *kvm = a->vcpu->kvm;
	int vector;

	if (!kvm->pic) {
		vector = a->vcpu->extint;
		a->vcpu->extint = -1;
		return vector;
	}
	pthread_mutex_lock(&kvm->irq_lock);
	/* Another vCPU may have been first. */
	vector = pic_output(kvm->pic) ? pic_acknowledge(kvm->pic) : -1;
	pthread_mutex_unlock(&kvm->irq_lock);
	return vector;
}

void lapic_external(struct kvm *kvm)
{
	unsigned online = vm_vcpus_online(kvm);

	for (unsigned i = 0; i < online; i++) {
		if (!lapic_takes_external(kvm->online[i]->lapic))
			continue;
		vcpu_wake(kvm->online[i]);
		return;
	}
}

/* ---- taking and ending ----------------------------------------------------------------------------------- */

bool lapic_has_interrupt(struct lapic *a)
{
	lapic_timer_check(a);
	pv_eoi_settle(a, lapic_highest_requested(a) >= 0);
	lapic_vapic_in(a);
	return external_waits(a) || deliverable(a) >= 0;
}

int lapic_acknowledge(struct lapic *a)
{
	int vector;

	lapic_timer_check(a);
	pv_eoi_settle(a, lapic_highest_requested(a) >= 0);
	lapic_vapic_in(a);
	if (external_waits(a)) {
		vector = external_acknowledge(a);
		if (vector >= 0)
			return vector;
	}
	vector = deliverable(a);
	if (vector < 0) {
		lapic_vapic_out(a);
		return -1;
	}
	atomic_fetch_and(&a->irr[vector / 32], ~(1u << (vector % 32)));
	*reg(a, REG_ISR + (uint32_t)(vector / 32) * 16) |= 1u << (vector % 32);
	lapic_vapic_out(a);
	pv_eoi_offer(a, (uint8_t)vector);
	return vector;
}

void lapic_end_of_interrupt(struct lapic *a)
{
	int vector;
	uint32_t bit;

	pv_eoi_settle(a, true);
	vector = lapic_highest_in_service(a);
	if (vector < 0)
		return;
	bit = 1u << (vector % 32);
	*reg(a, REG_ISR + (uint32_t)(vector / 32) * 16) &= ~bit;
	irqchip_eoi(a->vcpu, (uint8_t)vector, *reg(a, REG_TMR + (uint32_t)(vector / 32) * 16) & bit,
	            !(*reg(a, REG_SVR) & SVR_DIRECTED_EOI));
	cpu_interrupt_raise(a->vcpu->cpu);
}

void lapic_request(struct lapic *a, uint8_t vector, bool level)
{
	_Atomic uint32_t *trigger = reg(a, REG_TMR + vector / 32u * 16);
	uint32_t bit = 1u << (vector % 32);

	if (vector < 16)
		return;
	/* The trigger mode first: whoever sees the request sees of which kind it is. */
	if (level)
		atomic_fetch_or(trigger, bit);
	else if (atomic_load(trigger) & bit)
		atomic_fetch_and(trigger, ~bit);
	atomic_fetch_or(&a->irr[vector / 32], bit);
	vcpu_wake(a->vcpu);
}

bool lapic_is_on(struct lapic *a)
{
	return lapic_is_enabled(a);
}

void lapic_raise(struct lapic *a, uint8_t vector)
{
	lapic_request(a, vector, false);
}

/* ---- starting -------------------------------------------------------------------------------------------- */

bool lapic_start_pending(struct lapic *a)
{
	return atomic_load(&a->latch) != 0;
}

bool lapic_init_is_latched(struct lapic *a)
{
	return atomic_load(&a->latch) & LATCH_INIT;
}

void lapic_init_latch(struct lapic *a, bool latched)
{
	if (latched)
		atomic_fetch_or(&a->latch, LATCH_INIT);
	else
		atomic_fetch_and(&a->latch, ~LATCH_INIT);
}

struct lapic_start lapic_take_start(struct lapic *a)
{
	unsigned taken = atomic_exchange(&a->latch, 0);

	return (struct lapic_start){ taken & LATCH_INIT, taken & LATCH_SIPI, (uint8_t)atomic_load(&a->sipi_vector) };
}

void lapic_queue_sipi(struct lapic *a)
{
	atomic_fetch_or(&a->latch, LATCH_SIPI);
}

void lapic_set_sipi_vector(struct lapic *a, uint8_t vector)
{
	atomic_store(&a->sipi_vector, vector);
}

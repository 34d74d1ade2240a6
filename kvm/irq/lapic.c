/* SPDX-License-Identifier: MIT */
/* Interrupts of the local APIC: taking and sending them, INIT and SIPI (SDM vol. 3, chapter 11). */
#include "kvm/irq/lapic_int.h"
#include <stdlib.h>

static uint32_t id_of(struct lapic *a)
{
	return is_x2apic(a) ? a->vcpu->id : *reg(a, REG_ID) >> 24;
}

void lapic_reset(struct lapic *a)
{
	for (uint32_t o = 0; o < 0x400; o += 0x10)
		*reg(a, o) = 0;
	for (int i = 0; i < 8; i++)
		atomic_store(&a->irr[i], 0);
	*reg(a, REG_ID) = a->vcpu->id << 24;
	*reg(a, REG_VERSION) = VERSION;
	*reg(a, REG_DFR) = UINT32_MAX;
	*reg(a, REG_SVR) = 0xff;
	for (uint32_t o = REG_LVT_TIMER; o <= REG_LVT_LAST; o += 0x10)
		*reg(a, o) = LVT_MASKED;
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

static int highest_requested(struct lapic *a)
{
	uint32_t words[8];

	for (int i = 0; i < 8; i++)
		words[i] = atomic_load(&a->irr[i]);
	return highest(words);
}

static int highest_in_service(struct lapic *a)
{
	uint32_t words[8];

	for (unsigned i = 0; i < 8; i++)
		words[i] = *reg(a, REG_ISR + i * 16);
	return highest(words);
}

uint32_t lapic_processor_priority(struct lapic *a)
{
	uint32_t tpr = *reg(a, REG_TPR) & 0xff;
	int isr = highest_in_service(a);

	return isr >= 0 && ((unsigned)isr & 0xf0) > (tpr & 0xf0) ? (unsigned)isr & 0xf0 : tpr;
}

static int deliverable(struct lapic *a)
{
	int vector;

	if (!(a->base & BASE_ENABLE) || !(*reg(a, REG_SVR) & SVR_ENABLE))
		return -1;
	vector = highest_requested(a);
	return vector >= 0 && ((unsigned)vector & 0xf0) > (lapic_processor_priority(a) & 0xf0) ? vector : -1;
}

bool lapic_has_interrupt(struct lapic *a)
{
	lapic_timer_check(a);
	return deliverable(a) >= 0;
}

int lapic_acknowledge(struct lapic *a)
{
	int vector;

	lapic_timer_check(a);
	vector = deliverable(a);
	if (vector < 0)
		return -1;
	atomic_fetch_and(&a->irr[vector / 32], ~(1u << (vector % 32)));
	*reg(a, REG_ISR + (uint32_t)(vector / 32) * 16) |= 1u << (vector % 32);
	return vector;
}

void lapic_end_of_interrupt(struct lapic *a)
{
	int vector = highest_in_service(a);

	if (vector >= 0)
		*reg(a, REG_ISR + (uint32_t)(vector / 32) * 16) &= ~(1u << (vector % 32));
	cpu_interrupt_raise(a->vcpu->cpu);
}

void lapic_request(struct lapic *a, uint8_t vector)
{
	if (vector < 16)
		return;
	atomic_fetch_or(&a->irr[vector / 32], 1u << (vector % 32));
	vcpu_wake(a->vcpu);
}

/* ---- delivery between vCPUs ------------------------------------------------------------------------------ */

static bool logical_match(struct lapic *a, uint32_t destination)
{
	uint32_t ldr = *reg(a, REG_LDR) >> 24;

	if (is_x2apic(a))
		return destination == UINT32_MAX || ((destination >> 16) == a->vcpu->id / 16 &&
		                                     destination >> (a->vcpu->id % 16) & 1);
	if (destination == 0xff) /* all, in both models and with any LDR */
		return true;
	if (*reg(a, REG_DFR) >> 28 == 15)
		return ldr & destination;
	return ldr >> 4 == (destination >> 4 & 15) && ldr & destination & 15;
}

static bool is_destination(struct lapic *a, uint32_t destination, bool logical, bool x2apic)
{
	if (!(a->base & BASE_ENABLE))
		return false;
	if (logical)
		return logical_match(a, destination);
	return destination == id_of(a) || destination == (x2apic ? UINT32_MAX : 0xffu);
}

/* An APIC that software disabled takes only NMI, INIT and SIPI. Returns: was it taken? */
static bool receive(struct lapic *a, unsigned mode, uint8_t vector)
{
	switch (mode) {
	case 0:
	case 1:
		if (!(*reg(a, REG_SVR) & SVR_ENABLE))
			return false;
		lapic_request(a, vector);
		break;
	case 4:
		atomic_fetch_add(&a->vcpu->nmi_queued, 1);
		vcpu_wake(a->vcpu);
		cpu_request_exit(a->vcpu->cpu);
		break;
	case 5:
		atomic_fetch_or(&a->latch, LATCH_INIT);
		vcpu_wake(a->vcpu);
		cpu_request_exit(a->vcpu->cpu);
		break;
	case 6:
		atomic_store(&a->sipi_vector, vector);
		atomic_fetch_or(&a->latch, LATCH_SIPI);
		vcpu_wake(a->vcpu);
		cpu_request_exit(a->vcpu->cpu);
		break;
	default:
		break;
	}
	return true;
}

int lapic_deliver(struct kvm *kvm, uint32_t destination, bool logical, unsigned mode, uint8_t vector, bool x2apic)
{
	int reached = 0;

	for (unsigned id = 0; id < MAX_VCPU_ID; id++) {
		struct kvm_vcpu *vcpu = vm_vcpu(kvm, id);

		if (!vcpu || !vcpu->lapic || !is_destination(vcpu->lapic, destination, logical, x2apic))
			continue;
		reached += receive(vcpu->lapic, mode, vector);
		if (mode == 1 && reached) /* any vCPU may be taken for the one with the lowest priority */
			break;
	}
	return reached;
}

void lapic_send(struct lapic *a, uint32_t low, uint32_t destination)
{
	unsigned mode = low >> 8 & 7, shorthand = low >> 18 & 3;
	uint8_t vector = (uint8_t)low;

	/* INIT level de-assert is obsolete and does nothing. */
	if (mode == 5 && !(low & 1u << 14) && low & 1u << 15)
		return;
	if (shorthand == 0) {
		lapic_deliver(a->vcpu->kvm, destination, low & 1u << 11, mode, vector, is_x2apic(a));
		return;
	}
	if (shorthand == 1) {
		receive(a, mode, vector);
		return;
	}
	for (unsigned id = 0; id < MAX_VCPU_ID; id++) {
		struct kvm_vcpu *vcpu = vm_vcpu(a->vcpu->kvm, id);

		if (vcpu && vcpu->lapic && vcpu->lapic->base & BASE_ENABLE && (shorthand == 2 || vcpu != a->vcpu))
			receive(vcpu->lapic, mode, vector);
	}
}

/* ---- starting -------------------------------------------------------------------------------------------- */

bool lapic_start_pending(struct lapic *a)
{
	return atomic_load(&a->latch) != 0;
}

bool lapic_take_init(struct lapic *a)
{
	if (!(atomic_fetch_and(&a->latch, ~LATCH_INIT) & LATCH_INIT))
		return false;
	lapic_reset(a);
	return true;
}

bool lapic_take_sipi(struct lapic *a, uint8_t *vector)
{
	*vector = (uint8_t)atomic_load(&a->sipi_vector);
	return atomic_fetch_and(&a->latch, ~LATCH_SIPI) & LATCH_SIPI;
}

void lapic_queue_sipi(struct lapic *a)
{
	atomic_fetch_or(&a->latch, LATCH_SIPI);
}

void lapic_set_sipi_vector(struct lapic *a, uint8_t vector)
{
	atomic_store(&a->sipi_vector, vector);
}

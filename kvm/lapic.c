/* SPDX-License-Identifier: MIT */
/*
 * The local APIC's registers and interrupt delivery (SDM vol. 3, chapter 11).
 *
 * All registers belong to the vCPU's thread, but for IRR and the pending INIT and SIPI, which others set: those are atomic.
 * A sender sets its bit and then wakes the vCPU (vcpu_wake); the vCPU looks again after each wake.
 */
#include "kvm/lapic.h"
#include "kvm/lapic_timer.h"
#include "kvm/vm.h"
#include <stdlib.h>
#include <string.h>

#define REG_ID 0x20u
#define REG_VERSION 0x30u
#define REG_TPR 0x80u
#define REG_PPR 0xa0u
#define REG_EOI 0xb0u
#define REG_LDR 0xd0u
#define REG_DFR 0xe0u
#define REG_SVR 0xf0u
#define REG_ISR 0x100u
#define REG_IRR 0x200u
#define REG_ESR 0x280u
#define REG_ICR 0x300u
#define REG_ICR2 0x310u
#define REG_LVT_TIMER 0x320u
#define REG_LVT_LAST 0x370u
#define REG_LVT_CMCI 0x2f0u
#define REG_TIMER_INITIAL 0x380u
#define REG_TIMER_CURRENT 0x390u
#define REG_TIMER_DIVIDE 0x3e0u
#define REG_SELF_IPI 0x3f0u

#define BASE_ENABLE (1u << 11)
#define BASE_X2APIC (1u << 10)
#define SVR_ENABLE  (1u << 8)
#define LVT_MASKED  (1u << 16)
#define VERSION     0x50014u /* 6 LVT entries, like KVM's */

#define LATCH_INIT 1u
#define LATCH_SIPI 2u

struct lapic {
	struct vcpu *vcpu;
	uint32_t reg[64];         /* by offset / 16; IRR lives in irr */
	_Atomic uint32_t irr[8];
	atomic_uint latch;        /* LATCH_* */
	atomic_uint sipi_vector;
	uint64_t base;
	struct lapic_timer *timer;
};

static uint32_t *reg(struct lapic *a, uint32_t offset)
{
	return &a->reg[offset / 16];
}

static bool is_x2apic(const struct lapic *a)
{
	return (a->base & (BASE_ENABLE | BASE_X2APIC)) == (BASE_ENABLE | BASE_X2APIC);
}

static uint32_t id_of(struct lapic *a)
{
	return is_x2apic(a) ? a->vcpu->id : *reg(a, REG_ID) >> 24;
}

static void reset(struct lapic *a)
{
	memset(a->reg, 0, sizeof(a->reg));
	for (int i = 0; i < 8; i++)
		atomic_store(&a->irr[i], 0);
	*reg(a, REG_ID) = a->vcpu->id << 24;
	*reg(a, REG_VERSION) = VERSION;
	*reg(a, REG_DFR) = UINT32_MAX;
	*reg(a, REG_SVR) = 0xff;
	for (uint32_t o = REG_LVT_TIMER; o <= REG_LVT_LAST; o += 0x10)
		*reg(a, o) = LVT_MASKED;
	lapic_timer_stop(a->timer);
}

struct lapic *lapic_create(struct vcpu *vcpu)
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
	reset(a);
	return a;
}

void lapic_destroy(struct lapic *a)
{
	lapic_timer_destroy(a->timer);
	free(a);
}

/* ---- priorities --------------------------------------------------------------------------------- */

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

static uint32_t processor_priority(struct lapic *a)
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
	return vector >= 0 && ((unsigned)vector & 0xf0) > (processor_priority(a) & 0xf0) ? vector : -1;
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

static void end_of_interrupt(struct lapic *a)
{
	int vector = highest_in_service(a);

	if (vector >= 0)
		*reg(a, REG_ISR + (uint32_t)(vector / 32) * 16) &= ~(1u << (vector % 32));
	cpu_interrupt_raise(a->vcpu->cpu);
}

static void request(struct lapic *a, uint8_t vector)
{
	if (vector < 16)
		return;
	atomic_fetch_or(&a->irr[vector / 32], 1u << (vector % 32));
	vcpu_wake(a->vcpu);
}

/* ---- delivery between vCPUs ----------------------------------------------------------------------- */

static bool logical_match(struct lapic *a, uint32_t destination)
{
	uint32_t ldr = *reg(a, REG_LDR) >> 24;

	if (is_x2apic(a))
		return destination == UINT32_MAX || ((destination >> 16) == a->vcpu->id / 16 &&
		                                     destination >> (a->vcpu->id % 16) & 1);
	if (*reg(a, REG_DFR) >> 28 == 15)
		return ldr & destination;
	return ldr >> 4 == (destination >> 4 & 15) && ldr & destination & 15;
}

static bool is_destination(struct lapic *a, uint32_t destination, bool logical, bool x2apic)
{
	if (logical)
		return logical_match(a, destination);
	return destination == id_of(a) || destination == (x2apic ? UINT32_MAX : 0xffu);
}

static void receive(struct lapic *a, unsigned mode, uint8_t vector)
{
	switch (mode) {
	case 0:
	case 1:
		request(a, vector);
		break;
	case 4:
		atomic_store(&a->vcpu->nmi_queued, true);
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
}

int lapic_deliver(struct vm *vm, uint32_t destination, bool logical, unsigned mode, uint8_t vector, bool x2apic)
{
	int reached = 0;

	for (unsigned id = 0; id < MAX_VCPU_ID; id++) {
		struct vcpu *vcpu = vm_vcpu(vm, id);

		if (!vcpu || !vcpu->lapic || !is_destination(vcpu->lapic, destination, logical, x2apic))
			continue;
		receive(vcpu->lapic, mode, vector);
		reached++;
		if (mode == 1) /* the first will do as the one with the lowest priority */
			break;
	}
	return reached;
}

static void send(struct lapic *a, uint32_t low, uint32_t destination)
{
	unsigned mode = low >> 8 & 7, shorthand = low >> 18 & 3;
	uint8_t vector = (uint8_t)low;

	/* INIT level de-assert is a leftover that does nothing. */
	if (mode == 5 && !(low & 1u << 14) && low & 1u << 15)
		return;
	if (shorthand == 0) {
		lapic_deliver(a->vcpu->vm, destination, low & 1u << 11, mode, vector, is_x2apic(a));
		return;
	}
	if (shorthand == 1) {
		receive(a, mode, vector);
		return;
	}
	for (unsigned id = 0; id < MAX_VCPU_ID; id++) {
		struct vcpu *vcpu = vm_vcpu(a->vcpu->vm, id);

		if (vcpu && vcpu->lapic && (shorthand == 2 || vcpu != a->vcpu))
			receive(vcpu->lapic, mode, vector);
	}
}

/* ---- the timer ------------------------------------------------------------------------------------ */

/* The divide register: 0 is by 2, ... 6 by 128, 7 by 1. */
static unsigned timer_shift(struct lapic *a)
{
	uint32_t divide = *reg(a, REG_TIMER_DIVIDE);

	return (((divide & 3) | (divide >> 1 & 4)) + 1) & 7;
}

static void timer_start(struct lapic *a)
{
	/* The bus runs at 1 GHz, as KVM's. */
	uint64_t period = (uint64_t)*reg(a, REG_TIMER_INITIAL) << timer_shift(a);

	if (period)
		lapic_timer_arm(a->timer, period, *reg(a, REG_LVT_TIMER) >> 17 & 1 ? period : 0);
	else
		lapic_timer_stop(a->timer);
}

void lapic_timer_check(struct lapic *a)
{
	if (lapic_timer_expired(a->timer) && !(*reg(a, REG_LVT_TIMER) & LVT_MASKED))
		request(a, (uint8_t)*reg(a, REG_LVT_TIMER));
}

bool lapic_next_timer(struct lapic *a, struct timespec *due)
{
	return lapic_timer_due(a->timer, due);
}

uint64_t lapic_deadline(struct lapic *a)
{
	return lapic_timer_deadline(a->timer);
}

void lapic_set_deadline(struct lapic *a, uint64_t tsc)
{
	if ((*reg(a, REG_LVT_TIMER) >> 17 & 3) == 2)
		lapic_timer_arm_deadline(a->timer, tsc, cpu_tsc(a->vcpu->cpu), a->vcpu->tsc_khz);
}

/* ---- registers ------------------------------------------------------------------------------------ */

static uint32_t reg_read(struct lapic *a, uint32_t offset)
{
	if (offset >= REG_IRR && offset < REG_IRR + 0x80)
		return atomic_load(&a->irr[(offset - REG_IRR) / 16]);
	switch (offset) {
	case REG_ID: return is_x2apic(a) ? a->vcpu->id : *reg(a, REG_ID);
	case REG_PPR: return processor_priority(a);
	case REG_LDR:
		return is_x2apic(a) ? a->vcpu->id / 16 << 16 | 1u << a->vcpu->id % 16 : *reg(a, REG_LDR);
	case REG_TIMER_CURRENT: return (uint32_t)(lapic_timer_left(a->timer) >> timer_shift(a));
	default: return *reg(a, offset);
	}
}

static void reg_write(struct lapic *a, uint32_t offset, uint32_t value)
{
	switch (offset) {
	case REG_ID:
		if (!is_x2apic(a))
			*reg(a, offset) = value & 0xff000000u;
		break;
	case REG_TPR:
		*reg(a, offset) = value & 0xff;
		cpu_state(a->vcpu->cpu)->cr8 = value >> 4 & 15;
		cpu_interrupt_raise(a->vcpu->cpu);
		break;
	case REG_EOI: end_of_interrupt(a); break;
	case REG_LDR: *reg(a, offset) = value & 0xff000000u; break;
	case REG_DFR: *reg(a, offset) = value | 0x0fffffffu; break;
	case REG_SVR: *reg(a, offset) = value & 0x3ff; break;
	case REG_ESR: *reg(a, offset) = 0; break;
	case REG_ICR:
		*reg(a, offset) = value & ~(1u << 12); /* never busy */
		send(a, value, *reg(a, REG_ICR2) >> 24);
		break;
	case REG_ICR2: *reg(a, offset) = value & 0xff000000u; break;
	case REG_LVT_TIMER:
		if ((value ^ *reg(a, offset)) & 3u << 17)
			lapic_timer_stop(a->timer);
		*reg(a, offset) = value & 0x710ff;
		break;
	case REG_TIMER_INITIAL:
		*reg(a, offset) = value;
		if ((*reg(a, REG_LVT_TIMER) >> 17 & 3) != 2)
			timer_start(a);
		break;
	case REG_TIMER_DIVIDE: *reg(a, offset) = value & 11; break;
	default:
		if (offset > REG_LVT_TIMER && offset <= REG_LVT_LAST)
			*reg(a, offset) = value & 0x1f7ff;
		break; /* the rest is read-only or not there */
	}
}

bool lapic_mmio(struct lapic *a, bool write, uint64_t gpa, unsigned len, void *data)
{
	uint64_t start = a->base & ~UINT64_C(0xfff);
	uint32_t offset, value = 0;

	if (!(a->base & BASE_ENABLE) || is_x2apic(a) || gpa < start || gpa >= start + 0x1000)
		return false;
	offset = (uint32_t)(gpa - start);
	if (offset >= 0x400 || (offset & 15) + len > 4) {
		if (!write)
			memset(data, 0, len);
		return true;
	}
	if (!write) {
		value = reg_read(a, offset & ~15u);
		memcpy(data, (uint8_t *)&value + (offset & 15), len);
	} else if (len == 4 && !(offset & 15)) {
		/* Registers are written whole. */
		memcpy(&value, data, 4);
		reg_write(a, offset, value);
	}
	return true;
}

static bool x2apic_has(uint32_t offset)
{
	switch (offset) {
	case REG_DFR: case REG_ICR2: return false;
	case REG_ID: case REG_VERSION: case REG_TPR: case REG_PPR: case REG_EOI: case REG_LDR: case REG_SVR:
	case REG_ESR: case REG_ICR: case REG_TIMER_INITIAL: case REG_TIMER_CURRENT: case REG_TIMER_DIVIDE:
	case REG_SELF_IPI:
		return true;
	default:
		return (offset >= REG_ISR && offset < REG_ESR) || (offset >= REG_LVT_TIMER && offset <= REG_LVT_LAST);
	}
}

bool lapic_x2apic_read(struct lapic *a, uint32_t number, uint64_t *value, bool host)
{
	uint32_t offset = number << 4;

	if ((!is_x2apic(a) && !host) || offset >= 0x400 || !x2apic_has(offset) || offset == REG_EOI ||
	    offset == REG_SELF_IPI)
		return false;
	*value = reg_read(a, offset);
	if (offset == REG_ICR)
		*value |= (uint64_t)*reg(a, REG_ICR2) << 32;
	return true;
}

bool lapic_x2apic_write(struct lapic *a, uint32_t number, uint64_t value, bool host)
{
	uint32_t offset = number << 4;

	if ((!is_x2apic(a) && !host) || offset >= 0x400 || !x2apic_has(offset))
		return false;
	switch (offset) {
	case REG_ID: case REG_VERSION: case REG_PPR: case REG_LDR: case REG_TIMER_CURRENT:
		return false;
	case REG_ICR:
		*reg(a, REG_ICR) = (uint32_t)value & ~(1u << 12);
		*reg(a, REG_ICR2) = (uint32_t)(value >> 32);
		send(a, (uint32_t)value, (uint32_t)(value >> 32));
		return true;
	case REG_SELF_IPI:
		request(a, (uint8_t)value);
		return true;
	default:
		if (value >> 32 || (offset >= REG_ISR && offset < REG_ESR))
			return false;
		reg_write(a, offset, (uint32_t)value);
		return true;
	}
}

void lapic_base_changed(struct lapic *a, uint64_t base)
{
	bool was_enabled = a->base & BASE_ENABLE;

	a->base = base;
	if (was_enabled && !(base & BASE_ENABLE))
		reset(a);
}

void lapic_set_tpr(struct lapic *a, uint8_t tpr)
{
	*reg(a, REG_TPR) = tpr;
	cpu_interrupt_raise(a->vcpu->cpu);
}

/* ---- starting ------------------------------------------------------------------------------------- */

bool lapic_start_pending(struct lapic *a)
{
	return atomic_load(&a->latch) != 0;
}

bool lapic_take_init(struct lapic *a)
{
	if (!(atomic_fetch_and(&a->latch, ~LATCH_INIT) & LATCH_INIT))
		return false;
	reset(a);
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

/* ---- KVM_GET/SET_LAPIC ------------------------------------------------------------------------------ */

void lapic_get(struct lapic *a, uint8_t regs[1024])
{
	memset(regs, 0, 1024);
	for (uint32_t o = 0; o < 0x400; o += 16) {
		uint32_t value = reg_read(a, o);

		memcpy(regs + o, &value, sizeof(value));
	}
}

void lapic_set(struct lapic *a, const uint8_t regs[1024])
{
	for (uint32_t o = 0; o < 0x400; o += 16) {
		uint32_t value;

		memcpy(&value, regs + o, sizeof(value));
		if (o >= REG_IRR && o < REG_IRR + 0x80)
			atomic_store(&a->irr[(o - REG_IRR) / 16], value);
		else
			*reg(a, o) = value;
	}
	*reg(a, REG_VERSION) = VERSION;
	cpu_state(a->vcpu->cpu)->cr8 = *reg(a, REG_TPR) >> 4 & 15;
	if ((*reg(a, REG_LVT_TIMER) >> 17 & 3) != 2)
		timer_start(a);
	vcpu_wake(a->vcpu);
}

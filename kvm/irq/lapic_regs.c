/* SPDX-License-Identifier: MIT */
/*
 * The registers of the local APIC, as seen in memory, as MSRs, and by KVM_GET_LAPIC; and its timer (SDM vol. 3,
 * chapter 11).
 */
#include "kvm/irq/deliver.h"
#include "kvm/irq/ioctls.h"
#include "kvm/irq/lapic_int.h"
#include "kvm/irq/pv_eoi.h"
#include "kvm/process/user.h"
#include <errno.h>
#include <string.h>

/* ---- the timer ------------------------------------------------------------------------------------------- */

/* A period of more than a hundred years is as good as any longer one, and can be added to a time. */
#define TIMER_MOST (UINT64_C(1) << 62)

/* log2 of what the divide register divides by: 0 means 2, ... 6 means 128, 7 means 1. */
static unsigned timer_shift(struct lapic *a)
{
	uint32_t divide = *reg(a, REG_TIMER_DIVIDE);

	return (((divide & 3) | (divide >> 1 & 4)) + 1) & 7;
}

/* How long the count stays the same, in ns. */
static uint64_t timer_step(struct lapic *a)
{
	return a->vcpu->kvm->apic_bus_ns << timer_shift(a);
}

/* The length of one count-down in ns. KVM_CAP_X86_APIC_BUS_CYCLES_NS has kept the product within 64 bits. */
static uint64_t timer_period(struct lapic *a)
{
	uint64_t ns = *reg(a, REG_TIMER_INITIAL) * timer_step(a);

	return ns < TIMER_MOST ? ns : TIMER_MOST;
}

static bool timer_is_periodic(struct lapic *a)
{
	return *reg(a, REG_LVT_TIMER) >> 17 & 1;
}

static void timer_follow_mask(struct lapic *a)
{
	lapic_timer_mask(a->timer, *reg(a, REG_LVT_TIMER) & LVT_MASKED);
}

static void timer_start(struct lapic *a)
{
	uint64_t period = timer_period(a);

	if (period)
		lapic_timer_arm(a->timer, period, timer_is_periodic(a) ? period : 0);
	else
		lapic_timer_stop(a->timer);
}

/*
 * Go on with a count that KVM_GET_LAPIC saw at `current`. As in KVM, one that had ended by then begins a new period, or
 * ends at once, since the state does not say that its interrupt came.
 */
static void timer_go_on(struct lapic *a, uint32_t current)
{
	uint64_t period = timer_period(a), left = current * timer_step(a);
	bool periodic = timer_is_periodic(a);

	if (!period) {
		lapic_timer_stop(a->timer);
		return;
	}
	if (left > period || (!left && periodic))
		left = period;
	lapic_timer_arm(a->timer, left, periodic ? period : 0);
}

/*
 * A change between TSC-deadline mode and counting stops the timer. A change between one-shot and periodic lets
 * the count go on, and only decides what follows it. A count that ended while the entry was masked interrupts nobody,
 * and so it is looked at before the entry changes.
 */
static void lvt_timer_write(struct lapic *a, uint32_t value)
{
	bool was_deadline = is_deadline_mode(a);

	lapic_timer_check(a);
	*reg(a, REG_LVT_TIMER) = value & 0x710ff;
	timer_follow_mask(a);
	if (is_deadline_mode(a) != was_deadline) {
		lapic_timer_stop(a->timer);
		*reg(a, REG_TIMER_INITIAL) = 0;
	} else if (!was_deadline) {
		lapic_timer_period(a->timer, timer_is_periodic(a) ? timer_period(a) : 0);
	}
}

/* What is left of a count that runs goes on at the new rate. */
static void divide_write(struct lapic *a, uint32_t value)
{
	uint64_t left = is_deadline_mode(a) ? 0 : lapic_timer_left(a->timer) / timer_step(a);

	*reg(a, REG_TIMER_DIVIDE) = value & 11;
	if (left)
		lapic_timer_arm(a->timer, left * timer_step(a), timer_is_periodic(a) ? timer_period(a) : 0);
}

void lapic_timer_check(struct lapic *a)
{
	if (lapic_timer_expired(a->timer) && !(*reg(a, REG_LVT_TIMER) & LVT_MASKED) && a->base & BASE_ENABLE)
		lapic_request(a, (uint8_t)*reg(a, REG_LVT_TIMER), false);
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
	if (!is_deadline_mode(a))
		return;
	lapic_timer_arm_deadline(a->timer, tsc, cpu_tsc(a->vcpu->cpu), a->vcpu->tsc_khz);
	/* A deadline that has passed is due before the next instruction. */
	lapic_timer_check(a);
}

/* ---- registers ------------------------------------------------------------------------------------------- */

static uint32_t reg_read(struct lapic *a, uint32_t offset)
{
	pv_eoi_settle(a, false);
	if (offset >= REG_IRR && offset < REG_IRR + 0x80)
		return atomic_load(&a->irr[(offset - REG_IRR) / 16]);
	switch (offset) {
	case REG_ID: return is_x2apic(a) ? a->vcpu->id : *reg(a, REG_ID);
	case REG_TPR:
		lapic_tpr_accessed(a, false);
		return *reg(a, offset);
	case REG_PPR: return lapic_processor_priority(a);
	case REG_LDR:
		return is_x2apic(a) ? a->vcpu->id / 16 << 16 | 1u << a->vcpu->id % 16 : *reg(a, REG_LDR);
	case REG_TIMER_CURRENT:
		if (is_deadline_mode(a))
			return 0;
		lapic_timer_check(a); /* a period that has ended restarts */
		return (uint32_t)(lapic_timer_left(a->timer) / timer_step(a));
	default: return *reg(a, offset);
	}
}

/* The mask bit for LVT entries: while software has the APIC disabled, they stay masked. */
static uint32_t lvt_held(struct lapic *a)
{
	return *reg(a, REG_SVR) & SVR_ENABLE ? 0 : LVT_MASKED;
}

static uint32_t svr_writable(const struct lapic *a)
{
	return 0x3ff | (lapic_version(a) & VERSION_DIRECTED_EOI ? SVR_DIRECTED_EOI : 0);
}

static void reg_write(struct lapic *a, uint32_t offset, uint32_t value)
{
	switch (offset) {
	case REG_ID:
		if (is_x2apic(a))
			break;
		*reg(a, offset) = value & 0xff000000u;
		if (value >> 24 != a->vcpu->id)
			atomic_store(&a->vcpu->kvm->apic_ids_moved, true);
		break;
	case REG_TPR:
		lapic_tpr_accessed(a, true);
		*reg(a, offset) = value & 0xff;
		cpu_state(a->vcpu->cpu)->cr8 = value >> 4 & 15;
		cpu_interrupt_raise(a->vcpu->cpu);
		break;
	case REG_EOI: lapic_end_of_interrupt(a); break;
	case REG_LDR: *reg(a, offset) = value & 0xff000000u; break;
	case REG_DFR: *reg(a, offset) = value | 0x0fffffffu; break;
	case REG_SVR:
		*reg(a, offset) = value & svr_writable(a);
		for (uint32_t o = REG_LVT_TIMER; !(value & SVR_ENABLE) && o <= REG_LVT_LAST; o += 0x10)
			*reg(a, o) |= LVT_MASKED;
		cpu_interrupt_raise(a->vcpu->cpu); /* what was requested before may be taken now */
		break;
	case REG_ESR: *reg(a, offset) = 0; break;
	case REG_ICR:
		*reg(a, offset) = value & ~(1u << 12); /* never busy */
		irq_send(a, value, *reg(a, REG_ICR2) >> 24);
		break;
	case REG_ICR2: *reg(a, offset) = value & 0xff000000u; break;
	case REG_LVT_TIMER: lvt_timer_write(a, value | lvt_held(a)); break;
	case REG_TIMER_INITIAL:
		if (is_deadline_mode(a))
			break;
		*reg(a, offset) = value;
		timer_start(a);
		break;
	case REG_TIMER_DIVIDE: divide_write(a, value); break;
	default:
		if (offset > REG_LVT_TIMER && offset <= REG_LVT_LAST)
			*reg(a, offset) = (value & 0x1f7ff) | lvt_held(a);
		if (offset == REG_LVT_LINT0)
			cpu_interrupt_raise(a->vcpu->cpu); /* the PIC may get through now */
		break; /* other registers are read-only or do not exist */
	}
}

bool lapic_mmio(struct lapic *a, bool write, uint64_t gpa, unsigned len, void *data)
{
	uint64_t start = a->base & ~UINT64_C(0xfff);
	uint32_t offset, value = 0;

	if (gpa < start || gpa >= start + 0x1000)
		return false;
	/* An APIC that is disabled or in x2APIC mode leaves a hole in memory, or does not answer there at all. */
	if (!(a->base & BASE_ENABLE) || is_x2apic(a)) {
		if (quirk_is_off(a->vcpu->kvm, KVM_X86_QUIRK_LAPIC_MMIO_HOLE))
			return false;
		if (!write)
			memset(data, 0xff, len);
		return true;
	}
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
		/* Only writes of a whole register count. */
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

/* The bits that software may write. 0 for registers that can only be read, and for EOI and ESR, which take a 0. */
static uint64_t x2apic_writable(const struct lapic *a, uint32_t offset)
{
	switch (offset) {
	case REG_TPR: case REG_SELF_IPI: return 0xff;
	case REG_SVR: return svr_writable(a);
	case REG_ICR: return UINT64_C(0xffffffff000cdfff); /* includes the busy bit of the xAPIC, which is ignored */
	case REG_TIMER_INITIAL: return UINT32_MAX;
	case REG_TIMER_DIVIDE: return 0xb;
	case REG_LVT_TIMER: return 0x710ff | 1u << 12;
	default: return offset > REG_LVT_TIMER && offset <= REG_LVT_LAST ? 0x1f7ff : 0;
	}
}

bool lapic_x2apic_write(struct lapic *a, uint32_t number, uint64_t value, bool host)
{
	uint32_t offset = number << 4;
	uint64_t writable;

	if ((!is_x2apic(a) && !host) || offset >= 0x400 || !x2apic_has(offset))
		return false;
	writable = x2apic_writable(a, offset);
	if ((value & ~writable) || (!writable && offset != REG_EOI && offset != REG_ESR))
		return false;
	switch (offset) {
	case REG_ICR:
		*reg(a, REG_ICR) = (uint32_t)value & ~(1u << 12);
		*reg(a, REG_ICR2) = (uint32_t)(value >> 32);
		irq_send(a, (uint32_t)value, (uint32_t)(value >> 32));
		return true;
	case REG_SELF_IPI:
		irq_send(a, SHORTHAND_SELF | (uint32_t)value, 0);
		return true;
	default:
		reg_write(a, offset, (uint32_t)value);
		return true;
	}
}

void lapic_base_changed(struct lapic *a, uint64_t base)
{
	bool was_enabled = a->base & BASE_ENABLE;

	a->base = base;
	/* As in KVM, an APIC that comes back has all its registers but the ID as they were. */
	if (!was_enabled && base & BASE_ENABLE)
		*reg(a, REG_ID) = a->vcpu->id << 24;
	cpu_interrupt_raise(a->vcpu->cpu); /* an APIC that is off lets the PIC through */
}

void lapic_set_tpr(struct lapic *a, uint8_t tpr)
{
	*reg(a, REG_TPR) = tpr;
	cpu_interrupt_raise(a->vcpu->cpu);
}

/* ---- KVM_GET/SET_LAPIC ----------------------------------------------------------------------------------- */

void lapic_get(struct lapic *a, uint8_t regs[1024])
{
	memset(regs, 0, 1024);
	for (uint32_t o = 0; o < 0x400; o += 16) {
		uint32_t value = o == REG_TPR ? *reg(a, o) : reg_read(a, o);

		/* An ID of 32 bits is shown in the place of one of 8, until the client asks for the whole. */
		if (o == REG_ID && is_x2apic(a) && !atomic_load(&a->vcpu->kvm->x2apic_ids))
			value <<= 24;
		memcpy(regs + o, &value, sizeof(value));
	}
}

bool lapic_set(struct lapic *a, const uint8_t regs[1024])
{
	uint32_t id;

	memcpy(&id, regs + REG_ID, sizeof(id));
	if (is_x2apic(a) && atomic_load(&a->vcpu->kvm->x2apic_ids) && id != a->vcpu->id)
		return false;
	for (uint32_t o = 0; o < 0x400; o += 16) {
		uint32_t value;

		memcpy(&value, regs + o, sizeof(value));
		if (o >= REG_IRR && o < REG_IRR + 0x80)
			atomic_store(&a->irr[(o - REG_IRR) / 16], value);
		else
			*reg(a, o) = value;
	}
	if (!is_x2apic(a) && id >> 24 != a->vcpu->id)
		atomic_store(&a->vcpu->kvm->apic_ids_moved, true);
	*reg(a, REG_VERSION) = lapic_version(a);
	cpu_state(a->vcpu->cpu)->cr8 = *reg(a, REG_TPR) >> 4 & 15;
	timer_follow_mask(a);
	if (!is_deadline_mode(a))
		timer_go_on(a, *reg(a, REG_TIMER_CURRENT));
	vcpu_wake(a->vcpu);
	return true;
}

long vcpu_get_lapic(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_lapic_state out;

	if (!vcpu->lapic)
		return -EINVAL;
	lapic_get(vcpu->lapic, (uint8_t *)out.regs);
	return user_write(argument, &out, sizeof(out));
}

long vcpu_set_lapic(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_lapic_state in;

	if (!vcpu->lapic)
		return -EINVAL;
	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	return lapic_set(vcpu->lapic, (const uint8_t *)in.regs) ? 0 : -EINVAL;
}

/* SPDX-License-Identifier: MIT */
/*
 * What the files of the local APIC share. lapic.c takes interrupts; deliver.c sends them; lapic_regs.c has the
 * registers as the guest and the client see them.
 *
 * The vCPU's thread owns all registers but IRR, TMR and the pending INIT and SIPI, which senders set. A sender also
 * reads ID, LDR, DFR, SVR, LINT0 and the base of each destination. So all are atomic. A sender sets its bit and then
 * wakes the vCPU (vcpu_wake). The vCPU looks at the bits again after each wake.
 */
#ifndef VMMU_KVM_LAPIC_INT_H
#define VMMU_KVM_LAPIC_INT_H

#include "kvm/irq/lapic.h"
#include "kvm/irq/lapic_timer.h"
#include "kvm/vm/vm.h"

#define REG_ID 0x20u
#define REG_VERSION 0x30u
#define REG_TPR 0x80u
#define REG_PPR 0xa0u
#define REG_EOI 0xb0u
#define REG_LDR 0xd0u
#define REG_DFR 0xe0u
#define REG_SVR 0xf0u
#define REG_ISR 0x100u
#define REG_TMR 0x180u
#define REG_IRR 0x200u
#define REG_ESR 0x280u
#define REG_ICR 0x300u
#define REG_ICR2 0x310u
#define REG_LVT_TIMER 0x320u
#define REG_LVT_LINT0 0x350u
#define REG_LVT_LAST 0x370u
#define REG_LVT_CMCI 0x2f0u
#define REG_TIMER_INITIAL 0x380u
#define REG_TIMER_CURRENT 0x390u
#define REG_TIMER_DIVIDE 0x3e0u
#define REG_SELF_IPI 0x3f0u

#define BASE_ENABLE (1u << 11)
#define BASE_X2APIC (1u << 10)
#define SVR_ENABLE  (1u << 8)
#define SVR_DIRECTED_EOI (1u << 12)
#define LVT_MASKED  (1u << 16)
#define LVT_MODE    (7u << 8)
#define LVT_EXTINT  (7u << 8)
#define VERSION     0x50014u /* 6 LVT entries, like KVM's */
#define VERSION_DIRECTED_EOI (1u << 24)

#define SHORTHAND_SELF (1u << 18) /* in ICR */

#define LATCH_INIT 1u
#define LATCH_SIPI 2u

struct lapic {
	struct kvm_vcpu *vcpu;
	_Atomic uint32_t reg[64]; /* by offset / 16; IRR is in `irr` */
	_Atomic uint32_t irr[8];
	atomic_uint latch;        /* LATCH_* */
	atomic_uint sipi_vector;
	_Atomic uint64_t base;
	struct lapic_timer *timer;
	uint64_t vapic;           /* [own] KVM_SET_VAPIC_ADDR, or 0 */
	bool report_tpr;          /* [own] KVM_TPR_ACCESS_REPORTING */
};

static inline _Atomic uint32_t *reg(struct lapic *a, uint32_t offset)
{
	return &a->reg[offset / 16];
}

static inline bool is_x2apic(const struct lapic *a)
{
	return (a->base & (BASE_ENABLE | BASE_X2APIC)) == (BASE_ENABLE | BASE_X2APIC);
}

/* Is it on, by its base and by software? */
static inline bool lapic_is_enabled(struct lapic *a)
{
	return a->base & BASE_ENABLE && *reg(a, REG_SVR) & SVR_ENABLE;
}

static inline bool is_deadline_mode(struct lapic *a)
{
	return (*reg(a, REG_LVT_TIMER) >> 17 & 3) == 2;
}

/** The version register: with the client's own I/O APIC, its EOI may be directed to it. */
static inline uint32_t lapic_version(const struct lapic *a)
{
	return VERSION | (atomic_load(&a->vcpu->kvm->irqchip) == IRQCHIP_SPLIT ? VERSION_DIRECTED_EOI : 0);
}

/** [any] Request an interrupt of this vCPU. `level`: its end is told to the I/O APIC. */
void lapic_request(struct lapic *a, uint8_t vector, bool level);
/** [own] End the interrupt in service that has the highest priority. */
void lapic_end_of_interrupt(struct lapic *a);
/** [own] The highest vector that is requested, or in service; -1 for none. */
int lapic_highest_requested(struct lapic *a);
int lapic_highest_in_service(struct lapic *a);
/** [own] Take the task priority from the word of KVM_SET_VAPIC_ADDR; write the word. vapic.c */
void lapic_vapic_in(struct lapic *a);
void lapic_vapic_out(struct lapic *a);
/** [own] The guest reads or writes the TPR in memory: leave with KVM_EXIT_TPR_ACCESS, where the client asked for it. */
void lapic_tpr_accessed(struct lapic *a, bool write);
/** [own] The priority that an interrupt must exceed: the TPR, or that of the interrupt in service. */
uint32_t lapic_processor_priority(struct lapic *a);

#endif

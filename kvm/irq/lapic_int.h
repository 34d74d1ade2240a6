/* SPDX-License-Identifier: MIT */
/*
 * What the files of the local APIC share. lapic.c takes and sends interrupts; lapic_regs.c has the registers as
 * the guest and the client see them.
 *
 * The vCPU's thread owns all registers but IRR and the pending INIT and SIPI, which senders set. A sender also
 * reads ID, LDR, DFR, SVR and the base of each destination. So all are atomic. A sender sets its bit and then
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
};

static inline _Atomic uint32_t *reg(struct lapic *a, uint32_t offset)
{
	return &a->reg[offset / 16];
}

static inline bool is_x2apic(const struct lapic *a)
{
	return (a->base & (BASE_ENABLE | BASE_X2APIC)) == (BASE_ENABLE | BASE_X2APIC);
}

static inline bool is_deadline_mode(struct lapic *a)
{
	return (*reg(a, REG_LVT_TIMER) >> 17 & 3) == 2;
}

/** [own] Reset all registers to their values after power-up. Keeps the base and pending INIT and SIPI. */
void lapic_reset(struct lapic *a);
/** [any] Request an interrupt of this vCPU. */
void lapic_request(struct lapic *a, uint8_t vector);
/** [own] Send the interrupt that was written to ICR: its low half, and the destination. */
void lapic_send(struct lapic *a, uint32_t low, uint32_t destination);
/** [own] End the interrupt in service that has the highest priority. */
void lapic_end_of_interrupt(struct lapic *a);
/** [own] The priority that an interrupt must exceed: the TPR, or that of the interrupt in service. */
uint32_t lapic_processor_priority(struct lapic *a);

#endif

/* SPDX-License-Identifier: MIT */
/* Which local APICs an interrupt goes to, and what it does there (SDM vol. 3, chapter 11; kvm_irq_delivery_to_apic). */
#ifndef VMMU_KVM_IRQ_DELIVER_H
#define VMMU_KVM_IRQ_DELIVER_H

#include <stdbool.h>
#include <stdint.h>

struct kvm;
struct lapic;

/* Delivery modes, as in the ICR, in MSIs and in the entries of an I/O APIC. */
enum irq_mode {
	IRQ_FIXED, IRQ_LOWEST_PRIORITY, IRQ_SMI, IRQ_RESERVED, IRQ_NMI, IRQ_INIT, IRQ_STARTUP, IRQ_EXTINT
};

struct irq_message {
	uint32_t destination; /* an APIC's ID, or logical: a set of them */
	bool logical;
	bool level;           /* level-triggered: its EOI is told to the I/O APIC */
	uint8_t mode;         /* enum irq_mode */
	uint8_t vector;
};

/**
 * Deliver a message. Any thread; wakes vCPUs, takes no lock, costs a look at each vCPU unless it goes to one ID.
 * `source`: the local APIC that sends it, or NULL for a device.
 * Returns: how many local APICs took it; 0 also when there is none that it is for.
 */
int irq_deliver(struct kvm *kvm, struct lapic *source, const struct irq_message *message);

/** LINT0 of every local APIC goes high, and low: an NMI, where it is set up so. Any thread; wakes vCPUs. */
void irq_pulse_lint0(struct kvm *kvm);

/**
 * Has a local APIC that a device's message is meant for an interrupt of the same vector that the guest has not ended?
 * Any thread; costs a look at each vCPU.
 */
bool irq_is_unended(struct kvm *kvm, const struct irq_message *message);

/** [own] Send the interrupt that was written to a local APIC's ICR: its low half, and the destination. */
void irq_send(struct lapic *source, uint32_t icr, uint32_t destination);

/** Send an MSI. Returns: as irq_deliver. */
int irq_deliver_msi(struct kvm *kvm, uint32_t address_low, uint32_t address_high, uint32_t data);

#endif

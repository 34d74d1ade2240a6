/* SPDX-License-Identifier: MIT */
/*
 * The interrupt controllers that a VM has beside its local APICs, and the way of an interrupt: a line (its number is a
 * GSI) has routes, a route leads to a pin of the PIC, a pin of the I/O APIC, or is a message to local APICs.
 *
 * kvm->irq_lock protects the routes, the lines, the PIC, the I/O APIC, the PIT and the list of those that wait for an
 * EOI. Inside it local APICs are written to (atomics) and vCPUs woken. A function whose name ends in _locked wants it
 * held; the others take it. Nothing sleeps or allocates under it.
 */
#ifndef VMMU_KVM_IRQCHIP_H
#define VMMU_KVM_IRQCHIP_H

#include <stdbool.h>
#include <stdint.h>

struct kvm;
struct kvm_vcpu;

#define IRQ_PIC_PINS    16u
#define IRQ_IOAPIC_PINS 24u
#define IRQ_SPLIT_PINS  4096u /* most pins of I/O APICs that a client may announce */

/* Who drives a line. A pin is high while any source of any line that leads to it is. */
enum irq_source {
	IRQ_SOURCE_USER, IRQ_SOURCE_PIT, IRQ_SOURCE_RESAMPLE,
	/* The client, too. It wants to know whether the guest gets each edge of its RTC (KVM_IRQ_LINE_STATUS). */
	IRQ_SOURCE_USER_STATUS,
};

/**
 * Set the level of a line, for one source. Any thread. An MSI is sent when the level is set to high.
 * Returns: how many vCPUs got an interrupt by it; 0 when it was coalesced with one that is still pending; negative when
 * the line is masked or leads nowhere.
 */
int irq_set(struct kvm *kvm, enum irq_source source, uint32_t gsi, bool level);
int irq_set_locked(struct kvm *kvm, enum irq_source source, uint32_t gsi, bool level);

/** An edge: high, and low at once. Returns: as irq_set(..., true). */
int irq_pulse(struct kvm *kvm, enum irq_source source, uint32_t gsi);

/*
 * Somebody who is told when the guest has ended (EOI) an interrupt of the line `gsi`, at the PIC or at the I/O APIC.
 * `acked` is called with irq_lock held; it may call irq_set_locked.
 */
struct irq_ack {
	struct irq_ack *next;
	uint32_t gsi;
	void (*acked)(struct kvm *kvm, struct irq_ack *ack);
	/* Or NULL. A pin was unmasked. What was raised while it was masked may never be acknowledged. As `acked`. */
	void (*unmasked)(struct kvm *kvm, struct irq_ack *ack);
};
void irq_ack_add(struct kvm *kvm, struct irq_ack *ack);
/** After: `acked` is not being called and never will be. */
void irq_ack_remove(struct kvm *kvm, struct irq_ack *ack);
/** A pin of a chip (KVM_IRQCHIP_*) was acknowledged: tell those that wait for a line that leads there. */
void irq_acked_locked(struct kvm *kvm, unsigned chip, unsigned pin);
/** Likewise: a pin of a chip was unmasked. */
void irq_unmasked_locked(struct kvm *kvm, unsigned chip, unsigned pin);

/** A guest access that may belong to the PIC, the PIT or the I/O APIC. Returns: false when it does not. */
bool irqchip_io(struct kvm_vcpu *vcpu, bool in, uint16_t port, unsigned size, void *data);
bool irqchip_mmio(struct kvm_vcpu *vcpu, bool write, uint64_t gpa, unsigned len, void *data);

/**
 * [own thread] The local APIC of the vCPU ended `vector`. `level`: it had come level-triggered. `broadcast`: the local
 * APIC tells I/O APICs.
 */
void irqchip_eoi(struct kvm_vcpu *vcpu, uint8_t vector, bool level, bool broadcast);

/** KVM_CAP_SPLIT_IRQCHIP: local APICs only, the client has the other chips. Holds: kvm->lock. Returns: 0 or -errno. */
long irqchip_split(struct kvm *kvm, uint64_t pins);

#endif

/* SPDX-License-Identifier: MIT */
/* The table of routes, as irqchip.c and the chips need it. */
#ifndef VMMU_KVM_IRQ_ROUTES_H
#define VMMU_KVM_IRQ_ROUTES_H

#include <stdbool.h>
#include <stdint.h>

struct kvm;

/**
 * The routes of a new VM: lines 0 to 15 lead to the PIC and the I/O APIC, 16 to 23 to the I/O APIC.
 * Returns: 0 or -ENOMEM.
 */
int routes_default(struct kvm *kvm);

/** Does somebody wait for EOIs of a line that leads to this pin of a chip (KVM_IRQCHIP_*)? Holds: irq_lock. */
bool irq_ack_waits_locked(const struct kvm *kvm, unsigned chip, unsigned pin);

/** With a split irqchip: is `vector` that of a level-triggered pin of the client's I/O APIC? Holds: irq_lock. */
bool routes_level_vector_locked(const struct kvm *kvm, uint8_t vector);

#endif

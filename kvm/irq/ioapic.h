/* SPDX-License-Identifier: MIT */
/*
 * The I/O APIC: 24 pins, each with an entry that says which local APICs get which vector, and how (Intel 82093AA
 * datasheet; KVM_GET_IRQCHIP for the form of its state).
 *
 * Everything is called with irq_lock held, but ioapic_wants_eoi.
 */
#ifndef VMMU_KVM_IOAPIC_H
#define VMMU_KVM_IOAPIC_H

#include "kvm/irq/irqchip.h"
#include <linux/kvm.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define IOAPIC_BASE UINT64_C(0xfec00000)

struct kvm;

struct ioapic {
	struct kvm *kvm;
	_Atomic uint64_t base; /* read without the lock */
	uint32_t select; /* IOREGSEL */
	uint32_t id;
	uint32_t irr;    /* pins that are high. That of an edge stays set until its pin is low again */
	uint32_t delivered; /* of those, edges whose interrupt was sent */
	union ioapic_entry {
		uint64_t bits;
		struct {
			uint32_t low, high;
		};
	} entry[IRQ_IOAPIC_PINS];
	uint8_t sources[IRQ_IOAPIC_PINS]; /* by pin: a bit for each source that drives it high */
	_Atomic uint64_t wanted[4]; /* vectors of whose EOI the chip, or somebody who waits for it, must know */
};

void ioapic_init(struct ioapic *io, struct kvm *kvm);
/**
 * Set a pin for a source. `status`: the source counts what the guest gets, so that an edge of the RTC is refused while
 * the guest has not ended the last one; otherwise it would be merged with that unseen.
 * Returns: as irq_set.
 */
int ioapic_set(struct ioapic *io, unsigned pin, unsigned source, bool level, bool status);
/** A local APIC ended `vector`. `broadcast`: it tells so to I/O APICs. */
void ioapic_eoi(struct ioapic *io, uint8_t vector, bool level, bool broadcast);
/** Which EOIs are wanted may have changed: somebody began or ceased to wait for one, or the routes are new. */
void ioapic_rescan(struct ioapic *io);

/** Any thread, no lock. */
static inline bool ioapic_wants_eoi(const struct ioapic *io, uint8_t vector)
{
	return atomic_load(&io->wanted[vector / 64]) >> (vector % 64) & 1;
}

/** `offset`: into its page. */
uint32_t ioapic_read(struct ioapic *io, uint32_t offset);
void ioapic_write(struct ioapic *io, uint32_t offset, uint32_t value);

void ioapic_get(const struct ioapic *io, struct kvm_ioapic_state *out);
void ioapic_put(struct ioapic *io, const struct kvm_ioapic_state *in);

#endif

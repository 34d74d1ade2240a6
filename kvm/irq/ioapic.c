/* SPDX-License-Identifier: MIT */
#include "kvm/irq/ioapic.h"
#include "kvm/irq/deliver.h"
#include "kvm/irq/routes.h"
#include "kvm/vm/vm.h"
#include <string.h>

#define REG_SELECT  0x00u
#define REG_WINDOW  0x10u

#define INDEX_ID          0u
#define INDEX_VERSION     1u
#define INDEX_ARBITRATION 2u
#define INDEX_ENTRIES     0x10u

#define RTC_PIN 8u

#define VERSION (0x11u | (IRQ_IOAPIC_PINS - 1) << 16)

/* The low half of an entry. */
#define ENTRY_LOGICAL    (1u << 11)
#define ENTRY_STATUS     (1u << 12) /* delivery status: never pending here */
#define ENTRY_REMOTE_IRR (1u << 14)
#define ENTRY_LEVEL      (1u << 15)
#define ENTRY_MASKED     (1u << 16)
#define ENTRY_READ_ONLY  (ENTRY_STATUS | ENTRY_REMOTE_IRR)

static uint8_t vector_of(const struct ioapic *io, unsigned pin)
{
	return (uint8_t)io->entry[pin].low;
}


void ioapic_init(struct ioapic *io, struct kvm *kvm)
{
	memset(io, 0, sizeof(*io));
	io->kvm = kvm;
	io->base = IOAPIC_BASE;
	for (unsigned pin = 0; pin < IRQ_IOAPIC_PINS; pin++)
		io->entry[pin].low = ENTRY_MASKED;
}

void ioapic_rescan(struct ioapic *io)
{
	uint64_t wanted[4] = { 0 };

	for (unsigned pin = 0; pin < IRQ_IOAPIC_PINS; pin++) {
		uint8_t vector = vector_of(io, pin);

		if (io->entry[pin].low & ENTRY_LEVEL || irq_ack_waits_locked(io->kvm, KVM_IRQCHIP_IOAPIC, pin))
			wanted[vector / 64] |= UINT64_C(1) << (vector % 64);
	}
	for (unsigned i = 0; i < 4; i++)
		atomic_store(&io->wanted[i], wanted[i]);
}

static struct irq_message message_of(const struct ioapic *io, unsigned pin)
{
	uint32_t low = io->entry[pin].low;

	return (struct irq_message){
		.destination = io->entry[pin].high >> 24,
		.logical = low & ENTRY_LOGICAL,
		.mode = low >> 8 & 7,
		.vector = (uint8_t)low,
		.level = low & ENTRY_LEVEL,
	};
}

/* Send the interrupt of a pin, unless it is masked or the last one has not ended. Returns: as irq_set. */
static int service(struct ioapic *io, unsigned pin)
{
	uint32_t low = io->entry[pin].low;
	struct irq_message message = message_of(io, pin);
	int reached;

	if (low & ENTRY_MASKED || (low & ENTRY_LEVEL && low & ENTRY_REMOTE_IRR))
		return -1;
	if (!(low & ENTRY_LEVEL))
		io->delivered |= 1u << pin;
	reached = irq_deliver(io->kvm, NULL, &message);
	if (reached > 0 && low & ENTRY_LEVEL)
		io->entry[pin].low |= ENTRY_REMOTE_IRR;
	return reached;
}

int ioapic_set(struct ioapic *io, unsigned pin, unsigned source, bool level, bool status)
{
	uint8_t bit = (uint8_t)(1u << source);
	uint32_t mask = 1u << pin;
	struct irq_message message;

	io->sources[pin] = (uint8_t)(level ? io->sources[pin] | bit : io->sources[pin] & ~bit);
	if (!io->sources[pin]) {
		io->irr &= ~mask;
		return 1;
	}
	message = message_of(io, pin);
	if (pin == RTC_PIN && status && irq_is_unended(io->kvm, &message))
		return 0;
	if (!(io->entry[pin].low & ENTRY_LEVEL) && io->irr & mask)
		return 0; /* high already: no edge */
	io->irr |= mask;
	io->delivered &= ~mask;
	return service(io, pin);
}

void ioapic_eoi(struct ioapic *io, uint8_t vector, bool level, bool broadcast)
{
	for (unsigned pin = 0; pin < IRQ_IOAPIC_PINS; pin++) {
		if (vector_of(io, pin) != vector)
			continue;
		irq_acked_locked(io->kvm, KVM_IRQCHIP_IOAPIC, pin);
		if (!level || !broadcast)
			continue;
		io->entry[pin].low &= ~ENTRY_REMOTE_IRR;
		if (io->entry[pin].low & ENTRY_LEVEL && io->irr >> pin & 1)
			service(io, pin);
	}
}

/* ---- registers ------------------------------------------------------------------------------------------- */

static void entry_write(struct ioapic *io, unsigned index, uint32_t value)
{
	unsigned pin = index / 2;
	union ioapic_entry *e = &io->entry[pin];
	bool was_masked = e->low & ENTRY_MASKED;

	if (index & 1)
		e->high = value; /* reserved bits are kept, as in KVM */
	else
		e->low = (value & ~ENTRY_READ_ONLY) | (e->low & ENTRY_READ_ONLY);
	/* Software without a directed EOI clears remote IRR by making the pin an edge for a moment. */
	if (!(e->low & ENTRY_LEVEL))
		e->low &= ~ENTRY_REMOTE_IRR;
	ioapic_rescan(io);
	if (was_masked && !(e->low & ENTRY_MASKED))
		irq_unmasked_locked(io->kvm, KVM_IRQCHIP_IOAPIC, pin);
	if (!(e->low & ENTRY_LEVEL) || !(io->irr >> pin & 1) || e->low & (ENTRY_MASKED | ENTRY_REMOTE_IRR))
		return;
	/* The pin may be high for somebody who lowers it at the EOI only, which a masked pin never gave. */
	irq_acked_locked(io->kvm, KVM_IRQCHIP_IOAPIC, pin);
	if (io->irr >> pin & 1)
		service(io, pin);
}

uint32_t ioapic_read(struct ioapic *io, uint32_t offset)
{
	uint32_t index = io->select;

	if (offset == REG_SELECT)
		return io->select;
	if (offset != REG_WINDOW)
		return 0;
	switch (index) {
	case INDEX_ID:
	case INDEX_ARBITRATION:
		return (io->id & 15) << 24;
	case INDEX_VERSION:
		return VERSION;
	default:
		/* Not there: all ones, as KVM answers. */
		if (index < INDEX_ENTRIES || (index - INDEX_ENTRIES) / 2 >= IRQ_IOAPIC_PINS)
			return UINT32_MAX;
		index -= INDEX_ENTRIES;
		return index & 1 ? io->entry[index / 2].high : io->entry[index / 2].low;
	}
}

void ioapic_write(struct ioapic *io, uint32_t offset, uint32_t value)
{
	if (offset == REG_SELECT) {
		io->select = value & 0xff;
	} else if (offset == REG_WINDOW) {
		if (io->select == INDEX_ID)
			io->id = value >> 24 & 15;
		else if (io->select >= INDEX_ENTRIES && (io->select - INDEX_ENTRIES) / 2 < IRQ_IOAPIC_PINS)
			entry_write(io, io->select - INDEX_ENTRIES, value);
	}
}

/* ---- KVM_GET/SET_IRQCHIP --------------------------------------------------------------------------------- */

void ioapic_get(const struct ioapic *io, struct kvm_ioapic_state *out)
{
	memset(out, 0, sizeof(*out));
	out->base_address = io->base;
	out->ioregsel = io->select;
	out->id = io->id;
	out->irr = io->irr & ~io->delivered;
	for (unsigned pin = 0; pin < IRQ_IOAPIC_PINS; pin++)
		out->redirtbl[pin].bits = io->entry[pin].bits;
}

void ioapic_put(struct ioapic *io, const struct kvm_ioapic_state *in)
{
	io->base = in->base_address & ~UINT64_C(0xfff);
	io->select = in->ioregsel & 0xff;
	io->id = in->id & 15;
	io->irr = io->delivered = 0;
	for (unsigned pin = 0; pin < IRQ_IOAPIC_PINS; pin++)
		io->entry[pin].bits = in->redirtbl[pin].bits & ~(uint64_t)ENTRY_STATUS;
	ioapic_rescan(io);
	/* What was pending there is pending here. */
	for (unsigned pin = 0; pin < IRQ_IOAPIC_PINS; pin++) {
		if (!(in->irr >> pin & 1))
			continue;
		io->irr |= 1u << pin;
		service(io, pin);
	}
}

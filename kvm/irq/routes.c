/* SPDX-License-Identifier: MIT */
/* Lines (GSIs) and where they lead: KVM_SET_GSI_ROUTING, KVM_IRQ_LINE, KVM_SIGNAL_MSI, and who waits for an EOI. */
#include "kvm/irq/routes.h"
#include "kvm/irq/deliver.h"
#include "kvm/irq/ioapic.h"
#include "kvm/irq/ioctls.h"
#include "kvm/irq/irqchip.h"
#include "kvm/irq/lapic.h"
#include "kvm/irq/pic.h"
#include "kvm/process/user.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ROUTES 4096u

/* Constant once it is kvm->routes. */
struct irq_routes {
	unsigned count;
	struct kvm_irq_routing_entry entry[]; /* sorted by gsi */
};

/* ---- the table ------------------------------------------------------------------------------------------- */

static int by_gsi(const void *left, const void *right)
{
	const struct kvm_irq_routing_entry *a = left, *b = right;

	return a->gsi < b->gsi ? -1 : a->gsi > b->gsi;
}

/* Returns: the first entry of a GSI; count when there is none. */
static unsigned first_of(const struct irq_routes *routes, uint32_t gsi)
{
	unsigned low = 0, high = routes->count;

	while (low < high) {
		unsigned middle = low + (high - low) / 2;

		if (routes->entry[middle].gsi < gsi)
			low = middle + 1;
		else
			high = middle;
	}
	return low < routes->count && routes->entry[low].gsi == gsi ? low : routes->count;
}

static bool is_legal(struct kvm *kvm, const struct kvm_irq_routing_entry *e)
{
	if (e->gsi >= MAX_ROUTES)
		return false;
	switch (e->type) {
	case KVM_IRQ_ROUTING_IRQCHIP:
		if (e->flags || atomic_load(&kvm->irqchip) != IRQCHIP_KERNEL)
			return false;
		switch (e->u.irqchip.irqchip) {
		case KVM_IRQCHIP_PIC_MASTER:
		case KVM_IRQCHIP_PIC_SLAVE:
			return e->u.irqchip.pin < IRQ_PIC_PINS / 2;
		case KVM_IRQCHIP_IOAPIC:
			return e->u.irqchip.pin < IRQ_IOAPIC_PINS;
		default:
			return false;
		}
	case KVM_IRQ_ROUTING_MSI:
		if (e->flags & ~KVM_MSI_VALID_DEVID)
			return false;
		return !atomic_load(&kvm->x2apic_ids) || !(e->u.msi.address_hi & 0xff);
	default: /* Hyper-V and Xen */
		return false;
	}
}

/* A line leads to a chip at most once; a line that sends a message does nothing else. Wants them sorted. */
static bool fit_together(const struct irq_routes *routes)
{
	for (unsigned i = 0; i < routes->count; i++) {
		const struct kvm_irq_routing_entry *a = &routes->entry[i];

		for (unsigned j = i + 1; j < routes->count && routes->entry[j].gsi == a->gsi; j++) {
			const struct kvm_irq_routing_entry *b = &routes->entry[j];

			if (a->type != KVM_IRQ_ROUTING_IRQCHIP || b->type != KVM_IRQ_ROUTING_IRQCHIP ||
			    a->u.irqchip.irqchip == b->u.irqchip.irqchip)
				return false;
		}
	}
	return true;
}

static void routes_replace(struct kvm *kvm, struct irq_routes *routes)
{
	struct irq_routes *old;

	pthread_mutex_lock(&kvm->irq_lock);
	old = kvm->routes;
	kvm->routes = routes;
	if (kvm->ioapic)
		ioapic_rescan(kvm->ioapic);
	pthread_mutex_unlock(&kvm->irq_lock);
	free(old);
}

static struct irq_routes *routes_make(unsigned count)
{
	struct irq_routes *routes = calloc(1, sizeof(*routes) + count * sizeof(*routes->entry));

	if (routes)
		routes->count = count;
	return routes;
}

long vm_set_gsi_routing(struct kvm *kvm, unsigned long argument)
{
	struct kvm_irq_routing head;
	struct irq_routes *routes;

	if (user_read(&head, argument, sizeof(head)) != 0)
		return -EFAULT;
	if (atomic_load(&kvm->irqchip) == IRQCHIP_NONE || head.nr > MAX_ROUTES || head.flags)
		return -EINVAL;
	routes = routes_make(head.nr);
	if (!routes)
		return -ENOMEM;
	if (user_read(routes->entry, argument + sizeof(head), head.nr * sizeof(*routes->entry)) != 0) {
		free(routes);
		return -EFAULT;
	}
	qsort(routes->entry, routes->count, sizeof(*routes->entry), by_gsi);
	for (unsigned i = 0; i < routes->count; i++) {
		if (!is_legal(kvm, &routes->entry[i])) {
			free(routes);
			return -EINVAL;
		}
	}
	if (!fit_together(routes)) {
		free(routes);
		return -EINVAL;
	}
	routes_replace(kvm, routes);
	return 0;
}

int routes_default(struct kvm *kvm)
{
	struct irq_routes *routes = routes_make(IRQ_PIC_PINS + IRQ_IOAPIC_PINS);
	unsigned n = 0;

	if (!routes)
		return -ENOMEM;
	for (unsigned gsi = 0; gsi < IRQ_IOAPIC_PINS; gsi++) {
		routes->entry[n++] = (struct kvm_irq_routing_entry){
			.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = { KVM_IRQCHIP_IOAPIC, gsi },
		};
		if (gsi < IRQ_PIC_PINS)
			routes->entry[n++] = (struct kvm_irq_routing_entry){
				.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP,
				.u.irqchip = { gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, gsi % 8 },
			};
	}
	routes_replace(kvm, routes);
	return 0;
}

void irq_routes_free(struct kvm *kvm)
{
	free(kvm->routes);
}

/* ---- lines ----------------------------------------------------------------------------------------------- */

static int entry_set(struct kvm *kvm, const struct kvm_irq_routing_entry *e, enum irq_source source, bool level)
{
	bool status = source == IRQ_SOURCE_USER_STATUS;

	if (status)
		source = IRQ_SOURCE_USER;
	if (e->type == KVM_IRQ_ROUTING_MSI)
		return level ? irq_deliver_msi(kvm, e->u.msi.address_lo, e->u.msi.address_hi, e->u.msi.data) : -1;
	if (e->u.irqchip.irqchip == KVM_IRQCHIP_IOAPIC)
		return ioapic_set(kvm->ioapic, e->u.irqchip.pin, source, level, status);
	return pic_set(kvm->pic, e->u.irqchip.pin + (e->u.irqchip.irqchip == KVM_IRQCHIP_PIC_SLAVE ? 8 : 0), source,
	               level);
}

int irq_set_locked(struct kvm *kvm, enum irq_source source, uint32_t gsi, bool level)
{
	const struct irq_routes *routes = kvm->routes;
	int result = -1;

	if (!routes)
		return -1;
	for (unsigned i = first_of(routes, gsi); i < routes->count && routes->entry[i].gsi == gsi; i++) {
		int one = entry_set(kvm, &routes->entry[i], source, level);

		if (one >= 0)
			result = (result < 0 ? 0 : result) + one;
	}
	return result;
}

int irq_set(struct kvm *kvm, enum irq_source source, uint32_t gsi, bool level)
{
	int result;

	pthread_mutex_lock(&kvm->irq_lock);
	result = irq_set_locked(kvm, source, gsi, level);
	pthread_mutex_unlock(&kvm->irq_lock);
	return result;
}

int irq_pulse(struct kvm *kvm, enum irq_source source, uint32_t gsi)
{
	int result;

	pthread_mutex_lock(&kvm->irq_lock);
	result = irq_set_locked(kvm, source, gsi, true);
	irq_set_locked(kvm, source, gsi, false);
	pthread_mutex_unlock(&kvm->irq_lock);
	return result;
}

long vm_irq_line(struct kvm *kvm, unsigned long argument)
{
	struct kvm_irq_level in;

	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	if (atomic_load(&kvm->irqchip) == IRQCHIP_NONE)
		return -ENXIO;
	irq_set(kvm, IRQ_SOURCE_USER, in.irq, in.level != 0);
	return 0;
}

long vm_irq_line_status(struct kvm *kvm, unsigned long argument)
{
	struct kvm_irq_level in;

	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	if (atomic_load(&kvm->irqchip) == IRQCHIP_NONE)
		return -ENXIO;
	in.status = irq_set(kvm, IRQ_SOURCE_USER_STATUS, in.irq, in.level != 0);
	return user_write(argument, &in, sizeof(in));
}

long vm_signal_msi(struct kvm *kvm, unsigned long argument)
{
	struct kvm_msi msi;

	if (user_read(&msi, argument, sizeof(msi)) != 0)
		return -EFAULT;
	if (atomic_load(&kvm->irqchip) == IRQCHIP_NONE || msi.flags)
		return -EINVAL;
	if (atomic_load(&kvm->x2apic_ids) && msi.address_hi & 0xff)
		return -EINVAL;
	/* Like KVM, take only the destination from the address. QEMU leaves its base out. */
	return irq_deliver_msi(kvm, msi.address_lo, msi.address_hi, msi.data);
}

/* ---- who waits for an EOI -------------------------------------------------------------------------------- */

/* Does the line lead to this pin? */
static bool leads_to(const struct irq_routes *routes, uint32_t gsi, unsigned chip, unsigned pin)
{
	for (unsigned i = first_of(routes, gsi); i < routes->count && routes->entry[i].gsi == gsi; i++) {
		const struct kvm_irq_routing_entry *e = &routes->entry[i];

		if (e->type == KVM_IRQ_ROUTING_IRQCHIP && e->u.irqchip.irqchip == chip && e->u.irqchip.pin == pin)
			return true;
	}
	return false;
}

void irq_ack_add(struct kvm *kvm, struct irq_ack *ack)
{
	pthread_mutex_lock(&kvm->irq_lock);
	ack->next = kvm->irq_acks;
	kvm->irq_acks = ack;
	if (kvm->ioapic)
		ioapic_rescan(kvm->ioapic);
	pthread_mutex_unlock(&kvm->irq_lock);
}

void irq_ack_remove(struct kvm *kvm, struct irq_ack *ack)
{
	pthread_mutex_lock(&kvm->irq_lock);
	for (struct irq_ack **a = &kvm->irq_acks; *a; a = &(*a)->next) {
		if (*a != ack)
			continue;
		*a = ack->next;
		break;
	}
	if (kvm->ioapic)
		ioapic_rescan(kvm->ioapic);
	pthread_mutex_unlock(&kvm->irq_lock);
}

bool irq_ack_waits_locked(const struct kvm *kvm, unsigned chip, unsigned pin)
{
	for (const struct irq_ack *a = kvm->irq_acks; a; a = a->next)
		if (kvm->routes && leads_to(kvm->routes, a->gsi, chip, pin))
			return true;
	return false;
}

void irq_acked_locked(struct kvm *kvm, unsigned chip, unsigned pin)
{
	struct irq_ack *next;

	for (struct irq_ack *a = kvm->irq_acks; a; a = next) {
		next = a->next;
		if (kvm->routes && leads_to(kvm->routes, a->gsi, chip, pin))
			a->acked(kvm, a);
	}
}

void irq_unmasked_locked(struct kvm *kvm, unsigned chip, unsigned pin)
{
	for (struct irq_ack *a = kvm->irq_acks; a; a = a->next)
		if (a->unmasked && kvm->routes && leads_to(kvm->routes, a->gsi, chip, pin))
			a->unmasked(kvm, a);
}

/* ---- split: the I/O APIC is the client's ----------------------------------------------------------------- */

bool routes_level_vector_locked(const struct kvm *kvm, uint8_t vector)
{
	const struct irq_routes *routes = kvm->routes;

	for (unsigned i = 0; routes && i < routes->count && routes->entry[i].gsi < kvm->split_pins; i++) {
		const struct kvm_irq_routing_entry *e = &routes->entry[i];

		if (e->type == KVM_IRQ_ROUTING_MSI && (e->u.msi.data & 0x80ffu) == (0x8000u | vector))
			return true;
	}
	return false;
}

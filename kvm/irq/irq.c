/* SPDX-License-Identifier: MIT */
/*
 * Interrupts from the client to local APICs: KVM_CREATE_IRQCHIP, routes, MSIs. There is no PIC, PIT or I/O APIC,
 * so routes lead to MSIs only.
 */
#include "kvm/irq/ioctls.h"
#include "kvm/irq/lapic.h"
#include "kvm/process/user.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <stdlib.h>

#define MAX_ROUTES 4096u
#define MSI_ADDRESS 0xfeeu /* bits 31:20 */

struct irq_routes {
	unsigned count;
	struct kvm_irq_routing_entry entry[];
};

long vm_create_irqchip(struct kvm *kvm, unsigned long argument)
{
	long result = 0;

	(void)argument;
	pthread_mutex_lock(&kvm->lock);
	if (atomic_load(&kvm->irqchip))
		result = -EEXIST;
	else if (kvm->vcpu_count)
		result = -EINVAL;
	else
		atomic_store(&kvm->irqchip, true);
	pthread_mutex_unlock(&kvm->lock);
	return result;
}

void irq_routes_free(struct kvm *kvm)
{
	free(kvm->routes);
}

long vm_set_gsi_routing(struct kvm *kvm, unsigned long argument)
{
	struct kvm_irq_routing head;
	struct irq_routes *routes, *old;

	if (user_read(&head, argument, sizeof(head)) != 0)
		return -EFAULT;
	if (!atomic_load(&kvm->irqchip) || head.nr > MAX_ROUTES || head.flags)
		return -EINVAL;
	routes = malloc(sizeof(*routes) + head.nr * sizeof(*routes->entry));
	if (!routes)
		return -ENOMEM;
	routes->count = head.nr;
	if (user_read(routes->entry, argument + sizeof(head), head.nr * sizeof(*routes->entry)) != 0) {
		free(routes);
		return -EFAULT;
	}
	for (unsigned i = 0; i < head.nr; i++) {
		const struct kvm_irq_routing_entry *e = &routes->entry[i];

		if (e->type != KVM_IRQ_ROUTING_MSI || e->flags || e->gsi >= MAX_ROUTES) {
			free(routes);
			return -EINVAL;
		}
	}
	pthread_mutex_lock(&kvm->lock);
	old = kvm->routes;
	kvm->routes = routes;
	pthread_mutex_unlock(&kvm->lock);
	free(old);
	return 0;
}

/* Returns: how many vCPUs the message reached. */
static int deliver_msi(struct kvm *kvm, uint32_t address_low, uint32_t address_high, uint32_t data)
{
	uint32_t destination = (address_low >> 12 & 0xff) | (address_high & 0xffffff00u);

	return lapic_deliver(kvm, destination, address_low & 1u << 2, data >> 8 & 7, (uint8_t)data, false);
}

long vm_signal_msi(struct kvm *kvm, unsigned long argument)
{
	struct kvm_msi msi;

	if (user_read(&msi, argument, sizeof(msi)) != 0)
		return -EFAULT;
	if (!atomic_load(&kvm->irqchip) || msi.flags)
		return -EINVAL;
	if (msi.address_lo >> 20 != MSI_ADDRESS)
		return 0; /* the address belongs to no APIC */
	return deliver_msi(kvm, msi.address_lo, msi.address_hi, msi.data);
}

/* Returns: how many vCPUs it reached, or -ENXIO without an irqchip. */
static long set_line(struct kvm *kvm, uint32_t gsi, uint32_t level)
{
	struct kvm_irq_routing_entry found = { 0 };
	bool is_routed = false;

	if (!atomic_load(&kvm->irqchip))
		return -ENXIO;
	if (!level)
		return 0; /* an MSI has no level that could go down */
	pthread_mutex_lock(&kvm->lock);
	for (unsigned i = 0; kvm->routes && i < kvm->routes->count; i++)
		if (kvm->routes->entry[i].gsi == gsi) {
			found = kvm->routes->entry[i];
			is_routed = true;
			break;
		}
	pthread_mutex_unlock(&kvm->lock);
	return is_routed ? deliver_msi(kvm, found.u.msi.address_lo, found.u.msi.address_hi, found.u.msi.data) : -1;
}

long vm_irq_line(struct kvm *kvm, unsigned long argument)
{
	struct kvm_irq_level in;
	long result;

	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	result = set_line(kvm, in.irq, in.level);
	return result == -ENXIO ? result : 0;
}

long vm_irq_line_status(struct kvm *kvm, unsigned long argument)
{
	struct kvm_irq_level in;
	long result;

	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	result = set_line(kvm, in.irq, in.level);
	if (result == -ENXIO)
		return result;
	in.status = (int)result;
	return user_write(argument, &in, sizeof(in));
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
	lapic_set(vcpu->lapic, (const uint8_t *)in.regs);
	return 0;
}

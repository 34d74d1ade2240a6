/* SPDX-License-Identifier: MIT */
/* KVM_CREATE_IRQCHIP and KVM_CAP_SPLIT_IRQCHIP; the chips' ports, memory and state; the end of an interrupt. */
#include "kvm/irq/irqchip.h"
#include "kvm/irq/ioapic.h"
#include "kvm/irq/ioctls.h"
#include "kvm/irq/lapic.h"
#include "kvm/irq/pic.h"
#include "kvm/irq/pit.h"
#include "kvm/irq/routes.h"
#include "kvm/process/user.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 0x1000u

/* ---- creation -------------------------------------------------------------------------------------------- */

void irqchip_free(struct kvm *kvm)
{
	free(kvm->pic);
	free(kvm->ioapic);
}

/* Holds: kvm->lock. */
static long create(struct kvm *kvm)
{
	struct pic *pic;
	struct ioapic *ioapic;

	if (atomic_load(&kvm->irqchip) != IRQCHIP_NONE)
		return -EEXIST;
	if (kvm->vcpu_count)
		return -EINVAL;
	pic = malloc(sizeof(*pic));
	ioapic = malloc(sizeof(*ioapic));
	if (!pic || !ioapic || routes_default(kvm) != 0) {
		free(pic);
		free(ioapic);
		return -ENOMEM;
	}
	pic_init(pic, kvm);
	ioapic_init(ioapic, kvm);
	kvm->pic = pic;
	kvm->ioapic = ioapic;
	/* release: a thread that sees the mode sees the chips. Pairs with the loads in irqchip_io and irqchip_mmio. */
	atomic_store(&kvm->irqchip, IRQCHIP_KERNEL);
	return 0;
}

long vm_create_irqchip(struct kvm *kvm, unsigned long argument)
{
	long result;

	(void)argument;
	pthread_mutex_lock(&kvm->lock);
	result = create(kvm);
	pthread_mutex_unlock(&kvm->lock);
	return result;
}

long irqchip_split(struct kvm *kvm, uint64_t pins)
{
	if (pins > IRQ_SPLIT_PINS)
		return -EINVAL;
	if (atomic_load(&kvm->irqchip) != IRQCHIP_NONE || kvm->vcpu_count)
		return -EEXIST;
	kvm->split_pins = (uint32_t)pins;
	atomic_store(&kvm->irqchip, IRQCHIP_SPLIT);
	return 0;
}

/* ---- KVM_GET/SET_IRQCHIP --------------------------------------------------------------------------------- */

/* Get or set the state of the chip that `chip` names. Returns: 0 or -errno. */
static long state(struct kvm *kvm, struct kvm_irqchip *chip, bool set)
{
	bool is_slave = chip->chip_id == KVM_IRQCHIP_PIC_SLAVE;

	if (atomic_load(&kvm->irqchip) != IRQCHIP_KERNEL)
		return -ENXIO;
	if (chip->chip_id > KVM_IRQCHIP_IOAPIC)
		return -EINVAL;
	pthread_mutex_lock(&kvm->irq_lock);
	if (chip->chip_id == KVM_IRQCHIP_IOAPIC)
		set ? ioapic_put(kvm->ioapic, &chip->chip.ioapic) : ioapic_get(kvm->ioapic, &chip->chip.ioapic);
	else
		set ? pic_put(kvm->pic, is_slave, &chip->chip.pic) : pic_get(kvm->pic, is_slave, &chip->chip.pic);
	pthread_mutex_unlock(&kvm->irq_lock);
	return 0;
}

long vm_get_irqchip(struct kvm *kvm, unsigned long argument)
{
	struct kvm_irqchip chip;
	long result;

	if (user_read(&chip, argument, sizeof(chip)) != 0)
		return -EFAULT;
	result = state(kvm, &chip, false);
	return result ? result : user_write(argument, &chip, sizeof(chip));
}

long vm_set_irqchip(struct kvm *kvm, unsigned long argument)
{
	struct kvm_irqchip chip;

	if (user_read(&chip, argument, sizeof(chip)) != 0)
		return -EFAULT;
	return state(kvm, &chip, true);
}

/* ---- what the guest reads and writes --------------------------------------------------------------------- */

bool irqchip_io(struct kvm_vcpu *vcpu, bool in, uint16_t port, unsigned size, void *data)
{
	struct kvm *kvm = vcpu->kvm;
	uint8_t *byte = data;

	if (atomic_load(&kvm->irqchip) != IRQCHIP_KERNEL)
		return false;
	if (!pic_has_port(port))
		return pit_io(kvm, in, port, size, data);
	/* The ports are a byte wide. As in KVM, a wider access is swallowed: it reads as zeros and writes nothing. */
	if (size != 1) {
		if (in)
			memset(data, 0, size);
		return true;
	}
	pthread_mutex_lock(&kvm->irq_lock);
	if (in)
		*byte = pic_read(kvm->pic, port);
	else
		pic_write(kvm->pic, port, *byte);
	pthread_mutex_unlock(&kvm->irq_lock);
	return true;
}

/* An access to the I/O APIC's page. Its registers are words at multiples of 16. */
static void ioapic_access(struct kvm *kvm, bool write, uint32_t offset, unsigned len, void *data)
{
	uint32_t value = 0;

	if (write) {
		memcpy(&value, data, len < sizeof(value) ? len : sizeof(value));
		pthread_mutex_lock(&kvm->irq_lock);
		ioapic_write(kvm->ioapic, offset, value);
		pthread_mutex_unlock(&kvm->irq_lock);
		return;
	}
	pthread_mutex_lock(&kvm->irq_lock);
	value = ioapic_read(kvm->ioapic, offset);
	pthread_mutex_unlock(&kvm->irq_lock);
	memset(data, 0, len);
	memcpy(data, &value, len < sizeof(value) ? len : sizeof(value));
}

bool irqchip_mmio(struct kvm_vcpu *vcpu, bool write, uint64_t gpa, unsigned len, void *data)
{
	struct kvm *kvm = vcpu->kvm;
	uint64_t base;

	if (atomic_load(&kvm->irqchip) != IRQCHIP_KERNEL)
		return false;
	base = atomic_load(&kvm->ioapic->base);
	if (gpa < base || gpa - base >= PAGE || len > PAGE - (gpa - base))
		return false;
	ioapic_access(kvm, write, (uint32_t)(gpa - base), len, data);
	return true;
}

/* ---- the end of an interrupt ----------------------------------------------------------------------------- */

void irqchip_eoi(struct kvm_vcpu *vcpu, uint8_t vector, bool level, bool broadcast)
{
	struct kvm *kvm = vcpu->kvm;
	bool wanted;

	switch (atomic_load(&kvm->irqchip)) {
	case IRQCHIP_KERNEL:
		/* A level interrupt may come from a pin whose entry was changed meanwhile: its remote IRR must go. */
		if (!level && !ioapic_wants_eoi(kvm->ioapic, vector))
			return;
		pthread_mutex_lock(&kvm->irq_lock);
		ioapic_eoi(kvm->ioapic, vector, level, broadcast);
		pthread_mutex_unlock(&kvm->irq_lock);
		return;
	case IRQCHIP_SPLIT:
		if (!level || !broadcast)
			return;
		pthread_mutex_lock(&kvm->irq_lock);
		wanted = routes_level_vector_locked(kvm, vector);
		pthread_mutex_unlock(&kvm->irq_lock);
		if (!wanted)
			return;
		/* KVM_RUN leaves with KVM_EXIT_IOAPIC_EOI after this instruction. */
		vcpu->eoi_vector = vector;
		cpu_request_exit(vcpu->cpu);
		return;
	default:
		return;
	}
}

/* SPDX-License-Identifier: MIT */
#include "kvm/irq/deliver.h"
#include "kvm/irq/lapic_int.h"

#define SHORTHAND_NONE   0u
#define SHORTHAND_ITSELF 1u
#define SHORTHAND_ALL    2u

#define XAPIC_ALL  0xffu
#define X2APIC_ALL UINT32_MAX

/* ---- who is meant ---------------------------------------------------------------------------------------- */

static uint32_t id_of(struct lapic *a)
{
	return is_x2apic(a) ? a->vcpu->id : *reg(a, REG_ID) >> 24;
}

/*
 * A device says "all" with 0xff, which in x2APIC mode is an ID like others. KVM takes it for "all" there as well, until
 * the client turns that off (KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK).
 */
static bool is_for_all(struct lapic *a, const struct lapic *source, uint32_t destination)
{
	if (!is_x2apic(a))
		return destination == XAPIC_ALL;
	return destination == X2APIC_ALL ||
	       (!source && destination == XAPIC_ALL && !atomic_load(&a->vcpu->kvm->x2apic_exact));
}

static bool logical_match(struct lapic *a, uint32_t destination)
{
	uint32_t ldr = *reg(a, REG_LDR) >> 24;

	if (is_x2apic(a))
		return (destination >> 16) == a->vcpu->id / 16 && destination >> (a->vcpu->id % 16) & 1;
	if (*reg(a, REG_DFR) >> 28 == 15)
		return ldr & destination;
	return ldr >> 4 == (destination >> 4 & 15) && ldr & destination & 15;
}

static bool is_destination(struct lapic *a, const struct lapic *source, const struct irq_message *m)
{
	if (!(a->base & BASE_ENABLE))
		return false;
	if (is_for_all(a, source, m->destination))
		return true;
	if (m->logical)
		return logical_match(a, m->destination);
	/* A vCPU whose ID needs more than 8 bits is reached by it before it is in x2APIC mode, as in KVM. */
	return m->destination == id_of(a) || (a->vcpu->id > 0xff && m->destination == a->vcpu->id);
}

/* ---- what it does there ---------------------------------------------------------------------------------- */

/* An INIT makes a SIPI void that came before it and was not taken yet. */
static void latch(struct lapic *a, unsigned what)
{
	if (what == LATCH_INIT)
		atomic_store(&a->latch, LATCH_INIT);
	else
		atomic_fetch_or(&a->latch, what);
	vcpu_wake(a->vcpu);
	cpu_request_exit(a->vcpu->cpu);
}

/* An APIC that software disabled takes only SMI, NMI, INIT and SIPI. Returns: was it taken? */
static bool receive(struct lapic *a, const struct irq_message *m)
{
	switch (m->mode) {
	case IRQ_FIXED:
	case IRQ_LOWEST_PRIORITY:
		if (!lapic_is_enabled(a))
			return false;
		lapic_request(a, m->vector, m->level);
		break;
	case IRQ_SMI:
		vcpu_smi_send(a->vcpu);
		break;
	case IRQ_NMI:
		atomic_fetch_add(&a->vcpu->nmi_queued, 1);
		vcpu_wake(a->vcpu);
		cpu_request_exit(a->vcpu->cpu);
		break;
	case IRQ_INIT:
		latch(a, LATCH_INIT);
		break;
	case IRQ_STARTUP:
		atomic_store(&a->sipi_vector, m->vector);
		latch(a, LATCH_SIPI);
		break;
	default: /* an ExtINT comes from the PIC by itself (lapic_external) */
		return false;
	}
	return true;
}

/*
 * Lowest priority goes to one of those meant. The vector decides which, as by KVM's vector hashing: the load is spread,
 * and one device's interrupts stay together.
 */
static int deliver_lowest(struct kvm *kvm, const struct lapic *source, const struct irq_message *m)
{
	unsigned online = vm_vcpus_online(kvm), meant = 0, skip;

	for (unsigned i = 0; i < online; i++) {
		struct lapic *a = kvm->online[i]->lapic;

		meant += a && lapic_is_enabled(a) && is_destination(a, source, m);
	}
	if (!meant)
		return 0;
	skip = m->vector % meant;
	for (unsigned i = 0; i < online; i++) {
		struct lapic *a = kvm->online[i]->lapic;

		if (a && lapic_is_enabled(a) && is_destination(a, source, m) && !skip--)
			return receive(a, m);
	}
	return 0; /* those that were meant have changed meanwhile */
}

int irq_deliver(struct kvm *kvm, struct lapic *source, const struct irq_message *m)
{
	unsigned online = vm_vcpus_online(kvm);
	struct kvm_vcpu *vcpu = m->logical ? NULL : vm_vcpu(kvm, m->destination);
	int reached = 0;

	if (m->mode == IRQ_LOWEST_PRIORITY)
		return deliver_lowest(kvm, source, m);
	/* One ID, while every APIC has that of its vCPU: the usual case. */
	if (vcpu && vcpu->lapic && m->destination < XAPIC_ALL && !atomic_load(&kvm->apic_ids_moved)) {
		if (!is_destination(vcpu->lapic, source, m))
			return 0;
		return receive(vcpu->lapic, m);
	}
	for (unsigned i = 0; i < online; i++) {
		struct lapic *a = kvm->online[i]->lapic;

		if (!a || !is_destination(a, source, m))
			continue;
		reached += receive(a, m);
	}
	return reached;
}

bool irq_is_unended(struct kvm *kvm, const struct irq_message *m)
{
	unsigned online = vm_vcpus_online(kvm), word = m->vector / 32u;
	uint32_t bit = 1u << m->vector % 32;

	for (unsigned i = 0; i < online; i++) {
		struct lapic *a = kvm->online[i]->lapic;

		if (a && is_destination(a, NULL, m) &&
		    (atomic_load(&a->irr[word]) | *reg(a, REG_ISR + word * 16)) & bit)
			return true;
	}
	return false;
}

void irq_send(struct lapic *source, uint32_t icr, uint32_t destination)
{
	struct irq_message m = {
		.destination = destination,
		.logical = icr >> 11 & 1,
		/* the trigger mode of an interrupt to a processor means nothing, but KVM keeps it */
		.level = icr >> 15 & 1,
		.mode = icr >> 8 & 7,
		.vector = (uint8_t)icr,
	};
	unsigned shorthand = icr >> 18 & 3, online = vm_vcpus_online(source->vcpu->kvm);

	/* INIT level de-assert is obsolete and does nothing. */
	if (m.mode == IRQ_INIT && !(icr & 1u << 14) && icr & 1u << 15)
		return;
	if (shorthand == SHORTHAND_NONE) {
		irq_deliver(source->vcpu->kvm, source, &m);
		return;
	}
	if (shorthand == SHORTHAND_ITSELF) {
		receive(source, &m);
		return;
	}
	for (unsigned i = 0; i < online; i++) {
		struct lapic *a = source->vcpu->kvm->online[i]->lapic;

		if (a && a->base & BASE_ENABLE && (shorthand == SHORTHAND_ALL || a != source))
			receive(a, &m);
	}
}

void irq_pulse_lint0(struct kvm *kvm)
{
	const struct irq_message nmi = { .mode = IRQ_NMI };
	unsigned online = vm_vcpus_online(kvm);

	for (unsigned i = 0; i < online; i++) {
		struct lapic *a = kvm->online[i]->lapic;

		if (a && a->base & BASE_ENABLE && (*reg(a, REG_LVT_LINT0) & (LVT_MASKED | LVT_MODE)) == IRQ_NMI << 8)
			receive(a, &nmi);
	}
}

int irq_deliver_msi(struct kvm *kvm, uint32_t address_low, uint32_t address_high, uint32_t data)
{
	struct irq_message m = {
		.destination = (address_low >> 12 & 0xff) |
		               (atomic_load(&kvm->x2apic_ids) ? address_high & 0xffffff00u : 0),
		.logical = address_low >> 2 & 1,
		.mode = data >> 8 & 7,
		.level = data >> 15 & 1,
		.vector = (uint8_t)data,
	};

	if (address_low >> 3 & 1 && m.mode == IRQ_FIXED) /* the redirection hint: one of those meant */
		m.mode = IRQ_LOWEST_PRIORITY;
	return irq_deliver(kvm, NULL, &m);
}

/* SPDX-License-Identifier: MIT */
#include "kvm/irq/pv_eoi.h"
#include "kvm/irq/ioapic.h"
#include "kvm/irq/lapic_int.h"
#include <linux/kvm_para.h>

bool pv_eoi_msr_write(struct kvm_vcpu *vcpu, uint64_t value)
{
	uint64_t gpa = value & ~(uint64_t)KVM_MSR_ENABLED;
	uint8_t byte;

	if (gpa & 3)
		return false;
	if (vcpu->lapic)
		pv_eoi_settle(vcpu->lapic, true);
	if (!(value & KVM_MSR_ENABLED)) {
		pv_page_clear(&vcpu->pv.eoi_page);
	} else {
		if (vmmu_guest_read(vcpu->mmu, (struct vmmu_gpa){ gpa }, &byte, sizeof(byte)) == VMMU_ENOENT)
			return false;
		pv_page_set(&vcpu->pv.eoi_page, gpa, sizeof(byte));
	}
	vcpu->pv.eoi = value;
	return true;
}

/* Does the I/O APIC, or whoever waits for the end of a line's interrupt, want to know of this one's? */
static bool end_is_awaited(struct lapic *a, uint8_t vector)
{
	struct kvm *kvm = a->vcpu->kvm;

	if (*reg(a, REG_TMR + vector / 32u * 16) >> vector % 32 & 1)
		return true;
	return kvm->ioapic && ioapic_wants_eoi(kvm->ioapic, vector);
}

static void offer(struct vmmu_pfn_cache *cache, void *offered)
{
	const uint8_t value = KVM_PV_EOI_ENABLED;

	*(bool *)offered = vmmu_pfn_cache_write(cache, 0, &value, sizeof(value)) == VMMU_OK;
}

void pv_eoi_offer(struct lapic *a, uint8_t vector)
{
	struct pv_guest *pv = &a->vcpu->pv;

	/* One that waits must come when this one ends, and only a write to the EOI register would show that. */
	if (!pv->eoi_page.on || lapic_highest_requested(a) >= 0 || end_is_awaited(a, vector))
		return;
	pv_page_use(&pv->eoi_page, a->vcpu, offer, &pv->eoi_offered);
}

struct settle {
	bool take_back; /* by us */
	bool taken;     /* by the guest */
	bool gone;      /* the memory, and with it the offer */
};

static void settle(struct vmmu_pfn_cache *cache, void *argument)
{
	const uint8_t none = KVM_PV_EOI_DISABLED;
	struct settle *s = argument;
	uint8_t value;

	if (vmmu_pfn_cache_read(cache, 0, &value, sizeof(value)) != VMMU_OK)
		return;
	s->taken = !(value & KVM_PV_EOI_ENABLED);
	if (!s->taken && s->take_back)
		s->gone = vmmu_pfn_cache_write(cache, 0, &none, sizeof(none)) != VMMU_OK;
}

void pv_eoi_settle(struct lapic *a, bool take_back)
{
	struct pv_guest *pv = &a->vcpu->pv;
	struct settle s = { .take_back = take_back };

	if (!pv->eoi_offered)
		return;
	if (pv_page_use(&pv->eoi_page, a->vcpu, settle, &s) == PV_PAGE_FULL) {
		cpu_interrupt_raise(a->vcpu->cpu); /* ask again after the exit */
		return;
	}
	if (!s.taken && !take_back)
		return;
	pv->eoi_offered = false;
	if (s.taken)
		lapic_end_of_interrupt(a);
}

/* SPDX-License-Identifier: MIT */
#include "core/fault/admit.h"

enum vmmu_fault fault_admit(struct vmmu_vcpu *vcpu, const struct memslot *slot, gfn_t gfn, unsigned access, struct admitted *out)
{
	/* Being deleted: neither memory nor MMIO. What it is will be known in a moment (I3.1, zoo 10). */
	if (slot->flags & SLOT_INVALID) {
		port_rest();
		return VMMU_FAULT_RETRY;
	}
	if ((access & VMMU_WRITE) && (slot->flags & VMMU_SLOT_READONLY))
		return VMMU_FAULT_MMIO;
	/*
	 * vmmu_vcpu_enter looks for room, too; but many faults may be answered between two entries, and an entry that
	 * does not fit is lost.
	 */
	if ((access & VMMU_WRITE) && !dirty_has_room(slot, &vcpu->ring)) {
		vcpu_request(&vcpu->vcpu, REQ_RING_FULL);
		return VMMU_FAULT_RETRY;
	}
	*out = (struct admitted){ slot, gfn, access };
	return VMMU_FAULT_FIXED;
}

enum vmmu_fault fault_page_get(struct vm *vm, const struct admitted *fault, struct vmmu_host_page *page)
{
	unsigned access = fault->access & (VMMU_READ | VMMU_WRITE);

	switch (vm->host->page_get(vm->host_state, memslot_hva(fault->slot, fault->gfn), access, page)) {
	case VMMU_OK:
		return (access & VMMU_WRITE) && !page->writable ? VMMU_FAULT_HOST : VMMU_FAULT_FIXED;
	case VMMU_EAGAIN:
		return VMMU_FAULT_RETRY;
	case VMMU_ENOMEM:
		return VMMU_FAULT_NOMEM;
	default:
		return VMMU_FAULT_HOST;
	}
}

void fault_written(struct vmmu_vcpu *vcpu, const struct admitted *fault)
{
	if ((fault->access & VMMU_WRITE) && dirty_mark(vcpu->vcpu.vm, fault->slot, fault->gfn, &vcpu->ring))
		vcpu_request(&vcpu->vcpu, REQ_RING_FULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * What a fault passes whichever MMU it is for:
 *
 *     fault_admit        is the slot being deleted? is it a write to a read-only one? has the dirty ring room for what will be marked?
 *     fault_page_get     the host's page
 *                        (the MMU installs it)
 *     fault_written      the page is marked dirty, in the room that fault_admit found (P6, P11)
 *
 * Only fault_admit makes a struct admitted, and the other two take nothing else: an MMU that does not ask has no page
 * to install.
 */
#ifndef CORE_FAULT_ADMIT_H
#define CORE_FAULT_ADMIT_H

#include "core/fault/vcpu.h"

struct admitted {
	const struct memslot *slot;
	gfn_t gfn;
	unsigned access; /* VMMU_READ, VMMU_WRITE, VMMU_EXEC */
};

/**
 * May gfn of `slot` be mapped for `access` by this vCPU? Holds: SRCU read side. `vcpu`: NULL for the hypervisor's own
 * sake, which does not write.
 * Returns: VMMU_FAULT_FIXED with *out: go on; VMMU_FAULT_RETRY (the next entry tells the user if it is for the ring);
 * VMMU_FAULT_MMIO.
 */
static inline enum vmmu_fault fault_admit(struct vmmu_vcpu *vcpu, const struct memslot *slot, gfn_t gfn, unsigned access, struct admitted *out)
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

/**
 * The host's page for an access that was admitted. Holds: SRCU read side, no other lock. Sleeps.
 * Returns: VMMU_FAULT_FIXED with *page, which may be written if that was asked for; VMMU_FAULT_RETRY,
 * VMMU_FAULT_NOMEM, VMMU_FAULT_HOST.
 */
enum vmmu_fault fault_page_get(struct vm *vm, const struct admitted *fault, struct vmmu_host_page *page);

/** The access succeeded: if it is a write, the page is dirty. After the entry is in place (P6, P11). */
static inline void fault_written(struct vmmu_vcpu *vcpu, const struct admitted *fault)
{
	if ((fault->access & VMMU_WRITE) && dirty_mark(vcpu->vcpu.vm, fault->slot, fault->gfn, &vcpu->ring))
		vcpu_request(&vcpu->vcpu, REQ_RING_FULL);
}

#endif

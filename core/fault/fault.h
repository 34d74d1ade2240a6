/* SPDX-License-Identifier: MIT */
/*
 * The way of a fault, whichever MMU it is for. For this folder only.
 *
 *     (the context translates)   gfn, slot, access; the snapshot comes before anything is looked up (P5)
 *     fault_admit                Is the slot being deleted? Is it read-only? Has the dirty ring room for the mark?
 *     context->fast              Can a right be given back without a lock? (P6)
 *     context->fill              Set memory aside. No lock is held.
 *     fault_page_get             Ask the host for the page. It may sleep.
 *     context->map               Under mmu_lock: is the root still current, is the page still the host's answer
 *                                (fault_is_stale)? Then install.
 *     fault_written              Mark the page dirty, in the room that fault_admit found (P6, P11).
 *
 * There is one way in, fault_on_memory, so an MMU cannot leave a step out. It and fault_on_mmio are always inlined
 * into each context, which passes its own constant operations: no step is an indirect call.
 */
#ifndef CORE_FAULT_FAULT_H
#define CORE_FAULT_FAULT_H

#include "core/fault/context.h"
#include "core/fault/vcpu.h"
#include "core/notifier/notifier.h"

/**
 * May the page be mapped for this access by this vCPU? Holds: SRCU read side. `vcpu`: NULL for the hypervisor's own
 * sake, which does not write.
 * Returns: FIXED: go on; RETRY (the next entry tells the user if it is for the ring); MMIO.
 */
static inline enum vmmu_page_fault fault_admit(struct vmmu_vcpu *vcpu, const struct fault *fault)
{
	const struct memslot *slot = fault->slot;

	/* The slot is being deleted: whether this is memory or MMIO will be known in a moment (I3.1, zoo 10). */
	if (slot->flags & SLOT_INVALID) {
		port_rest();
		return VMMU_PAGE_RETRY;
	}
	if ((fault->access & VMMU_WRITE) && (slot->flags & VMMU_SLOT_READONLY))
		return VMMU_PAGE_MMIO;
	/*
	 * vmmu_vcpu_enter checks that the ring has room, but a caller may fault many times without entering. Check here
	 * too: an entry that does not fit is lost.
	 */
	if ((fault->access & VMMU_WRITE) && !dirty_has_room(slot, &vcpu->ring)) {
		vcpu_request(&vcpu->vcpu, REQ_RING_FULL);
		return VMMU_PAGE_RETRY;
	}
	return VMMU_PAGE_FIXED;
}

/**
 * Ask the host for the page of an access that was admitted. Holds: SRCU read side, no other lock. Sleeps.
 * Returns: FIXED with fault->page, which may be written if that was asked for; RETRY, NOMEM, HOST.
 */
enum vmmu_page_fault fault_page_get(struct vm *vm, struct fault *fault);

/**
 * Has anything changed since the fault took its snapshot, of what maps host addresses [start, end)? `root_is_current`:
 * the context's answer for its own root. I3.3, I5.3: asked under mmu_lock, after anything that may take tables away,
 * before the install, and in one lock section with it. An MMIO entry stands for no host page, only the root counts.
 */
static inline bool fault_is_stale(const struct mmu_token *token, const struct fault *fault, bool root_is_current,
                                  hva_t start, hva_t end)
{
	return !root_is_current || (fault->slot && notifier_must_retry(token, fault->snapshot, start, end));
}

/** The access succeeded. If it is a write, mark the page dirty: after the entry is in place (P6, P11). */
static inline void fault_written(struct vmmu_vcpu *vcpu, const struct fault *fault)
{
	if ((fault->access & VMMU_WRITE) && dirty_mark(vcpu->vcpu.vm, fault->slot, fault->gfn, &vcpu->ring))
		vcpu_request(&vcpu->vcpu, REQ_RING_FULL);
}

/** The slow path, for a fault that was admitted. Holds: SRCU read side, nothing else. Sleeps, allocates. */
static always_inline enum vmmu_page_fault fault_map(struct vmmu_vcpu *vcpu, struct fault *fault,
                                                    const struct context_ops *ops)
{
	static const enum vmmu_page_fault answer[] = {
		[RET_PF_FIXED] = VMMU_PAGE_FIXED,
		[RET_PF_SPURIOUS] = VMMU_PAGE_FIXED,
		[RET_PF_RETRY] = VMMU_PAGE_RETRY,
		[RET_PF_EMULATE] = VMMU_PAGE_EMULATE, /* vmmu_guest_write marks it, in the room that was found here */
	};
	enum vmmu_page_fault status;
	enum map_result result;

	if (!ops->fill(vcpu))
		return VMMU_PAGE_NOMEM;
	status = fault_page_get(vcpu->vcpu.vm, fault);
	if (status != VMMU_PAGE_FIXED)
		return status;
	result = ops->map(vcpu, fault);
	vcpu_count(&vcpu->vcpu.stats.fixed, result == RET_PF_FIXED);
	vcpu_count(&vcpu->vcpu.stats.spurious, result == RET_PF_SPURIOUS);
	if (answer[result] == VMMU_PAGE_FIXED)
		fault_written(vcpu, fault);
	return answer[result];
}

/** A fault on a page of a slot. `error`: VMMU_PF_*. Holds: SRCU read side, nothing else. Sleeps, allocates. */
static always_inline enum vmmu_page_fault fault_on_memory(struct vmmu_vcpu *vcpu, struct fault *fault, uint64_t error,
                                                          const struct context_ops *ops)
{
	enum vmmu_page_fault answer = fault_admit(vcpu, fault);

	if (answer != VMMU_PAGE_FIXED)
		return answer;
	switch (ops->fast ? ops->fast(vcpu, fault, error) : RET_PF_RETRY) {
	case RET_PF_FIXED:
		vcpu_count(&vcpu->vcpu.stats.fast, 1);
		fault_written(vcpu, fault);
		return VMMU_PAGE_FIXED;
	case RET_PF_SPURIOUS:
		vcpu_count(&vcpu->vcpu.stats.spurious, 1);
		return VMMU_PAGE_FIXED;
	default:
		return fault_map(vcpu, fault, ops);
	}
}

/**
 * A fault where there is no slot. An MMIO entry is left in the table, so that the next access need not come this far
 * (F48); it says for which generation it is true. If none could be installed, the next access asks again.
 */
static always_inline enum vmmu_page_fault fault_on_mmio(struct vmmu_vcpu *vcpu, struct fault *fault,
                                                        const struct context_ops *ops)
{
	if (!(fault->generation & GENERATION_IN_PROGRESS)) {
		vcpu->mmio = (struct mmio_cache){ fault->gfn, fault->generation };
		if (ops->fill(vcpu))
			ops->map(vcpu, fault);
	}
	return VMMU_PAGE_MMIO;
}

/**
 * Install a page under a TDP root that need not be the vCPU's. `tables`: filled. `hint`: as mmu_read_lock's.
 * Holds: SRCU read side, nothing else.
 */
enum map_result fault_tdp_install(struct vm *vm, struct table *root, const struct fault *fault,
                                  struct table_cache *tables, unsigned hint);

#endif

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
 * There is one way in, fault_on_memory, so an MMU cannot leave a step out. These functions are compiled anew into each
 * context, which passes its own constant operations: no step is an indirect call.
 */
#ifndef CORE_FAULT_FAULT_H
#define CORE_FAULT_FAULT_H

#include "core/fault/context.h"
#include "core/fault/vcpu.h"
#include "core/notifier/notifier.h"

/**
 * May `vcpu` map the page for this access? NULL: the hypervisor maps it on its own account, and does not write.
 * Holds: SRCU read side.
 * Returns: FIXED: go on; RETRY (if the ring is full, the next entry tells the user so); MMIO.
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
 * Ask the host for the page of an admitted access. Holds: SRCU read side, no other lock. Sleeps.
 * Returns: FIXED with fault->page, writable if the access writes; RETRY, NOMEM, HOST; WAIT if the access says NOWAIT.
 */
enum vmmu_page_fault fault_page_get(struct vm *vm, struct fault *fault);

/**
 * Is the fault stale? It is if its root is no longer current, if an invalidation of host addresses [start, end) is
 * in progress, or if any invalidation has ended since the snapshot. `root_is_current`: the context's answer for its
 * own root.
 * I3.3, I5.3: ask under mmu_lock, after anything that may take tables away, and install in the same lock section.
 * An MMIO entry maps no host page: only the root counts.
 */
static inline bool fault_is_stale(const struct mmu_token *token, const struct fault *fault, bool root_is_current,
                                  hva_t start, hva_t end)
{
	return !root_is_current || (fault->slot && notifier_must_retry(token, fault->snapshot, start, end));
}

/** The access succeeded. If it was a write, mark the page dirty, now that the entry is in place (P6, P11). */
static inline void fault_written(struct vmmu_vcpu *vcpu, const struct fault *fault)
{
	if ((fault->access & VMMU_WRITE) && dirty_mark(vcpu->vcpu.vm, fault->slot, fault->gfn, &vcpu->ring))
		vcpu_request(&vcpu->vcpu, REQ_RING_FULL);
}

/** The slow path, for a fault that was admitted. Holds: SRCU read side, nothing else. Sleeps, allocates. */
static noinline enum vmmu_page_fault fault_map(struct vmmu_vcpu *vcpu, struct fault *fault,
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
 * A fault where there is no slot. Install an MMIO entry, so that the next access to the page is answered sooner
 * (F48). The entry names the generation it is valid for. If none could be installed, the next access is looked up
 * again.
 */
static noinline enum vmmu_page_fault fault_on_mmio(struct vmmu_vcpu *vcpu, struct fault *fault,
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
 * Install a page under a TDP root, which need not be the root of a vCPU.
 * `tables`: filled. `hint`: as for mmu_read_lock. Holds: SRCU read side, nothing else.
 */
enum map_result fault_tdp_install(struct vm *vm, struct table *root, const struct fault *fault,
                                  struct table_cache *tables, unsigned hint);

#endif

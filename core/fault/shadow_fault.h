/* SPDX-License-Identifier: MIT */
/*
 * What the two contexts have in common that walk shadow tables: context_shadow (a shadow of the guest's own tables) and
 * context_nested (a shadow of L1's nested table). They differ in the struct shadow_vcpu, and in how an address is
 * translated. For this folder only.
 */
#ifndef CORE_FAULT_SHADOW_FAULT_H
#define CORE_FAULT_SHADOW_FAULT_H

#include "core/fault/fault.h"
#include "core/shadow/shadow.h"

/** Make a shadow_vcpu without roots, unless it is there. Allocates. Returns: VMMU_ENOMEM: nothing has changed. */
enum vmmu_status fault_shadow_init(struct vm *vm, struct shadow_vcpu **sv);

/** context_ops.drop. `sv`: NULL: the vCPU never had that context. */
void fault_shadow_drop(struct vmmu_vcpu *vcpu, struct shadow_vcpu *sv, bool only_obsolete);

/** context_ops.map. `common`: of a struct shadow_fault. */
enum map_result fault_shadow_install(struct vmmu_vcpu *vcpu, struct shadow_vcpu *sv, struct fault *common);

/** Are all registers equal that the mode is derived from? Most writes change CR3 alone. */
static inline bool fault_shadow_same_mode(const struct vmmu_guest_regs *a, const struct vmmu_guest_regs *b)
{
	return a->cr0 == b->cr0 && a->cr4 == b->cr4 && a->efer == b->efer && a->phys_bits == b->phys_bits &&
	       a->gbpages == b->gbpages && a->amd == b->amd;
}

/** Before anything is looked up: which slots the fault is about, and the snapshot (P5). */
static inline void fault_shadow_begin(struct vmmu_vcpu *vcpu, const struct memslots *slots, struct shadow_fault *fault)
{
	fault->common.generation = memslots_generation(slots);
	fault->common.snapshot = notifier_snapshot(vcpu->vcpu.vm);
}

/**
 * The guest's tables were walked with this result; answer the fault. `error`: as the CPU gave it.
 * Holds: SRCU read side, nothing else. Sleeps, allocates.
 */
static always_inline enum vmmu_page_fault fault_shadow_walked(struct vmmu_vcpu *vcpu, const struct memslots *slots,
                                                              struct shadow_fault *fault,
                                                              enum guest_walk_result walked, uint64_t error,
                                                              struct vmmu_page_info *info,
                                                              const struct context_ops *ops)
{
	struct fault *common = &fault->common;

	switch (walked) {
	case GUEST_WALK_OK:
		break;
	case GUEST_WALK_FAULT:
		info->error = fault->walk.error;
		return VMMU_PAGE_GUEST;
	case GUEST_WALK_RING_FULL:
		vcpu_request(&vcpu->vcpu, REQ_RING_FULL);
		return VMMU_PAGE_RETRY;
	case GUEST_WALK_AGAIN:
		return VMMU_PAGE_RETRY;
	case GUEST_WALK_HOST:
		return VMMU_PAGE_HOST;
	}
	common->gfn = fault->walk.gfn;
	common->access = error & VMMU_PF_WRITE ? VMMU_READ | VMMU_WRITE : VMMU_READ;
	if (error & VMMU_PF_NOWAIT)
		common->access |= VMMU_NOWAIT;
	common->slot = memslot_find_cached(&vcpu->slot_cache, slots, common->gfn);
	info->gpa.v = gfn_to_gpa(common->gfn).v | (fault->gva.v & (PAGE_SIZE - 1));
	return common->slot ? fault_on_memory(vcpu, common, error, ops) : fault_on_mmio(vcpu, common, ops);
}

#endif

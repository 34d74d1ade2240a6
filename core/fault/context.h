/* SPDX-License-Identifier: MIT */
/*
 * What a vCPU walks now: its context. KVM's struct kvm_mmu.
 *
 * There are three kinds. With context_tdp the vCPU walks a TDP root, from guest physical addresses. With
 * context_shadow it walks a shadow of its guest's own tables, from linear addresses. With context_nested it is in guest
 * mode (vmmu/nested.h), and walks a shadow of L1's nested table, from L2 physical addresses. Two vCPUs of one VM may
 * have different kinds, and one vCPU changes its kind when nested guests come and go. Code that serves a vCPU calls its
 * context and never asks which kind that is.
 */
#ifndef CORE_FAULT_CONTEXT_H
#define CORE_FAULT_CONTEXT_H

#include <vmmu/mmu.h>

#include "core/memslot/memslot.h"
#include "core/table/fault.h"

/* Called on the vCPU's thread, outside the guest. A member that may be NULL says what that means. */
struct context_ops {
	/**
	 * Allocate what the vCPU keeps for this kind, unless it has it already. NULL: nothing.
	 * Returns: VMMU_ENOMEM.
	 */
	enum vmmu_status (*init)(struct vmmu_vcpu *vcpu);

	/* --- the root --- */

	/**
	 * Make sure that the root is valid and up to date, and store in `entry` where it is. Sleeps, allocates.
	 * Returns: VMMU_ENOMEM.
	 */
	enum vmmu_status (*load)(struct vmmu_vcpu *vcpu, struct vmmu_entry *entry);
	/** Put the roots: all of them, or only obsolete ones (P3). Asks for a flush at the next entry if need be. */
	void (*drop)(struct vmmu_vcpu *vcpu, bool only_obsolete);
	/** vcpu->as_id may have changed; if so, the roots were dropped. NULL: nothing in this context depends on it. */
	void (*mode)(struct vmmu_vcpu *vcpu);

	/* --- a fault (fault.h has the order). Holds: SRCU read side --- */

	/** Answer a fault on a guest physical address. NULL: in this context there is no such fault. */
	enum vmmu_page_fault (*fault)(struct vmmu_vcpu *vcpu, const struct memslots *slots, gpa_t gpa, uint64_t error);
	/** Answer a fault on a linear address. NULL: the CPU walks the guest's own tables, without us. */
	enum vmmu_page_fault (*page_fault)(struct vmmu_vcpu *vcpu, const struct memslots *slots, gva_t gva,
	                                   uint64_t error, uint32_t pkru, struct vmmu_page_info *info);
	/** Answer a fault on an L2 physical address. NULL: the vCPU is not in guest mode. */
	enum vmmu_page_fault (*nested_fault)(struct vmmu_vcpu *vcpu, const struct memslots *slots, gpa_t gpa,
	                                     uint64_t error, struct vmmu_page_info *info);
	/** Map a page before the guest touches it. NULL: only the guest's own tables say what is mapped. */
	enum vmmu_page_fault (*prefault)(struct vmmu_vcpu *vcpu, const struct memslots *slots, gfn_t gfn);
	/** Set memory aside for one map. Returns: false when the host has none. */
	bool (*fill)(struct vmmu_vcpu *vcpu);
	/**
	 * Answer a fault without a lock. NULL: never possible.
	 * Returns: RET_PF_FIXED, RET_PF_SPURIOUS; RET_PF_RETRY: not possible this time.
	 */
	enum map_result (*fast)(struct vmmu_vcpu *vcpu, const struct fault *fault, uint64_t error);
	/** Take mmu_lock, check that the fault is not stale, and install the page or the MMIO entry. */
	enum map_result (*map)(struct vmmu_vcpu *vcpu, struct fault *fault);

	/* --- what the guest does to its translations. NULL: the CPU does all of it --- */

	void (*regs_set)(struct vmmu_vcpu *vcpu, const struct vmmu_guest_regs *regs, bool keep);
	/** Holds: SRCU read side. */
	void (*invlpg)(struct vmmu_vcpu *vcpu, gva_t gva);
	void (*flush_all)(struct vmmu_vcpu *vcpu);
};

extern const struct context_ops context_tdp, context_shadow, context_nested;

/**
 * Let the vCPU walk tables of this kind from its next entry on. Its roots of other kinds stay. Allocates.
 * Returns: VMMU_ENOMEM: nothing has changed.
 */
enum vmmu_status vcpu_context_set(struct vmmu_vcpu *vcpu, const struct context_ops *context);

/** Give back the roots of every kind: all of them, or those that are obsolete (P3). */
void vcpu_roots_drop(struct vmmu_vcpu *vcpu, bool only_obsolete);

#endif

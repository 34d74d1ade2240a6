/* SPDX-License-Identifier: MIT */
/*
 * What a vCPU walks now: its context. KVM's struct kvm_mmu.
 *
 * There are two kinds. With context_tdp the vCPU walks a TDP root, from guest physical addresses. With context_shadow it walks
 * a shadow of its guest's own tables, from linear addresses. Two vCPUs of one VM may have different kinds, and one vCPU changes
 * its kind when nested guests come and go. Whoever serves a vCPU asks its context, and nobody asks which kind that is.
 */
#ifndef CORE_FAULT_CONTEXT_H
#define CORE_FAULT_CONTEXT_H

#include <vmmu/mmu.h>

#include "core/memslot/memslot.h"
#include "core/table/fault.h"

/* Called on the vCPU's thread, outside the guest. A member that may be NULL says what that means. */
struct context_ops {
	/** Get ready what the vCPU keeps for this kind; harmless if it is ready. NULL: nothing. Returns: VMMU_ENOMEM. */
	enum vmmu_status (*init)(struct vmmu_vcpu *vcpu);

	/* --- the root --- */

	/** Make sure that the root is valid and up to date, and tell the CPU where it is. Sleeps, allocates. Returns: VMMU_ENOMEM. */
	enum vmmu_status (*load)(struct vmmu_vcpu *vcpu, struct vmmu_entry *entry);
	/** Give roots back: all of them, or those that are obsolete (P3). Asks for a flush if that may matter to the CPU. */
	void (*drop)(struct vmmu_vcpu *vcpu, bool only_obsolete);
	/** vcpu->as_id has changed. The roots were dropped. NULL: nothing depends on it. */
	void (*mode)(struct vmmu_vcpu *vcpu);

	/* --- a fault (fault.h has the order). Holds: SRCU read side --- */

	/** Answer a fault on a guest physical address. NULL: this context has none. */
	enum vmmu_page_fault (*fault)(struct vmmu_vcpu *vcpu, const struct memslots *slots, gpa_t gpa, uint64_t error);
	/** Answer a fault on a linear address. NULL: the guest's own tables are the CPU's business. */
	enum vmmu_page_fault (*page_fault)(struct vmmu_vcpu *vcpu, const struct memslots *slots, gva_t gva, uint64_t error,
	                                   uint32_t pkru, struct vmmu_page_info *info);
	/** Map a page that nobody asked for yet. NULL: that is for the guest's own tables to say. */
	enum vmmu_page_fault (*prefault)(struct vmmu_vcpu *vcpu, const struct memslots *slots, gfn_t gfn);
	/** Set memory aside for one map. Returns: false when the host has none. */
	bool (*fill)(struct vmmu_vcpu *vcpu);
	/** Answer without a lock: RET_PF_FIXED, RET_PF_SPURIOUS; RET_PF_RETRY: not possible. NULL: never possible. */
	enum map_result (*fast)(struct vmmu_vcpu *vcpu, const struct fault *fault, uint64_t error);
	/** Take mmu_lock, look whether the fault is stale, and install the page, or the MMIO entry. */
	enum map_result (*map)(struct vmmu_vcpu *vcpu, struct fault *fault);

	/* --- what the guest does to its translations. NULL: they are the CPU's alone --- */

	void (*regs_set)(struct vmmu_vcpu *vcpu, const struct vmmu_guest_regs *regs, bool keep);
	/** Holds: SRCU read side. */
	void (*invlpg)(struct vmmu_vcpu *vcpu, gva_t gva);
	void (*flush_all)(struct vmmu_vcpu *vcpu);
};

extern const struct context_ops context_tdp, context_shadow;

/**
 * Let the vCPU walk tables of this kind from its next entry on. Its roots of other kinds stay. Allocates.
 * Returns: VMMU_ENOMEM: nothing has changed.
 */
enum vmmu_status vcpu_context_set(struct vmmu_vcpu *vcpu, const struct context_ops *context);

/** Give back the roots of every kind: all of them, or those that are obsolete (P3). */
void vcpu_roots_drop(struct vmmu_vcpu *vcpu, bool only_obsolete);

#endif

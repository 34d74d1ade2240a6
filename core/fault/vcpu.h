/* SPDX-License-Identifier: MIT */
/*
 * All that core keeps of a vCPU. `vcpu` and `ring` have legends of their own. The rest belongs to the vCPU's
 * thread, outside the guest.
 */
#ifndef CORE_FAULT_VCPU_H
#define CORE_FAULT_VCPU_H

#include <vmmu/vcpu.h>

#include "core/memslot/dirty.h"
#include "core/shadow/shadow.h"
#include "core/sync/request.h"
#include "core/table/table.h"

struct context_ops;

struct vmmu_vcpu {
	struct vcpu vcpu;
	struct dirty_ring ring;
	const struct context_ops *context; /* what the vCPU walks now (context.h) */
	unsigned as_id;
	bool flush;                 /* the CPU must be told to flush at the next entry */
	bool sync;                  /* the guest flushed: unsync pages are brought up to date at the next entry (P8) */
	struct table *root;         /* context_tdp's: a reference; NULL: to be loaded at the next entry */
	struct shadow_vcpu *shadow; /* context_shadow's; NULL before the vCPU first has that context */
	struct shadow_vcpu *nested; /* context_nested's; NULL before the vCPU is in guest mode for the first time */
	struct table_cache tables;
	struct memslot_cache slot_cache;
	struct memslot_cache table_cache; /* for the guest's page tables, which may lie in another slot than its data */
	struct mmio_cache {         /* the page that last turned out to be MMIO (F49) */
		gfn_t gfn;
		uint64_t generation; /* of the vCPU's own address space (zoo 6); 0: nothing cached */
	} mmio;
};

_Static_assert(VMMU_POLL_RUN == VCPU_IN_GUEST, "CPUs poll the mode");

/**
 * Replace tables of 4K leaves by huge leaves where slot and host allow, after logging has stopped (F18).
 * Holds: slots_lock.
 */
void fault_recover_huge(struct vm *vm, const struct memslot *slot);

#endif

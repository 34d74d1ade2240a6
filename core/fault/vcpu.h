/* SPDX-License-Identifier: MIT */
/* All of a vCPU that core keeps. Everything but `vcpu` (which has its own legend) belongs to the vCPU's thread, outside the guest. */
#ifndef CORE_FAULT_VCPU_H
#define CORE_FAULT_VCPU_H

#include <vmmu/vcpu.h>

#include "core/memslot/dirty.h"
#include "core/shadow/shadow.h"
#include "core/sync/request.h"
#include "core/table/table.h"

struct vmmu_vcpu {
	struct vcpu vcpu;
	struct dirty_ring ring;
	unsigned as_id;
	struct table *root;         /* a reference; NULL: to be loaded at the next entry */
	bool flush;                 /* the CPU must be told to flush at the next entry */
	struct shadow_vcpu *shadow; /* in a VM that shadows; else NULL */
	bool sync;                  /* the guest flushed: unsync pages are brought up to date at the next entry (P8) */
	struct table_cache tables;
	struct memslot_cache slot_cache;
	struct memslot_cache table_cache; /* the same for the guest's page tables, which need not lie where its data does */
	struct mmio_cache {         /* the page that last turned out to be MMIO (49) */
		gfn_t gfn;
		uint64_t generation; /* of the vCPU's own address space (zoo 6); 0: nothing cached */
	} mmio;
};

_Static_assert(VMMU_POLL_RUN == VCPU_IN_GUEST, "CPUs poll the mode");

struct admitted;

/**
 * Map what was admitted under `root`: the slow path of a fault. Holds: SRCU read side, nothing else. Sleeps, allocates.
 * `vcpu`: whose fault it is; NULL: nobody's, and no write.
 */
enum vmmu_fault fault_map(struct vm *vm, struct table *root, const struct admitted *fault, struct table_cache *tables, struct vmmu_vcpu *vcpu);

/** Make sure that the vCPU has a valid root. On its thread, outside the guest. Returns: VMMU_OK, VMMU_ENOMEM. */
enum vmmu_status vcpu_root_load(struct vmmu_vcpu *vcpu);
/** Give its root back. */
void vcpu_root_drop(struct vmmu_vcpu *vcpu);

/** Replace tables of 4K leaves by huge leaves where slot and host allow: logging has stopped (18). Holds: slots_lock. */
void fault_recover_huge(struct vm *vm, const struct memslot *slot);

#endif

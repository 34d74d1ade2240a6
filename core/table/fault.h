/* SPDX-License-Identifier: MIT */
/*
 * A fault as both MMUs are given it by core/fault, and how an MMU answers. KVM's struct kvm_page_fault and RET_PF_*.
 */
#ifndef CORE_TABLE_FAULT_H
#define CORE_TABLE_FAULT_H

#include <vmmu/host.h>

#include "core/memslot/memslot.h"

/* Everything here is decided before mmu_lock is taken. */
struct fault {
	const struct memslot *slot; /* NULL: there is no memory, and an MMIO entry is to be installed */
	gfn_t gfn;
	unsigned access;            /* what the guest did: VMMU_READ, VMMU_WRITE, VMMU_EXEC; 0: nothing, the page is only mapped */
	uint64_t generation;        /* of the slots that were searched: an MMIO entry is valid for it (P10) */
	uint64_t snapshot;          /* notifier_snapshot, from before anything was looked up (P5) */
	struct vmmu_host_page page; /* of `slot` */
};

enum map_result {
	RET_PF_FIXED,
	RET_PF_SPURIOUS, /* the entry already was as wanted */
	RET_PF_RETRY,    /* something moved, or another vCPU was faster */
	RET_PF_EMULATE,  /* a write to a table of the guest's: it must not be mapped */
	RET_PF_ALONE,    /* shadow_map_beside: this needs mmu_lock for write */
};

#endif

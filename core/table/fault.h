/* SPDX-License-Identifier: MIT */
/* A fault as core/fault gives it to either MMU, and how the MMU answers. KVM's struct kvm_page_fault and RET_PF_*. */
#ifndef CORE_TABLE_FAULT_H
#define CORE_TABLE_FAULT_H

#include <vmmu/host.h>

#include "core/memslot/memslot.h"

/* Everything here is decided before mmu_lock is taken. */
struct fault {
	const struct memslot *slot; /* NULL: there is no memory, and an MMIO entry is to be installed */
	gfn_t gfn;
	unsigned access;            /* what the guest did: VMMU_READ, _WRITE, _EXEC, _NOWAIT; 0: only map the page */
	uint64_t generation;        /* of the slots that were searched: an MMIO entry is valid for it (P10) */
	uint64_t snapshot;          /* notifier_snapshot, from before anything was looked up (P5) */
	struct vmmu_host_page page; /* of `slot` */
};

enum map_result {
	RET_PF_FIXED,
	RET_PF_SPURIOUS, /* the entry already allows the access */
	RET_PF_RETRY,    /* the fault is stale, or another vCPU changed the entry first */
	RET_PF_EMULATE,  /* a write to a table of the guest's that is mirrored: it must not be mapped writable (N1) */
	RET_PF_ALONE,    /* shadow_map_beside: this needs mmu_lock for write */
};

#endif

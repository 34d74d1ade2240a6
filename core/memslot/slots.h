/* SPDX-License-Identifier: MIT */
/* All memslots of a VM, and how they change: the rules and the order of steps of KVM_SET_USER_MEMORY_REGION. */
#ifndef CORE_MEMSLOT_SLOTS_H
#define CORE_MEMSLOT_SLOTS_H

#include "core/memslot/gate.h"
#include "core/memslot/memslot.h"

#define MAX_ADDRESS_SPACES 2

enum slot_change {
	SLOT_CREATE,
	SLOT_DELETE,
	SLOT_MOVE,  /* another gpa; flags may change with it */
	SLOT_FLAGS, /* only flags: logging starts or stops */
};

/*
 * What the rest of core does at the steps of a change. Called with slots_lock held, no read section, no slots_arch_lock; may sleep.
 * None can fail: a change that has begun is finished.
 */
struct slots_hooks {
	/** A grace period has passed since `slot` was published as SLOT_INVALID: remove all that it maps (P3). DELETE and MOVE. */
	void (*zap)(struct vm *vm, const struct memslot *slot);
	/** The new set is published and a grace period has passed. `old` or `new` is NULL for CREATE or DELETE. Start or stop logging here. */
	void (*committed)(struct vm *vm, enum slot_change change, const struct memslot *old, const struct memslot *new);
	/**
	 * The generation of a set is about to move to `generation`, after a grace period: from then on MMIO entries of an older one are
	 * stale (P10). Before, and not after, so that a number that wraps can be purged before it is used again.
	 */
	void (*generation)(struct vm *vm, uint64_t generation);
	/** Arrays for a slot, for VMs that may shadow (P1); NULL members for those that never will. make: sleeps; NULL when there is no memory. */
	struct slot_arrays *(*arrays_make)(struct vm *vm, const struct memslot *slot);
	void (*arrays_free)(struct vm *vm, struct slot_arrays *arrays);
};

/* Pages of one word of a slot's bitmap that a ring reset is to write-protect. What names them is not to be believed. */
struct dirty_batch {
	uint32_t slot; /* address space << 16 | slot number */
	uint64_t word, mask;
};
#define DIRTY_BATCHES 1024u /* write-protected with one flush */

struct slots {
	struct memslots set[MAX_ADDRESS_SPACES][2];
	struct memslots *active[MAX_ADDRESS_SPACES]; /* a: release on publication; read by memslots_active and memslots_current */
	struct id_map ids[MAX_ADDRESS_SPACES];
	struct gate gate;
	const struct slots_hooks *hooks;
	uint64_t total_pages;  /* of all slots; written under slots_lock, atomic: faults look at it (shadow_make_room) */
	unsigned dirty_mode;   /* VMMU_DIRTY_*; under slots_lock */
	uint32_t ring_entries; /* 0: bitmaps. Constant once a vCPU exists */
	struct dirty_batch *batches; /* DIRTY_BATCHES, when there are rings; under slots_lock */
	bool ring_gone;        /* since the last reset a vCPU went with entries in its ring; under vcpus.lock */
};

/** Allocates. Returns: VMMU_OK, VMMU_ENOMEM. */
enum vmmu_status slots_init(struct vm *vm, const struct slots_hooks *hooks);

/** Free every slot. No reader is left. Harmless after a slots_init that failed. */
void slots_fini(struct vm *vm);

/**
 * vmmu_region_set. All or nothing: whatever can fail has been done before the first step that shows.
 * Holds: slots_lock, and nothing that a reader or an invalidation may wait for. Sleeps, allocates.
 * Cost: O(log slots), and the hooks'.
 */
enum vmmu_status slots_change(struct vm *vm, const struct vmmu_region *region);

#endif

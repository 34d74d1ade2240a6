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
 * What the rest of core does at the steps of a change. Each hook is called with slots_lock held, outside a read
 * section, without slots_arch_lock. It may sleep. Only arrays_reserve can fail: a change that has begun is finished.
 */
struct slots_hooks {
	/** DELETE and MOVE. `slot` was published as SLOT_INVALID, a grace period ago: remove all that it maps (P3). */
	void (*zap)(struct vm *vm, const struct memslot *slot);
	/**
	 * The new set was published, a grace period ago: start or stop logging. CREATE: `old` is NULL. DELETE: `new`
	 * is.
	 */
	void (*committed)(struct vm *vm, enum slot_change change, const struct memslot *old, const struct memslot *new);
	/**
	 * After a grace period, the generation of a set is about to move to `generation`. From then on MMIO entries of
	 * an older one are stale (P10). The hook runs before the move, so that it can purge a number that wraps before
	 * the number is used again.
	 */
	void (*generation)(struct vm *vm, uint64_t generation);
	/**
	 * *out: arrays for a slot if the VM's first shadow root may yet come (P1); NULL if the VM never shadows.
	 * Sleeps.
	 * Returns: false if the host has no memory.
	 */
	bool (*arrays_reserve)(struct vm *vm, const struct memslot *slot, struct slot_arrays **out);
	void (*arrays_free)(struct vm *vm, struct slot_arrays *arrays);
};

/* Pages of one bitmap word that a ring reset is to write-protect. The program named them, so do not believe them. */
struct dirty_batch {
	uint32_t slot; /* address space << 16 | slot number */
	uint64_t word, mask;
};
#define DIRTY_BATCHES 1024u /* write-protected with one flush */

struct slots {
	struct memslots set[MAX_ADDRESS_SPACES][2];
	/* a: release on publication; memslots_active and memslots_current read it. */
	struct memslots *active[MAX_ADDRESS_SPACES];
	struct id_map ids[MAX_ADDRESS_SPACES];
	struct gate gate;
	const struct slots_hooks *hooks;
	/* Of all slots. Written under slots_lock; atomic, because faults look at it (shadow_make_room). */
	uint64_t total_pages;
	unsigned dirty_mode;   /* VMMU_DIRTY_*; under slots_lock */
	uint32_t ring_entries; /* 0: bitmaps. Constant once a vCPU exists */
	struct dirty_batch *batches; /* DIRTY_BATCHES of them if there are rings; under slots_lock */
	/* Since the last reset a vCPU was destroyed with entries in its ring. Under vcpus.lock. */
	bool ring_gone;
};

/** Allocates. Returns: VMMU_OK, VMMU_ENOMEM. */
enum vmmu_status slots_init(struct vm *vm, const struct slots_hooks *hooks);

/** Free every slot. No reader is left. Harmless after slots_init failed. */
void slots_fini(struct vm *vm);

/**
 * vmmu_region_set. All or nothing: everything that can fail is done before the first visible step.
 * Holds: slots_lock, and nothing that a reader or an invalidation may wait for. Sleeps, allocates.
 * Cost: O(log slots), and the hooks'.
 */
enum vmmu_status slots_change(struct vm *vm, const struct vmmu_region *region);

#endif

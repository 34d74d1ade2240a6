/* SPDX-License-Identifier: MIT */
/*
 * The TDP MMU: two-dimensional page tables, changed by compare-and-swap under mmu_lock for read, freed by RCU (P3,
 * P6, P7). Like KVM's tdp_mmu.c.
 *
 * There are no reverse maps: the place of an entry is computed from its gfn. Code that wants the entries of a gfn
 * walks down from every root.
 *
 * In a VM that never has a TDP root (vm->tdp is NULL) every function here but tdp_root_get and tdp_map may be
 * called, and does nothing.
 *
 * Functions that take a struct mmu_token work under either mode of mmu_lock. They may yield it where the contract
 * says so, and leave a flush pending in the token where they made entries stricter.
 */
#ifndef CORE_TDP_TDP_H
#define CORE_TDP_TDP_H

#include "core/base/types.h"
#include "core/memslot/memslot.h"
#include "core/sync/vm.h"
#include "core/table/fault.h"
#include "core/table/table.h"

/* How a fault is to be installed. Decided before mmu_lock is taken. */
struct tdp_map {
	const struct fault *fault;
	/* The largest level of the leaf that slot, log and host allow; 1 for an MMIO entry. Mirrors not considered. */
	int level;
	gfn_t first, end;  /* the block, or a 4K page with neighbours from its aligned block of 8 */
};

enum vmmu_status tdp_init(struct vm *vm);
/** Free all roots. No vCPU is left. */
void tdp_fini(struct vm *vm);

/* --- roots (root.c) --- */

/**
 * Take a reference on the valid root of an address space, which is made if there is none. `cache`: one table.
 * Holds: mmu_lock for read. Returns: NULL if a table is needed and the cache is empty.
 */
struct table *tdp_root_get(struct mmu_read *token, unsigned as_id, struct table_cache *cache);

/** Drop a reference. Any lock but the tables lock may be held. */
void tdp_root_put(struct vm *vm, struct table *root);

/**
 * The next root of an address space (any if as_id < 0), with a reference taken. Then puts `previous`. NULL: begin.
 * Returns: NULL at the end.
 */
struct table *tdp_next_root(struct vm *vm, struct table *previous, int as_id, bool only_valid);

/*
 * Each root of an address space (any if as_id < 0), with a reference while the body runs. A body that leaves the
 * loop early must put it. Roots that are made meanwhile may be left out.
 */
#define tdp_for_each_root(root, vm, as_id, only_valid) \
	for (struct table *root = tdp_next_root(vm, NULL, as_id, only_valid); root; \
	     root = tdp_next_root(vm, root, as_id, only_valid))

static inline bool tdp_root_is_valid(const struct table *root)
{
	return !load_acquire(&root->invalid); /* pairs with tdp_invalidate_roots */
}

/**
 * P3, front half: every valid root becomes invalid and scheduled for zapping.
 * Holds: slots_lock; mmu_lock write.
 */
void tdp_invalidate_roots(struct mmu_write *token);

/** P3, back half: zap and put every scheduled root. Holds: slots_lock, not mmu_lock. Sleeps as mmu_lock does. */
void tdp_zap_invalidated_roots(struct vm *vm);

/* --- faults (map.c) --- */

/**
 * Install the mapping under `root`, smaller or read-only where a frame of it is mirrored (N1). The caller has made the
 * retry checks in this same lock section.
 * Returns: RET_PF_EMULATE for a write to a mirrored frame.
 */
enum map_result tdp_map(struct mmu_read *token, struct table *root, const struct tdp_map *wanted,
                        struct table_cache *cache);

/**
 * P6: give back, without a lock, a right that write protection or aging took away. Holds: SRCU read side.
 * Returns: RET_PF_FIXED (the caller marks a write in a logged slot dirty), RET_PF_SPURIOUS (the access is already
 * allowed), RET_PF_RETRY (this needs the slow path).
 */
enum map_result tdp_fast_fault(struct vm *vm, struct table *root, const struct fault *fault);

/** The leaf entry that a CPU would find for gfn, and its level; 0 when there is none. Lockless, a snapshot. */
spte_t tdp_leaf(struct vm *vm, struct table *root, gfn_t gfn, int *level);

/* --- ranges: gfns [first, end) --- */

/**
 * Zap all leaves in the range, in every root, invalid ones too. Yields, but not before its second entry.
 * Holds: mmu_lock write.
 */
void tdp_zap_range(struct mmu_token *token, unsigned as_id, gfn_t first, gfn_t end);

/** Make every leaf of the range at level >= min_level read-only. Leaves a flush pending if any changed. Yields. */
void tdp_write_protect(struct mmu_token *token, const struct memslot *slot, gfn_t first, gfn_t end, int min_level);

/**
 * Make read-only the 4K leaves of the 64 gfns from `base` whose bit is set in `mask`, and any huge leaf above them.
 * Does not yield.
 */
void tdp_write_protect_mask(struct mmu_token *token, const struct memslot *slot, gfn_t base, uint64_t mask);

/**
 * Split every huge leaf of the range down to `level`. Best effort: a huge leaf that stays is write-protected.
 * Yields, and drops the lock to allocate.
 */
void tdp_split(struct mmu_token *token, const struct memslot *slot, gfn_t first, gfn_t end, int level);

/**
 * Set *gfn to the next present 4K leaf at or after it, below `end`, in a valid root of the address space. For
 * recovery (F18). Lockless, a snapshot. Returns: false when there is none.
 */
bool tdp_next_small(struct vm *vm, unsigned as_id, gfn_t *gfn, gfn_t end);

/** P2, the TDP half: is a leaf of the range young? With `clear`, age all of them. Lockless. */
bool tdp_age(struct vm *vm, unsigned as_id, gfn_t first, gfn_t end, bool clear);

#endif

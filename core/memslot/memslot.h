/* SPDX-License-Identifier: MIT */
/*
 * Memslots: which host memory backs which guest frames, and how the rest of core looks that up.
 *
 * Each address space has two sets of slots. One is active: readers reach it through a pointer and never lock. A change
 * is made to the other set and published by a swap of the pointer (gate.h says when). After a grace period the same
 * change is made to the old set; then both sets are equal but for the slot in flight. A slot that did not change is
 * one object in both sets, linked by node[0] in one and by node[1] in the other. So a change copies only what changed.
 *
 *     set[0] (active)          set[1]
 *        |  node[0]              |  node[1]
 *        +--> slot A <-----------+
 *        +--> slot B <-----------+
 *        +--> slot C             +--> slot C'      C is being changed
 *
 * To read, hold the SRCU read side, or hold slots_lock, or have entered the gate.
 */
#ifndef CORE_MEMSLOT_MEMSLOT_H
#define CORE_MEMSLOT_MEMSLOT_H

#include <vmmu/memslot.h>

#include "core/base/tree.h"
#include "core/base/types.h"
#include "core/sync/vm.h"

/*
 * Core's own flag, beside VMMU_SLOT_*: the slot is being deleted or moved (F4, F5). Faults retry; nothing is
 * installed.
 */
#define SLOT_INVALID (1u << 16)

/* Where one set links a slot. */
struct memslot_node {
	struct tree_node by_gfn;
	struct tree_node by_hva;
	uint64_t last_hva;        /* the largest last byte of the by_hva subtree, for the interval tree */
};

/* One slot. Constant once published, except for the bits of the bitmap and the links of the inactive set. */
struct memslot {
	gfn_t base;
	uint64_t npages;
	hva_t hva;
	uint32_t flags;
	uint16_t id;
	uint16_t as_id;
	struct slot_arrays *arrays; /* core/shadow's (P1); NULL until the VM shadows something */
	/*
	 * Atomic bits, one per page; NULL if the slot is not logged by bitmap. A second half of the same size follows:
	 * the snapshot, under slots_lock.
	 */
	uint64_t *dirty;
	struct memslot_node node[2];
};

/**
 * Has the VM had a shadow root, so that its slots have arrays? acquire: a caller that sees the flag also sees all
 * arrays. Pairs with arrays_first_root. P1
 */
static inline bool arrays_exist(const struct vm *vm)
{
	return load_acquire(&vm->shadow_root_allocated);
}

/*
 * Slots by number, for both sets of an address space. There are two levels, so that few slots cost little and 32764
 * need no search. A lower part is made before the first change that needs it, and stays until the VM goes.
 */
#define ID_PART_BITS 7
#define ID_PART_SIZE (1u << ID_PART_BITS)
#define ID_PARTS     256u

struct id_part {
	struct memslot *slot[ID_PART_SIZE][2]; /* by set index */
};

struct id_map {
	struct id_part *part[ID_PARTS]; /* a: release when made, acquire on reading */
};

_Static_assert(VMMU_MAX_SLOTS <= ID_PARTS * ID_PART_SIZE, "every slot number has a place");

/* One set of slots of one address space. */
struct memslots {
	struct tree by_gfn, by_hva;
	struct id_map *ids;        /* the address space's; both sets share it */
	/* a; has GENERATION_IN_PROGRESS while a change is being published. Never equal in two address spaces. */
	uint64_t generation;
	struct memslot *last_used; /* a: a hint */
	unsigned index;            /* which node[] this set uses: 0 or 1 */
	unsigned count;
};

#define GENERATION_IN_PROGRESS BIT(63)

/** The active set of an address space. Valid while the read section lasts. */
const struct memslots *memslots_active(const struct vm *vm, unsigned as_id, struct srcu_read token);

/** The active set, for a caller that instead holds slots_lock or has entered the gate. Valid as long as that lasts. */
const struct memslots *memslots_current(const struct vm *vm, unsigned as_id);

/**
 * The generation of an active set. What was remembered under it is stale once it differs. While GENERATION_IN_PROGRESS
 * is set, remember nothing. Read the generation before looking up what is to be remembered.
 */
static inline uint64_t memslots_generation(const struct memslots *slots)
{
	return load_acquire(&slots->generation); /* acquire: pairs with slots_publish */
}

/** The slot that holds `gfn`, or NULL. O(log slots); O(1) for the slot that was found last. */
struct memslot *memslot_find(const struct memslots *slots, gfn_t gfn);

/** The slot with this number (any number), or NULL. O(1). */
struct memslot *memslot_find_id(const struct memslots *slots, uint32_t id);

/** Does a slot of the set, other than number `except`, hold one of the gfns [first, first + npages)? O(log slots). */
bool memslots_overlap(const struct memslots *slots, gfn_t first, uint64_t npages, uint32_t except);

/* A vCPU's memory of the slot it used last, valid for one generation of one set (F7). Owner: the vCPU's thread. */
struct memslot_cache {
	const struct memslots *slots;
	uint64_t generation;
	struct memslot *slot;
};

static inline bool memslot_contains(const struct memslot *slot, gfn_t gfn)
{
	return gfn.v - slot->base.v < slot->npages;
}

/** As memslot_find, through a vCPU's cache. */
struct memslot *memslot_find_cached(struct memslot_cache *cache, const struct memslots *slots, gfn_t gfn);

/** The first gfn after the slot. */
static inline gfn_t memslot_end(const struct memslot *slot)
{
	return GFN(slot->base.v + slot->npages);
}

static inline hva_t memslot_hva(const struct memslot *slot, gfn_t gfn)
{
	return HVA(slot->hva.v + ((gfn.v - slot->base.v) << PAGE_SHIFT));
}

/**
 * The largest level at which one block may map `gfn` (F19): gfn and hva agree modulo the block, which lies in the
 * slot.
 */
int memslot_max_level(const struct memslot *slot, gfn_t gfn);

/* The part [first, last] (inclusive) of a slot that a range of host addresses covers. */
struct memslot_span {
	struct memslot *slot;
	gfn_t first, last;
};

/**
 * Call fn for every slot of the set that overlaps [start, end), which need not be page-aligned. O(log slots + matches).
 * Stops early and returns true when fn returns true.
 */
bool memslots_for_each_hva(const struct memslots *slots, hva_t start, hva_t end,
                           bool (*fn)(void *arg, const struct memslot_span *span), void *arg);

/**
 * Call fn for every slot of the set, in order of gfn. Stops early and returns true when fn returns true.
 */
bool memslots_for_each(const struct memslots *slots, bool (*fn)(void *arg, struct memslot *slot), void *arg);

#endif

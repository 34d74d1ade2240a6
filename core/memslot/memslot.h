/* SPDX-License-Identifier: MIT */
/*
 * Memslots: which guest frames are backed by which host memory, and how the rest of core looks that up.
 *
 * Each address space has two sets of slots. One is active: readers reach it through a pointer and never lock. A change is made to the
 * other set, which is then published by a swap of the pointer (gate.h says when); after a grace period the old set is brought up to
 * date with the same change, so that both are equal but for the slot in flight. A slot that did not change is one object in both sets, linked
 * by node[0] in one and node[1] in the other: a change copies only what changed.
 *
 *     set[0] (active)          set[1]
 *        |  node[0]              |  node[1]
 *        +--> slot A <-----------+
 *        +--> slot B <-----------+
 *        +--> slot C             +--> slot C'      C is being changed
 *
 * Reading: hold the SRCU read side (or slots_lock, or have entered the gate).
 */
#ifndef CORE_MEMSLOT_MEMSLOT_H
#define CORE_MEMSLOT_MEMSLOT_H

#include <vmmu/memslot.h>

#include "core/base/tree.h"
#include "core/base/types.h"
#include "core/sync/vm.h"

/* Core's own flag, beside VMMU_SLOT_*: the slot is being deleted or moved. Faults on it retry; nothing may be installed (features 4, 5). */
#define SLOT_INVALID (1u << 16)

/* Where one set links a slot. */
struct memslot_node {
	struct tree_node by_gfn;
	struct tree_node by_hva;
	uint64_t last_hva;        /* the largest last byte of the by_hva subtree: what makes it an interval tree */
};

/*
 * One slot. Constant once published, but for the bits of the bitmap and the links of the inactive set.
 */
struct memslot {
	gfn_t base;
	uint64_t npages;
	hva_t hva;
	uint32_t flags;
	uint16_t id;
	uint16_t as_id;
	struct slot_arrays *arrays; /* core/shadow's (P1); NULL until the VM shadows something */
	uint64_t *dirty;          /* bits atomic: one per page; NULL when not logged by bitmap. A second half of the same size follows: the snapshot,
	                             under slots_lock */
	struct memslot_node node[2];
};

/*
 * Slots by number, for both sets of an address space: two levels, so that few slots cost little and 32764 cost no search. Lower parts are made
 * before the first change that needs them and stay until the VM goes.
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
	struct id_map *ids;        /* of the address space: both sets share it */
	uint64_t generation;       /* a: GENERATION_IN_PROGRESS set while a change is being published; never equal in two address spaces */
	struct memslot *last_used; /* a: a hint */
	unsigned index;            /* which node[] this set uses: 0 or 1 */
	unsigned count;
};

#define GENERATION_IN_PROGRESS BIT(63)

/** The active set of an address space. Valid while the read section lasts. */
const struct memslots *memslots_active(const struct vm *vm, unsigned as_id, struct srcu_read token);

/** The same for who is not in a read section but holds slots_lock, or has entered the gate: valid as long as that. */
const struct memslots *memslots_current(const struct vm *vm, unsigned as_id);

/**
 * The generation of an active set. Anything remembered under it is stale once it differs; nothing may be remembered while
 * GENERATION_IN_PROGRESS is set. Read it before looking up what is to be remembered.
 */
static inline uint64_t memslots_generation(const struct memslots *slots)
{
	return load_acquire(&slots->generation); /* pairs with the stores of publish.c */
}

/** The slot that holds `gfn`, or NULL. O(log slots); O(1) when it is the slot found last. */
struct memslot *memslot_find(const struct memslots *slots, gfn_t gfn);

/** The slot with this number (any number), or NULL. O(1). */
struct memslot *memslot_find_id(const struct memslots *slots, uint32_t id);

/** Does a slot of the set, other than number `except`, hold one of the gfns [first, first + npages)? O(log slots). */
bool memslots_overlap(const struct memslots *slots, gfn_t first, uint64_t npages, uint32_t except);

/* A vCPU's memory of the slot it used last, valid for one generation of one set (feature 7). Owner: the vCPU's thread. */
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

static inline hva_t memslot_hva(const struct memslot *slot, gfn_t gfn)
{
	return HVA(slot->hva.v + ((gfn.v - slot->base.v) << PAGE_SHIFT));
}

/** The largest level at which `gfn` may be mapped as one block: gfn and hva agree modulo the block, and the block lies in the slot (19). */
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

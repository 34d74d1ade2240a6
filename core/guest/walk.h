/* SPDX-License-Identifier: MIT */
/*
 * A walk of the guest's page tables: what the CPU would find, with the fault it would raise.
 *
 * The walk reads guest memory through the slots, and sets Accessed and Dirty there by compare-and-swap, as the CPU
 * would. It records each entry it used. What it read may change at any time, so the shadow side reads these entries
 * again under mmu_lock (P4).
 */
#ifndef CORE_GUEST_WALK_H
#define CORE_GUEST_WALK_H

#include "core/guest/mode.h"
#include "core/memslot/dirty.h"
#include "core/memslot/memslot.h"

struct guest_walk {
	int levels;                       /* where the walk began */
	int level;                        /* of the leaf */
	gfn_t table[GUEST_MAX_LEVELS];    /* [level - 1]: frame of the table with the entry */
	hva_t hva[GUEST_MAX_LEVELS];      /* [level - 1]: where the entry is; valid in the SRCU read section */
	uint64_t value[GUEST_MAX_LEVELS]; /* [level - 1]: what the entry was */
	unsigned rights[GUEST_MAX_LEVELS]; /* [level - 1]: ACC_* of the path down to this entry, inclusive */
	unsigned key;                     /* protection key of the leaf */
	/* The leaf has D set, or is in memory where it never will: a write need not be caught. */
	bool dirty;
	gfn_t gfn;                        /* the 4K frame that was asked for */
	uint64_t error;                   /* after a fault: the guest's error code */
};

enum guest_walk_result {
	GUEST_WALK_OK,
	GUEST_WALK_FAULT, /* walk->error */
	GUEST_WALK_AGAIN, /* an entry changed while A or D was set */
	/* A or D is to be set in a logged table, and the ring has no room to log it: nothing was set there. */
	GUEST_WALK_RING_FULL,
	GUEST_WALK_HOST,  /* the host has no page for a table */
};

/* The vCPU, or other reader, that a walk is for. */
struct guest_reader {
	const struct guest_mode *mode;
	const struct memslots *slots;
	struct memslot_cache *cache;
	struct vm *vm;
	struct dirty_ring *ring; /* logs the A and D bits that are set; NULL: the bitmap only */
};

/**
 * Translate gva for an access. Holds: SRCU read side. May sleep (host pages of the tables). `cr3`: where the tables
 * begin; for PAE, `pdpte` instead. `error`: kind of access (VMMU_PF_WRITE, USER, FETCH, SMAP).
 */
enum guest_walk_result guest_walk(const struct guest_reader *reader, uint64_t cr3, const uint64_t pdpte[4], gva_t gva,
                                  uint64_t error, uint32_t pkru, struct guest_walk *walk);

/** Where the host keeps a table, valid while the SRCU read section lasts. Returns: false if its frame is in no slot. */
bool guest_table_find(const struct guest_reader *reader, gfn_t table, hva_t *hva);

static inline unsigned guest_entry_bytes(const struct guest_mode *mode)
{
	return mode->wide ? 8 : 4;
}

/** Read an entry of a table that was found, in one access. Returns: false if the host has no memory for it. */
static inline bool guest_entry_read(const struct guest_mode *mode, hva_t table, unsigned index, uint64_t *value)
{
	return port_load_from_host(table.v + index * guest_entry_bytes(mode), guest_entry_bytes(mode), value);
}

static inline bool guest_entry_is_present(const struct guest_mode *mode, uint64_t entry)
{
	return entry & mode->present;
}

/** A is set, or there is no such bit. */
static inline bool guest_entry_is_accessed(const struct guest_mode *mode, uint64_t entry)
{
	return (entry & mode->accessed) == mode->accessed;
}

/** D is set, or there is no such bit. */
static inline bool guest_entry_is_dirty(const struct guest_mode *mode, uint64_t entry)
{
	return (entry & mode->dirty) == mode->dirty;
}

/** Rights that a present entry gives by itself: ACC_*. (In EPT, U is implied, whatever its bit says.) */
static inline unsigned guest_entry_rights(const struct guest_mode *mode, uint64_t entry)
{
	return (entry & GPTE_W ? ACC_WRITE : 0) | (entry & GPTE_U ? ACC_USER : 0) | mode->implied |
	       ((entry & mode->exec_mask) == mode->exec ? ACC_EXEC : 0);
}

static inline bool guest_entry_is_leaf(const struct guest_mode *mode, uint64_t entry, int level)
{
	return level == 1 || (level <= 3 && (entry & GPTE_PS) && (mode->wide || mode->pse) &&
	                      !(level == 3 && mode->levels == 3));
}

static inline bool guest_entry_is_reserved(const struct guest_mode *mode, uint64_t entry, int level)
{
	bool large = level > 1 && guest_entry_is_leaf(mode, entry, level);

	if (entry & mode->reserved[large][level - 1])
		return true;
	return unlikely(mode->reserved_low) && (mode->reserved_low >> (entry & 63) & 1); /* EPT alone has such */
}

/** The first frame that a leaf maps. */
static inline gfn_t guest_leaf_gfn(const struct guest_mode *mode, uint64_t entry, int level)
{
	if (!mode->wide && level == 2) /* PSE-36 */
		return GFN((entry & BIT_MASK(31, 22)) >> PAGE_SHIFT |
		           (entry & BIT_MASK(20, 13)) << (32 - 13) >> PAGE_SHIFT);
	return GFN((entry & BIT_MASK(51, 12)) >> PAGE_SHIFT & ~(level_pages(level) - 1));
}

/* The index that a virtual address has at this level: 9 of its bits, or 10 in tables of 4-byte entries. */
static inline unsigned guest_index(const struct guest_mode *mode, gva_t gva, int level)
{
	return mode->wide ? gva.v >> (PAGE_SHIFT + LEVEL_BITS * (level - 1)) & (ENTRIES - 1)
	                  : gva.v >> (12 + 10 * (level - 1)) & 1023;
}

/* 4K pages that a leaf at this level maps. */
static inline uint64_t guest_level_pages(const struct guest_mode *mode, int level)
{
	return UINT64_C(1) << ((mode->wide ? LEVEL_BITS : 10) * (level - 1));
}

#endif

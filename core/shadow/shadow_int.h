/* SPDX-License-Identifier: MIT */
/*
 * Inside the shadow MMU.
 *
 * Everything marked W changes only under mmu_lock for write. Entries (SPTEs) are changed by writers with atomic stores and swaps, because hardware
 * sets A and D in them and aging clears A (P2) without the lock. Under mmu_lock for read faults do one thing, beside each other: an empty entry of a page
 * that is there becomes a leaf, by compare-and-swap, with its gfn and its place on the rmap (shadow_map_beside).
 *
 * Freed pages go the way of TDP tables: unlinked, then the flush (nobody in the guest walks them any more), then RCU (nor does a lockless reader).
 */
#ifndef CORE_SHADOW_SHADOW_INT_H
#define CORE_SHADOW_SHADOW_INT_H

#include "core/format/spte.h"
#include "core/memslot/slots.h"
#include "core/shadow/arrays.h"
#include "core/shadow/rmap.h"
#include "core/shadow/shadow.h"

/*
 * The role: what a shadow page depends on beside its gfn. Two pages with the same gfn and role are the same page; a child is reused only if
 * both match (25: reusing one whose role or gfn differs was a guest-to-host escape, zoo 1 and 2).
 */
#define ROLE_LEVEL(n)    ((uint32_t)(n))           /* bits 0-3 */
#define ROLE_RIGHTS(acc) ((uint32_t)(acc) << 4)    /* 4-6: ACC_* of the path to it */
#define ROLE_DIRECT      (1u << 7)
#define ROLE_QUADRANT(q) ((uint32_t)(q) << 8)      /* 8-9: which part of a 4-byte table */
#define ROLE_FOUR_BYTE   (1u << 10)
#define ROLE_NX          (1u << 11)
#define ROLE_WP          (1u << 12)
#define ROLE_SMEP_NOT_WP (1u << 13)
#define ROLE_SMAP_NOT_WP (1u << 14)
#define ROLE_SMM         (1u << 15)
#define ROLE_PKE         (1u << 16)
#define ROLE_PSE         (1u << 17) /* of a 4-byte guest: decides what a PDE means */
#define ROLE_NO_PAGING   (1u << 18)
#define ROLE_PAE         (1u << 23) /* bits 62:52 are reserved */
#define ROLE_DIRTY       (1u << 24) /* of a direct page: the large page that it is a piece of is dirty, or cannot be marked so */
#define ROLE_KEY(k)      ((uint32_t)(k) << 19) /* 19-22: of a direct page: the protection key of the large page that it is a piece of */

static inline int role_level(uint32_t role)
{
	return role & 15;
}

static inline unsigned role_rights(uint32_t role)
{
	return role >> 4 & ACC_ALL;
}

static inline unsigned role_quadrant(uint32_t role)
{
	return role >> 8 & 3;
}

static inline unsigned role_key(uint32_t role)
{
	return role >> 19 & 15;
}

static inline unsigned role_as_id(uint32_t role)
{
	return role & ROLE_SMM ? 1 : 0;
}

/* One shadow page. */
struct shadow {
	struct table *table;        /* c */
	spte_t *spt;                /* c: the entries */
	gfn_t gfn;                  /* c: the guest table, or the first frame of a direct page */
	uint32_t role;              /* c */
	uint32_t roots;             /* W: vCPUs' references as a root */
	uint64_t generation;        /* c: stale when it is not the MMU's (P3) */
	struct shadow *hash_next;   /* W */
	struct list link;           /* W: shadow_mmu.pages, oldest first */
	struct rmap parents;        /* W: entries that point here (26) */
	struct table *shadowed;     /* c: NULL for a direct page; its entries are the gfns of the leaves (28) */
	bool invalid;               /* a: 0 -> 1 once: zapped, kept by `roots` */
	bool unsync;                /* a, written under W: the guest may write its table unseen until a flush (29) */
	uint32_t unsync_children;   /* a, written under W: bits set in unsync_map */
	uint32_t writes;            /* W: writes to the guest table since it was last used (42) */
	uint64_t unsync_map[(ENTRIES + 63) / 64]; /* W: entries with something unsync below */
	struct port_rcu_head rcu;
	struct vm *vm;              /* c */
};

struct shadow_mmu {
	struct shadow **hash;       /* allocated with the first root (P1) */
	struct list pages;          /* W: all valid pages, oldest first */
	uint64_t generation;        /* W; read by vCPUs under mmu_lock or as a hint */
	uint64_t used, limit;       /* W; limit 0: the default */
	uint64_t indirect;          /* a: P4: live pages that mirror guest tables (I4.3) */
};

#define HASH_SIZE (1u << SHADOW_HASH_BITS)

static inline struct shadow *shadow_of(const spte_t *entry)
{
	return table_of(entry)->owner;
}

static inline unsigned entry_index_of(const struct shadow *page, const spte_t *entry)
{
	return entry - page->spt;
}

/** Is the page of the generation before a zap of everything? */
static inline bool shadow_is_obsolete(const struct vm *vm, const struct shadow *page)
{
	return load_relaxed(&page->invalid) || page->generation != load_relaxed(&vm->shadow->generation);
}

/** The gfn that a leaf of the page maps. */
static inline gfn_t shadow_entry_gfn(const struct shadow *page, unsigned index)
{
	if (page->shadowed)
		return GFN(table_entries(page->shadowed)[index]);
	return GFN(page->gfn.v + index * level_pages(role_level(page->role)));
}

/* --- pages (page.c) --- */

/** The page for (gfn, role), found or made. Caches must hold one page and two tables. After making one for a guest table: P4's shadow side was run. */
struct shadow *shadow_get(struct mmu_token *token, struct shadow_vcpu *sv, struct table_cache *tables, gfn_t gfn, uint32_t role);
struct shadow *shadow_find(struct vm *vm, gfn_t gfn, uint32_t role);
struct shadow **shadow_bucket(struct vm *vm, gfn_t gfn);

/** Next valid page that mirrors the guest table `gfn`, after `page` (NULL to begin), in any address space (zoo 5). */
struct shadow *shadow_next_of(struct vm *vm, gfn_t gfn, struct shadow *page);

/** Unlink the page from everything and give it back after the flush; a root stays, invalid, until its last reference goes. */
void shadow_zap(struct mmu_token *token, struct shadow *page);
/** Drop a root reference. */
void shadow_root_put(struct mmu_token *token, struct shadow *page);
/** The vCPU's current root is of no use any more: another is loaded before it enters. */
void shadow_root_lost(struct mmu_token *token, struct shadow_vcpu *sv);

/* --- entries (entry.c) --- */

/** Clear an entry, whatever it is: off its rmap or its child's parents, accounted; flush owed if hardware may have used it. */
void entry_zap(struct mmu_token *token, struct shadow *page, spte_t *entry);
/** Point an empty entry to a child. */
void entry_link(struct mmu_token *token, struct shadow_vcpu *sv, struct shadow *page, spte_t *entry, struct shadow *child);
/* A leaf, and the frame that it maps (28). */
struct leaf {
	spte_t spte;
	gfn_t gfn;
};
/**
 * Store a leaf over an empty entry; with mmu_lock held for write also over an MMIO entry, or over a leaf whose rights it changes (same frames). Keeps the
 * rmap. `slot`: that of the gfn; NULL for an MMIO entry, and, like `sv`, where a leaf is there for sure. Returns: whether there is one leaf more, for
 * leaves_count; false, with mmu_lock held for read, also when another fault was first.
 */
bool entry_set_leaf(struct mmu_token *token, struct shadow_vcpu *sv, const struct memslot *slot, struct shadow *page, spte_t *entry,
                    const struct leaf *leaf);
/** So many leaves more, or fewer. */
void leaves_count(struct mmu_token *token, int level, int64_t change);
/** Take W from every leaf of gfn, in one address space's slot. Returns: true when one had it (flush owed). */
bool gfn_write_protect(struct mmu_token *token, const struct memslot *slot, gfn_t gfn, int min_level);

/* --- unsync (sync.c, P8) --- */

/** May gfn be mapped writable? Marks the pages that mirror it unsync if that suffices. Returns: false when it must stay read-only. */
bool gfn_try_unsync(struct mmu_token *token, const struct memslot *slot, gfn_t gfn, bool can_unsync);
/** Bring one unsync page up to date with the guest's table. */
void shadow_sync_page(struct mmu_token *token, const struct guest_reader *reader, struct shadow *page);
/** Bring all unsync pages at or below `page` up to date. Does not yield. */
void shadow_sync_below(struct mmu_token *token, const struct guest_reader *reader, struct shadow *page);
/** The page is unsync from here on; its ancestors know the way to it. */
void shadow_unsync_mark(struct shadow *page);
void shadow_unsync_clear(struct shadow *page);

/** Which entry of the guest's table an entry of a 4K-level page mirrors. */
static inline unsigned guest_entry_index(const struct shadow *page, unsigned index)
{
	return page->role & ROLE_FOUR_BYTE ? role_quadrant(page->role) * ENTRIES + index : index;
}

/** The rights that a guest's 4K entry gives, within those of the path to it. A clean page is not written before its D bit is set. */
static inline unsigned guest_entry_leaf_rights(const struct guest_mode *mode, const struct shadow *page, uint64_t value)
{
	unsigned rights = role_rights(page->role) & guest_entry_rights(mode, value);

	return value & GPTE_D ? rights : rights & ~ACC_WRITE;
}

/* --- prefetch (prefetch.c, 44) --- */

/** After the leaf of `fault` was put at page->spt[index], of a 4K-level page: its neighbours, up to seven. */
void shadow_prefetch(struct mmu_token *token, struct shadow_vcpu *sv, const struct guest_reader *reader, struct shadow *page, unsigned index,
                     const struct shadow_fault *fault);

/** The SPTE for a leaf: guest rights, host rights, logging. */
spte_t shadow_make_leaf(struct vm *vm, pfn_t pfn, int level, unsigned rights, unsigned key, bool host_writable, bool young);

/** Is a child's (gfn, level) counted as shadowed: no huge leaf over it, and above 4K no writable leaf anywhere (39). */
void account_shadowed(struct mmu_token *token, struct shadow *page);
void unaccount_shadowed(struct shadow *page);

/** Does the block of `level` hold a shadowed table, in any address space? */
bool block_is_shadowed(struct vm *vm, gfn_t gfn, int level);

/** Each address space's slot of a gfn, through the active sets. Holds: mmu_lock write (a change of slots zaps under it before slots go). */
const struct memslot *slot_of_gfn(struct vm *vm, unsigned as_id, gfn_t gfn);

static inline struct rmap *gfn_rmap(const struct memslot *slot, gfn_t gfn, int level)
{
	return &slot->arrays->rmap[level - 1][slot_block(slot, gfn, level)];
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Inside the shadow MMU.
 *
 * At fields, c means constant after creation; W, changed only under mmu_lock for write; a, accessed atomically.
 *
 * A holder of mmu_lock for write changes entries (SPTEs) by atomic stores and swaps all the same, because hardware
 * sets A and D, and aging clears A (P2), without the lock. Holders of mmu_lock for read do one thing, several of them
 * at a time: they turn an empty entry of an existing page into a leaf, by compare-and-swap, and then note its gfn and
 * add it to the rmap (shadow_map_beside).
 *
 * A page is freed as a TDP table is: it is unlinked, then comes the flush, after which no vCPU in the guest walks it,
 * then an RCU grace period, after which no lockless reader does.
 */
#ifndef CORE_SHADOW_SHADOW_INT_H
#define CORE_SHADOW_SHADOW_INT_H

#include "core/format/spte.h"
#include "core/memslot/slots.h"
#include "core/shadow/arrays.h"
#include "core/shadow/rmap.h"
#include "core/shadow/shadow.h"
#include "core/table/mirror.h"

/*
 * The role: all that a shadow page depends on, other than its gfn. In a generation there is at most one page for each
 * (gfn, role). A child is reused only if both match (F25): reusing one with another role or gfn was a guest-to-host
 * escape (zoo 1, 2).
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
/* Of a direct page, which is a piece of a guest's large page: that page is dirty, or cannot be marked dirty. */
#define ROLE_DIRTY       (1u << 24)
/* Of L1's nested table, not of its page tables (N4). Such a page never goes unsync (gfn_try_unsync). */
#define ROLE_GUEST_MODE  (1u << 25)
#define ROLE_EPT         (1u << 26) /* L1's nested table is EPT, with the CPU's A and D bits in it or without */
#define ROLE_EPT_AD      (1u << 27)
/* 19-22, of a direct page: the protection key of the large page. */
#define ROLE_KEY(k)      ((uint32_t)(k) << 19)

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
	uint32_t roots;             /* W: how many references vCPUs hold on it as a root */
	uint64_t generation;        /* c: the page is obsolete when the MMU has another one (P3) */
	struct shadow *hash_next;   /* W */
	struct list link;           /* W: shadow_mmu.pages, oldest first */
	struct rmap parents;        /* W: the entries that point here (F26) */
	struct table *shadowed;     /* c: the gfns of the leaves, one in each entry (F28); NULL in a direct page */
	bool invalid;               /* a: set once, when it is zapped; while `roots` is not 0 the page stays */
	bool unsync;                /* a, written under W: the guest may write its table without a fault (F29, P8) */
	uint32_t unsync_children;   /* a, written under W: the number of bits set in unsync_map */
	uint32_t writes;            /* a: writes to the guest table since a fault last went through it (F42) */
	uint64_t unsync_map[(ENTRIES + 63) / 64]; /* W: entries with something unsync below */
	struct port_rcu_head rcu;
	struct vm *vm;              /* c */
};

struct shadow_mmu {
	struct shadow **hash;       /* allocated with the first root (P1) */
	struct list pages;          /* W: all valid pages, oldest first */
	uint64_t generation;        /* W; vCPUs read it under mmu_lock for read, or without a lock as a hint */
	uint64_t used, limit;       /* W; limit 0: the default */
	uint64_t indirect;          /* a. P4: the number of live pages that mirror guest tables (I4.3) */
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

/** Was the page zapped, or made before the last zap of everything (P3)? */
static inline bool shadow_is_obsolete(const struct vm *vm, const struct shadow *page)
{
	return load_relaxed(&page->invalid) || page->generation != load_relaxed(&vm->shadow->generation);
}

/**
 * A fault goes through the page, so its table is in use, and the writes to it so far were no flood (F42). A hypervisor
 * fills its guest's tables entry by entry, with a fault for each. Holds: mmu_lock.
 */
static inline void shadow_used(struct shadow *page)
{
	if (load_relaxed(&page->writes))
		store_relaxed(&page->writes, 0);
}

/** The gfn that a leaf of the page maps. */
static inline gfn_t shadow_entry_gfn(const struct shadow *page, unsigned index)
{
	if (page->shadowed)
		return GFN(table_entries(page->shadowed)[index]);
	return GFN(page->gfn.v + index * level_pages(role_level(page->role)));
}

/* --- pages (page.c) --- */

/**
 * The page for (gfn, role), found or made. The caches must hold one page and two tables.
 * After: if it was made for a guest table, P4's shadow side is done (account_shadowed).
 */
struct shadow *shadow_get(struct mmu_token *token, struct shadow_vcpu *sv, struct table_cache *tables, gfn_t gfn,
                          uint32_t role);
struct shadow *shadow_find(struct vm *vm, gfn_t gfn, uint32_t role);
struct shadow **shadow_bucket(struct vm *vm, gfn_t gfn);

/**
 * The next valid page after `page` (NULL to begin) that mirrors the guest table `gfn`, in any address space (zoo 5).
 * `page` itself may have been zapped since: it stays until the flush, and left its chain after those below it did.
 */
struct shadow *shadow_next_of(struct vm *vm, gfn_t gfn, struct shadow *page);

/**
 * Unlink the page from everything, and free it after the flush. A page that is in use as a root stays, invalid, until
 * its last reference is put. Pages of guest mode that lose their last parent go, too (N6).
 */
void shadow_zap(struct mmu_token *token, struct shadow *page);
/** Drop a root reference. */
void shadow_root_put(struct mmu_token *token, struct shadow *page);
/** Drop the vCPU's current root, which is of no use any more: the vCPU loads another before it enters the guest. */
void shadow_root_lost(struct mmu_token *token, struct shadow_vcpu *sv);

/* --- entries (entry.c) --- */

/**
 * Clear an entry of any kind, take it off its rmap or its child's parents, and count. Leaves a flush pending if
 * hardware may have used the entry. Zaps a child that is left behind (N6).
 */
void entry_zap(struct mmu_token *token, struct shadow *page, spte_t *entry);
/** Point an empty entry to a child. */
void entry_link(struct mmu_token *token, struct shadow_vcpu *sv, struct shadow *page, spte_t *entry,
                struct shadow *child);
/* A leaf, and the guest frame that it maps (F28). */
struct leaf {
	spte_t spte;
	gfn_t gfn;
};
/**
 * Store a leaf in an empty entry, and add it to its rmap. With mmu_lock held for write, also over an MMIO entry, or
 * over a leaf of the same frame to change its rights. `slot`: the gfn's slot; NULL for an MMIO entry. Both `slot` and
 * `sv` may be NULL when the entry surely holds a leaf.
 * Returns: true when there is one leaf more, which the caller counts (leaves_count). With mmu_lock held for read also
 * false when another fault filled the entry first.
 */
bool entry_set_leaf(struct mmu_token *token, struct shadow_vcpu *sv, const struct memslot *slot, struct shadow *page,
                    spte_t *entry, const struct leaf *leaf);
/** Count leaves of `level`: so many more, or fewer. */
void leaves_count(struct mmu_token *token, int level, int64_t change);
/** Take W from a leaf; hardware may set A and D in it meanwhile. Returns: true when the leaf had W (flush owed). */
static inline bool entry_write_protect(spte_t *entry)
{
	spte_t old = load_relaxed(entry);

	while (old & VMMU_NPT_W)
		if (cas_acqrel(entry, &old, old & ~VMMU_NPT_W))
			return true;
	return false;
}

/** Take W from every leaf of gfn in one address space's slot. Returns: true when a leaf had it and a flush is owed. */
bool gfn_write_protect(struct mmu_token *token, const struct memslot *slot, gfn_t gfn, int min_level);

/* --- unsync (sync.c, P8) --- */

/**
 * May gfn be mapped writable? With `can_unsync`, marks pages that mirror it unsync where that is enough to allow it.
 * Returns: false when it must stay read-only.
 */
bool gfn_try_unsync(struct mmu_token *token, const struct memslot *slot, gfn_t gfn, bool can_unsync);
/** Bring one unsync page up to date with the guest's table. */
void shadow_sync_page(struct mmu_token *token, const struct guest_reader *reader, struct shadow *page);
/** Bring all unsync pages at or below `page` up to date with the guest's tables. Does not yield. */
void shadow_sync_below(struct mmu_token *token, const struct guest_reader *reader, struct shadow *page);
/** Mark the page unsync, and in its ancestors the way to it. */
void shadow_unsync_mark(struct shadow *page);
void shadow_unsync_clear(struct shadow *page);

/** The index of the guest's entry that entry `index` of a 4K-level page mirrors. */
static inline unsigned guest_entry_index(const struct shadow *page, unsigned index)
{
	return page->role & ROLE_FOUR_BYTE ? role_quadrant(page->role) * ENTRIES + index : index;
}

/** The rights of the path and of the guest's 4K entry together; no write right before the guest's D bit is set. */
static inline unsigned guest_entry_leaf_rights(const struct guest_mode *mode, const struct shadow *page, uint64_t value)
{
	unsigned rights = role_rights(page->role) & guest_entry_rights(mode, value);

	return guest_entry_is_dirty(mode, value) ? rights : rights & ~ACC_WRITE;
}

/* --- prefetch (prefetch.c, F44) --- */

/** Map up to seven neighbours of the leaf that `fault` has put at page->spt[index], of a 4K-level page. */
void shadow_prefetch(struct mmu_token *token, struct shadow_vcpu *sv, struct shadow *page, unsigned index,
                     const struct shadow_fault *fault);

/** The SPTE of a leaf. `rights`: the guest's, less what logging or shadowing forbids. */
spte_t shadow_make_leaf(struct vm *vm, pfn_t pfn, int level, unsigned rights, unsigned key, bool host_writable,
                        bool young);

/** Count a page's guest table as shadowed: no huge leaf may map it, and above 4K level no writable leaf (F39). P4 */
void account_shadowed(struct mmu_token *token, struct shadow *page);
void unaccount_shadowed(struct shadow *page);

/**
 * The slot of gfn in an address space's active set, if it has arrays. Holds: mmu_lock, which keeps the slot: a slot
 * change zaps under mmu_lock for write before its slot goes.
 */
const struct memslot *slot_of_gfn(struct vm *vm, unsigned as_id, gfn_t gfn);

static inline struct rmap *gfn_rmap(const struct memslot *slot, gfn_t gfn, int level)
{
	return &slot->arrays->rmap[level - 1][slot_block(slot, gfn, level)];
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The shadow MMU: tables from guest virtual to host physical addresses, kept true to the guest's own tables (P1,
 * P2, P3, P4, P8).
 *
 * A shadow page mirrors one guest table, or stands for part of a guest's large page ("direct"). It is found by
 * (gfn, role), and many parents may point to one page. All changes are made under mmu_lock for write, with two
 * exceptions: Accessed bits change without it (P2), and shadow_map_beside fills empty entries under it for read.
 */
#ifndef CORE_SHADOW_SHADOW_H
#define CORE_SHADOW_SHADOW_H

#include <vmmu/mmu.h>

#include "core/guest/mode.h"
#include "core/guest/walk.h"
#include "core/memslot/memslot.h"
#include "core/sync/vm.h"
#include "core/table/fault.h"
#include "core/table/table.h"

struct shadow;     /* one shadow page */
struct shadow_mmu; /* all of a VM's */
struct rmap;

enum vmmu_status shadow_init(struct vm *vm);
/** Free all pages. No vCPU is left. Holds: slots_lock. */
void shadow_fini(struct vm *vm);

/* --- what a vCPU keeps: its thread, outside the guest --- */

/* Objects set aside before mmu_lock is taken. */
#define SHADOW_CACHE_MAX 24
struct shadow_cache {
	void *object[SHADOW_CACHE_MAX];
	unsigned count;
};

struct shadow_root {
	uint64_t cr3;           /* the base in CR3, that it was loaded for */
	uint32_t role;
	struct shadow *page[4]; /* [0] only, or one for each PDPTE; a reference on each; NULL: none there */
	bool behind;            /* cached while the guest flushed all contexts: sync it when it is current again (P8) */
	bool valid;             /* loaded, perhaps without pages: the guest's root may lie outside memory (F32) */
};

#define SHADOW_PREVIOUS 3

struct shadow_vcpu {
	struct vmmu_guest_regs regs;          /* with guest_mode: what says how L1's nested table is read */
	bool guest_mode;                      /* c: for L1's nested table; an L2 physical address is a gva */
	unsigned ept;                         /* the control bits of L1's EPT pointer; 0: its table is NPT */
	unsigned as_id;                       /* the address space that `role` is for */
	struct guest_mode mode;
	uint32_t role;                        /* what all pages of this mode have in common */
	struct shadow_root root;
	struct shadow_root previous[SHADOW_PREVIOUS]; /* for fast CR3 switches (F33) */
	/* What hardware starts from when that is no shadow page: PDPTEs, or nothing. NULL before the first root. */
	struct table *top;
	struct shadow_cache rmaps, pages;
	struct rmap *crowded;                 /* a frame that this fault found to have too many leaves; NULL: none */
};

/** Free it, after all its roots were dropped. NULL: nothing to do. */
void shadow_vcpu_fini(struct vm *vm, struct shadow_vcpu *sv);

/* --- roots (root.c) --- */

/**
 * Derive the mode from sv->regs and sv->ept. Returns: true when tables now have another number of levels: then no root
 * that was loaded before is of use. If only the role has changed, roots of the old role stay cached.
 */
bool shadow_mode_set(struct shadow_vcpu *sv, unsigned as_id);

/**
 * Make sv->root the root for the current CR3 and mode: the current one, a previous one, or a new one. The caller
 * syncs it if it is `behind` (P8). Sleeps, allocates. Returns: VMMU_ENOMEM.
 */
enum vmmu_status shadow_root_load(struct vm *vm, struct shadow_vcpu *sv, struct table_cache *tables, unsigned id);

/** Put the current root: what it was loaded for has changed under the same CR3. */
void shadow_root_forget(struct vm *vm, struct shadow_vcpu *sv);

/** The table that hardware starts from, and its level. Call it after shadow_root_load. */
const spte_t *shadow_root_entries(const struct shadow_vcpu *sv, unsigned *levels);

/** Put roots: all of them, or only obsolete ones (P3). */
void shadow_roots_drop(struct vm *vm, struct shadow_vcpu *sv, bool only_obsolete);

/** Must the root be replaced before the guest runs on it? Lockless; asked again under the lock. */
bool shadow_root_is_obsolete(const struct vm *vm, const struct shadow_root *root);

/** Bring every unsync page under the current root up to date (P8): at a CR3 load or a flush by the guest. */
void shadow_sync_roots(struct vm *vm, struct shadow_vcpu *sv, unsigned as_id);

/** The guest flushed all contexts, not only the current one. */
void shadow_flushed_all(struct shadow_vcpu *sv);

/**
 * INVLPG (F35): drop what unsync pages say of gva, in the current root and in previous ones. Holds: SRCU read side.
 */
void shadow_invlpg(struct vm *vm, struct shadow_vcpu *sv, gva_t gva);

/* --- faults (fetch.c) --- */

struct shadow_fault {
	struct fault common;  /* its gfn is the one that the walk of the guest's tables found */
	gva_t gva;
	uint64_t error;
	uint32_t pkru;
	const struct guest_reader *reader;
	struct guest_walk walk;
};

/**
 * Install the translation beside other faults, if its tables exist and only an empty 4K entry is to be filled. KVM
 * has no such thing. Holds: mmu_lock read; the caller made the stale check.
 *
 * All other changes are for holders of mmu_lock for write, so none of them is made meanwhile: making pages, marking
 * them unsync, changing or removing entries. The same goes for what follows a store to a guest table on behalf of
 * the guest (P4). The store itself comes before that. If the guest's entries that are read again here are as before
 * the store, its lock section clears what was made of them. Otherwise they are as after it.
 */
enum map_result shadow_map_beside(struct mmu_read *token, struct shadow_vcpu *sv, struct shadow_fault *fault);

/** Install the translation. Holds: mmu_lock write; the caller made the stale check after shadow_make_room. */
enum map_result shadow_map(struct mmu_write *token, struct shadow_vcpu *sv, struct shadow_fault *fault,
                           struct table_cache *tables);

/** The host addresses that shadow_map may map some of: those that fault->common.page is an answer for. */
void shadow_fault_host_range(const struct shadow_fault *fault, hva_t *start, hva_t *end);

/**
 * Zap all leaves of the frame that the fault found to have too many, including the fault's own leaf.
 * Holds: mmu_lock write, and still the SRCU read section of the fault.
 */
void shadow_rmap_recycle(struct mmu_write *token, struct shadow_vcpu *sv);

/** Fill the caches for one shadow_map. Returns: false when the host has no memory. */
bool shadow_caches_fill(struct vm *vm, struct shadow_vcpu *sv, struct table_cache *tables);

/**
 * Zap the oldest pages until what one fault needs fits under the limit (F62). Yields after a page when others wait.
 * Holds: mmu_lock write.
 */
void shadow_make_room(struct mmu_write *token);

/* --- writes to guest tables (write.c) --- */

/**
 * The hypervisor wrote [gpa, gpa + bytes) of guest memory on the guest's behalf (F41, P4). Call it after the store.
 * Takes mmu_lock only if a table may be hit. Cost in a VM that never shadows: one look.
 */
void shadow_track_write(struct vm *vm, gpa_t gpa, unsigned bytes);

/**
 * Drop every shadow page of a guest table, so that it can be written (F43). Returns: true when there was one.
 * Holds: SRCU read side.
 */
bool shadow_unprotect(struct vm *vm, gfn_t gfn);

/* --- ranges of a slot, through its rmaps (range.c); no effect before the first shadow root (P1) --- */

/**
 * Functions that hold mmu_lock yield it when others wait, except shadow_write_protect_mask.
 * Holds: what keeps the slot (slots_lock, or the gate). Cost: the leaves in the range.
 */
void shadow_zap_range(struct mmu_write *token, const struct memslot *slot, gfn_t first, gfn_t end);
void shadow_write_protect(struct mmu_write *token, const struct memslot *slot, gfn_t first, gfn_t end);
void shadow_write_protect_mask(struct mmu_write *token, const struct memslot *slot, gfn_t base, uint64_t mask);
/** Zap small leaves that may be huge again, after logging. */
void shadow_zap_collapsible(struct mmu_write *token, const struct memslot *slot);
/** P2. Takes no mmu_lock. Holds: SRCU read side. */
bool shadow_age(struct vm *vm, const struct memslot *slot, gfn_t first, gfn_t end, bool clear);

/* --- everything (page.c, P3) --- */

/** P3, front half, in one lock section with that of TDP and with the request. Holds: slots_lock, mmu_lock write. */
void shadow_obsolete_all(struct mmu_write *token);
/** P3, back half: zap what is obsolete, oldest first. Yields. */
void shadow_zap_obsolete(struct mmu_write *token);

/**
 * The user's limit on shadow pages (KVM_SET_NR_MMU_PAGES); 0: the default, 2 % of guest memory. Holds: slots_lock.
 * Returns: VMMU_OK, VMMU_EINVAL in a VM that never shadows.
 */
enum vmmu_status shadow_limit_set(struct vm *vm, uint64_t pages);

#endif

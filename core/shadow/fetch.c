/* SPDX-License-Identifier: MIT */
/*
 * A fault on the shadow tables that is not the guest's own. Going down from the root, beside the guest's tables, each
 * shadow page that is missing is made, and at the end the leaf is put in.
 *
 *     guest:   CR3 -> PML4 --> PDPT ---> PD ----> large page
 *     shadow:  root = (PML4) > (PDPT) -> (PD) --> (direct) -> leaf
 */
#include "core/shadow/shadow_int.h"

static unsigned shadow_index(gva_t gva, int level)
{
	return gva.v >> (PAGE_SHIFT + (level - 1) * LEVEL_BITS) & (ENTRIES - 1);
}

static struct shadow *root_page(const struct shadow_vcpu *sv, gva_t gva)
{
	return sv->mode.levels >= 4 ? sv->root.page[0] : sv->root.page[gva.v >> 30 & 3];
}

/* P4, P8: is the guest's entry still what the walk saw? Call after its table was shadowed and write-protected. */
static bool entry_is_unchanged(const struct shadow_fault *fault, int level)
{
	const struct guest_walk *walk = &fault->walk;
	uint64_t value;

	if (level < walk->level || level > walk->levels)
		return true;
	return port_load_from_host(walk->hva[level - 1].v, guest_entry_bytes(fault->reader->mode), &value) &&
	       value == walk->value[level - 1];
}

/* A page whose guest entry is clean is mapped read-only, so that the first write faults and sets the entry's D bit. */
static unsigned leaf_rights(const struct guest_walk *walk)
{
	return walk->dirty ? walk->rights[walk->level - 1] : walk->rights[walk->level - 1] & ~ACC_WRITE;
}

/*
 * The (gfn, role) of the page that belongs below the entry at `level`: the shadow of the guest's next table, or a
 * piece of a large page. Both depend only on the guest's tables, not on the kind of access. One instruction may
 * fetch, read and write in the same large page, and needs all of that mapped at once: its faults must agree on the
 * child.
 */
static void child_identity(const struct shadow_vcpu *sv, const struct shadow_fault *fault, int level, gfn_t *gfn,
                           uint32_t *role)
{
	const struct guest_walk *walk = &fault->walk;

	*role = sv->role | ROLE_LEVEL(level - 1);
	if (level > walk->level) {
		*gfn = walk->table[level - 2];
		*role |= ROLE_RIGHTS(walk->rights[level - 1]);
		if (*role & ROLE_FOUR_BYTE)
			*role |= ROLE_QUADRANT(shadow_index(fault->gva, level) & 1);
	} else {
		*gfn = gfn_round(walk->gfn, level);
		*role |= ROLE_DIRECT | ROLE_RIGHTS(leaf_rights(walk)) | ROLE_KEY(walk->key) |
		         (walk->dirty ? ROLE_DIRTY : 0);
	}
}

/* The child that the entry leads to. NULL when there is none, or when its gfn or role is another one (F25). */
static struct shadow *child_there(const spte_t *entry, int level, gfn_t gfn, uint32_t role)
{
	spte_t spte = load_relaxed(entry);
	struct shadow *child;

	if (!spte_is_table(spte, level))
		return NULL;
	child = shadow_of(port_pfn_to_ptr(spte_pfn(spte).v));
	return child->gfn.v == gfn.v && child->role == role ? child : NULL;
}

/* The child with this gfn and role, which is found or made if the entry does not lead to it yet. */
static struct shadow *child_get(struct mmu_token *token, struct shadow_vcpu *sv, const struct guest_reader *reader,
                                struct shadow *page, spte_t *entry, struct table_cache *tables, gfn_t gfn,
                                uint32_t role)
{
	struct shadow *child = child_there(entry, role_level(page->role), gfn, role);

	if (child)
		return child;
	if (load_relaxed(entry))
		entry_zap(token, page, entry);
	child = shadow_get(token, sv, tables, gfn, role);
	/* Sync the child before it is linked, or the guest would reach old translations by a new way (zoo 14). */
	if (child->unsync || child->unsync_children)
		shadow_sync_below(token, reader, child);
	entry_link(token, sv, page, entry, child);
	return child;
}

static int leaf_level(struct vm *vm, const struct shadow_fault *fault, const struct shadow *root)
{
	const struct guest_walk *walk = &fault->walk;
	const struct memslot *slot = fault->common.slot;
	int level;

	if (!slot || slot->flags & VMMU_SLOT_LOG_DIRTY)
		return 1;
	level = memslot_max_level(slot, walk->gfn);
	if (level > (int)fault->common.page.max_level)
		level = fault->common.page.max_level;
	if (level > walk->level)
		level = walk->level;
	if (level > role_level(root->role))
		level = role_level(root->role);
	/* No huge leaf over a shadowed table: the table's frame could not be write-protected alone (F20). */
	while (level > 1 && shadow_mirrors_block(vm, walk->gfn, level))
		level--;
	return level;
}

/*
 * With CR0.WP = 0 a supervisor may write a page that its W bits or its protection key make read-only. Our CPU runs
 * with WP = 1. So the page is mapped writable and for the supervisor only; when a user accesses it, that fault maps
 * it for users again, read-only. A page that was a user's must not become executable for a supervisor under SMEP. A
 * page that was the supervisor's before stays executable: otherwise a fetch and a write would undo each other's
 * mapping for ever.
 */
static bool write_against_rights(const struct shadow_vcpu *sv, const struct shadow_fault *fault)
{
	const struct guest_walk *walk = &fault->walk;
	bool key_denies = sv->mode.pke && (walk->rights[walk->level - 1] & ACC_USER) &&
	                  (fault->pkru >> (2 * walk->key) & 2);

	/* Not for MMIO, which is never mapped: other rights would gain nothing there. */
	return fault->common.slot && (fault->error & VMMU_PF_WRITE) && !(fault->error & VMMU_PF_USER) && !sv->mode.wp &&
	       sv->mode.levels && (!(walk->rights[walk->level - 1] & ACC_WRITE) || key_denies);
}

/*
 * SMAP and protection keys protect users' pages only. Mapped as the supervisor's (see above), the page would escape
 * them, and the guest relies on them: the write is emulated instead.
 */
static bool must_emulate(const struct shadow_vcpu *sv, const struct shadow_fault *fault)
{
	return write_against_rights(sv, fault) && (sv->mode.smap || sv->mode.pke);
}

static unsigned rights_for(const struct shadow_vcpu *sv, const struct shadow_fault *fault)
{
	const struct guest_walk *walk = &fault->walk;
	unsigned rights = walk->rights[walk->level - 1];

	if (write_against_rights(sv, fault)) {
		if (sv->mode.smep && (rights & ACC_USER))
			rights &= ~ACC_EXEC;
		return (rights | ACC_WRITE) & ~ACC_USER;
	}
	return leaf_rights(walk);
}

/* The leaf for the fault: the first gfn of the block that it maps, and the SPTE. */
static struct leaf leaf_make(struct vm *vm, const struct shadow_fault *fault, int level, unsigned rights)
{
	gfn_t gfn = gfn_round(fault->walk.gfn, level);
	pfn_t pfn = PFN(fault->common.page.pfn.v - (fault->walk.gfn.v - gfn.v));
	bool writable = fault->common.page.writable && !(fault->common.slot->flags & VMMU_SLOT_READONLY);

	return (struct leaf){ shadow_make_leaf(vm, pfn, level, rights, fault->walk.key, writable, true), gfn };
}

static void mmio_put(struct mmu_token *token, struct shadow_vcpu *sv, struct shadow *page, spte_t *entry,
                     const struct shadow_fault *fault)
{
	struct leaf leaf = { .gfn = gfn_round(fault->walk.gfn, role_level(page->role)) };

	if (spte_is_present(load_relaxed(entry)))
		entry_zap(token, page, entry); /* never overwrite a present leaf (zoo 3) */
	leaf.spte = spte_make_mmio(token->vm->fmt, token->vm->mmio_guard, leaf.gfn, fault->common.generation);
	entry_set_leaf(token, sv, NULL, page, entry, &leaf);
}

static enum map_result leaf_put(struct mmu_token *token, struct shadow_vcpu *sv, struct shadow *page, spte_t *entry,
                                   const struct shadow_fault *fault, unsigned rights)
{
	const struct memslot *slot = fault->common.slot;
	int level = role_level(page->role);
	bool write = fault->error & VMMU_PF_WRITE, emulate = false;
	spte_t old = load_relaxed(entry);
	struct leaf leaf;

	if (rights & ACC_WRITE) {
		/*
		 * In a logged slot the leaf is writable only for a write, which the caller then marks. A frame that
		 * holds a shadowed table may be writable only if the pages that mirror it can go unsync.
		 */
		if ((slot->flags & VMMU_SLOT_LOG_DIRTY) && !write)
			rights &= ~ACC_WRITE;
		else if (!gfn_try_unsync(token, slot, fault->walk.gfn, true)) {
			rights &= ~ACC_WRITE;
			emulate = write;
		}
	}
	leaf = leaf_make(token->vm, fault, level, rights);
	/* Zap what the leaf may not overwrite: a table, or a leaf of another frame or another gfn (zoo 3). */
	if (old && (!spte_is_leaf(old, level) || spte_pfn(old).v != spte_pfn(leaf.spte).v ||
	            shadow_entry_gfn(page, entry_index_of(page, entry)).v != leaf.gfn.v)) {
		entry_zap(token, page, entry);
		old = 0;
	}
	if ((old | VMMU_NPT_A | VMMU_NPT_D) == (leaf.spte | VMMU_NPT_A | VMMU_NPT_D))
		return emulate ? RET_PF_EMULATE : RET_PF_SPURIOUS;
	if (entry_set_leaf(token, sv, slot, page, entry, &leaf))
		leaves_count(token, level, 1);
	return emulate ? RET_PF_EMULATE : RET_PF_FIXED;
}

/*
 * Put a leaf in an empty entry, beside other faults. Returns: RET_PF_ALONE when the entry is not empty, or when a
 * page would have to be marked unsync: these need mmu_lock for write.
 */
static enum map_result leaf_put_beside(struct mmu_token *token, struct shadow_vcpu *sv, struct shadow *page,
                                          spte_t *entry, const struct shadow_fault *fault, unsigned rights)
{
	const struct memslot *slot = fault->common.slot;
	struct leaf leaf;

	if (load_relaxed(entry))
		return RET_PF_ALONE;
	if (rights & ACC_WRITE) {
		if ((slot->flags & VMMU_SLOT_LOG_DIRTY) && !(fault->error & VMMU_PF_WRITE))
			rights &= ~ACC_WRITE;
		else if (!gfn_try_unsync(token, slot, fault->walk.gfn, false))
			return RET_PF_ALONE;
	}
	leaf = leaf_make(token->vm, fault, 1, rights);
	if (!entry_set_leaf(token, sv, slot, page, entry, &leaf))
		return RET_PF_SPURIOUS; /* another vCPU filled the entry first: this one runs the instruction again */
	leaves_count(token, 1, 1);
	return RET_PF_FIXED;
}

enum map_result shadow_map_beside(struct mmu_read *read, struct shadow_vcpu *sv, struct shadow_fault *fault)
{
	struct mmu_token *token = &read->token;
	struct shadow *page = root_page(sv, fault->gva);
	unsigned rights = rights_for(sv, fault);
	spte_t *entry;

	if (!page || !fault->common.slot || must_emulate(sv, fault) || leaf_level(token->vm, fault, page) > 1)
		return RET_PF_ALONE;
	for (int level = role_level(page->role); entry_is_unchanged(fault, level); level--) {
		enum map_result result;
		uint32_t role;
		gfn_t gfn;

		shadow_used(page);
		entry = &page->spt[shadow_index(fault->gva, level)];
		if (level == 1) {
			result = leaf_put_beside(token, sv, page, entry, fault, rights);
			if (result == RET_PF_FIXED)
				shadow_prefetch(token, sv, page, entry_index_of(page, entry), fault);
			return result;
		}
		child_identity(sv, fault, level, &gfn, &role);
		page = child_there(entry, level, gfn, role);
		if (!page)
			return RET_PF_ALONE;
	}
	return RET_PF_RETRY;
}

enum map_result shadow_map(struct mmu_write *write, struct shadow_vcpu *sv, struct shadow_fault *fault,
                           struct table_cache *tables)
{
	struct mmu_token *token = &write->token;
	struct shadow *page = root_page(sv, fault->gva);
	unsigned rights = rights_for(sv, fault);
	enum map_result result;
	int target;

	if (!page) {
		shadow_root_lost(token, sv); /* the guest's root lay outside memory when it was loaded (F32) */
		return RET_PF_RETRY;
	}
	if (must_emulate(sv, fault))
		return RET_PF_EMULATE;
	target = leaf_level(token->vm, fault, page);
	if (!entry_is_unchanged(fault, role_level(page->role)))
		return RET_PF_RETRY;
	for (int level = role_level(page->role);; level--) {
		spte_t *entry = &page->spt[shadow_index(fault->gva, level)];
		uint32_t role;
		gfn_t gfn;

		shadow_used(page);
		if (level == target && !fault->common.slot) {
			mmio_put(token, sv, page, entry, fault);
			return RET_PF_FIXED;
		}
		if (level == target) {
			result = leaf_put(token, sv, page, entry, fault, rights);
			if (result == RET_PF_FIXED && level == 1)
				shadow_prefetch(token, sv, page, entry_index_of(page, entry), fault);
			return result;
		}
		child_identity(sv, fault, level, &gfn, &role);
		page = child_get(token, sv, fault->reader, page, entry, tables, gfn, role);
		if (!entry_is_unchanged(fault, level - 1))
			return RET_PF_RETRY;
	}
}

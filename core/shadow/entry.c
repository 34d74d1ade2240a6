/* SPDX-License-Identifier: MIT */
/*
 * Entries of shadow pages: what may stand in them, and the records (rmaps, parents, counters) that follow every
 * change. All functions here hold mmu_lock for write, except that a leaf may be put in an empty entry with mmu_lock
 * held for read.
 */
#include "core/shadow/shadow_int.h"

#include "core/base/assert.h"

void leaves_count(struct mmu_token *token, int level, int64_t change)
{
	uint64_t *pages = &token->vm->count[token->stripe].pages[level - 1];

	/* Nobody else counts while mmu_lock is held for write, so no locked instruction is needed. */
	if (token->write)
		store_relaxed(pages, load_relaxed(pages) + (uint64_t)change);
	else
		add_relaxed(pages, (uint64_t)change);
}

static void desc_free(struct vm *vm, struct rmap_desc *desc)
{
	/* No aging walk still reads it: rmap_remove took it off the chain while it held the lock bit (I2.3). */
	vm_free(vm, desc, sizeof(*desc));
}

/* The rmap of a leaf. NULL: its slot has gone in the meantime, and with it the arrays that hold the rmap. */
static struct rmap *leaf_rmap(struct shadow *page, unsigned index)
{
	gfn_t gfn = shadow_entry_gfn(page, index);
	const struct memslot *slot = slot_of_gfn(page->vm, role_as_id(page->role), gfn);

	return slot ? gfn_rmap(slot, gfn, role_level(page->role)) : NULL;
}

static void rmap_drop(struct vm *vm, struct rmap *rmap, spte_t *entry)
{
	bool found;
	struct rmap_desc *desc = rmap_remove(rmap, entry, &found);

	VM_BUG(vm, !found); /* I2.5: the entry was added under one gfn, and is removed under another (zoo 1) */
	if (desc)
		desc_free(vm, desc);
}

static void leaf_zapped(struct mmu_token *token, struct shadow *page, spte_t *entry)
{
	struct rmap *rmap = leaf_rmap(page, entry_index_of(page, entry));

	if (!VM_BUG(token->vm, !rmap))
		rmap_drop(token->vm, rmap, entry);
	leaves_count(token, role_level(page->role), -1);
	token->flush = true;
}

static void unsync_bit_clear(struct shadow *page, unsigned index)
{
	if (!(page->unsync_map[index / 64] & BIT(index % 64)))
		return;
	page->unsync_map[index / 64] &= ~BIT(index % 64);
	/* release: for the reason given in shadow_unsync_clear; pairs with root_is_unsync, P8 */
	store_release(&page->unsync_children, page->unsync_children - 1);
}

/*
 * If nothing at or below the page is unsync any more, clear the bits in its ancestors that lead to it. A bit that
 * stays would make every flush of the guest search this path.
 */
static void path_clear(struct shadow *page)
{
	struct rmap_iter iter;
	spte_t *parent;

	if (page->unsync || page->unsync_children)
		return;
	rmap_for_each(parent, &page->parents, &iter) {
		unsync_bit_clear(shadow_of(parent), entry_index_of(shadow_of(parent), parent));
		path_clear(shadow_of(parent));
	}
}

/*
 * N6: L1 takes a frame that was a nested table for something else, and nobody would ever ask for its mirror again: to
 * leave it there would write-protect the frame until the limit of shadow pages comes to it. What is obsolete is on its
 * way out already, page by page, with yields (P3).
 */
static bool is_left_behind(const struct vm *vm, const struct shadow *page)
{
	return (page->role & ROLE_GUEST_MODE) && !page->roots && !shadow_is_obsolete(vm, page) &&
	       !rmap_any(&page->parents);
}

void entry_zap(struct mmu_token *token, struct shadow *page, spte_t *entry)
{
	int level = role_level(page->role);
	/* One swap, so that no A or D bit is lost. The entry is cleared before its rmap record goes (P2). */
	spte_t old = swap_acqrel(entry, 0);

	if (spte_is_leaf(old, level)) {
		leaf_zapped(token, page, entry);
	} else if (spte_is_table(old, level)) {
		struct shadow *child = shadow_of(port_pfn_to_ptr(spte_pfn(old).v));

		rmap_drop(token->vm, &child->parents, entry);
		unsync_bit_clear(page, entry_index_of(page, entry));
		path_clear(page);
		token->flush = true;
		if (is_left_behind(token->vm, child))
			shadow_zap(token, child); /* as deep as there are levels */
	}
}

/* rmap_add, with a spare descriptor from the vCPU's cache. Returns: the number of entries on the chain now. */
static uint64_t rmap_add_from(struct shadow_vcpu *sv, struct rmap *rmap, spte_t *entry)
{
	struct rmap_desc *spare = sv->rmaps.object[sv->rmaps.count - 1];
	uint64_t count = rmap_add(rmap, entry, &spare);

	if (!spare)
		sv->rmaps.count--;
	return count;
}

/* Something at or below page->spt[index] is unsync: mark the way to it in the page and in every ancestor (P8). */
static void unsync_mark_path(struct shadow *page, unsigned index)
{
	struct rmap_iter iter;
	spte_t *parent;

	if (page->unsync_map[index / 64] & BIT(index % 64))
		return;
	page->unsync_map[index / 64] |= BIT(index % 64);
	store_relaxed(&page->unsync_children, page->unsync_children + 1);
	if (page->unsync_children > 1)
		return; /* the ancestors were marked with the first bit */
	rmap_for_each(parent, &page->parents, &iter)
		unsync_mark_path(shadow_of(parent), entry_index_of(shadow_of(parent), parent));
}

void shadow_unsync_mark(struct shadow *page)
{
	struct rmap_iter iter;
	spte_t *parent;

	/*
	 * release: a vCPU sees the mark before it sees the writable entry that lets the guest write its table. Pairs
	 * with shadow_sync_roots. P8
	 */
	store_release(&page->unsync, true);
	rmap_for_each(parent, &page->parents, &iter)
		unsync_mark_path(shadow_of(parent), entry_index_of(shadow_of(parent), parent));
}

void shadow_unsync_clear(struct shadow *page)
{
	/*
	 * release: a vCPU that sees the page in sync also sees its entries updated or gone. Pairs with
	 * root_is_unsync. P8
	 */
	store_release(&page->unsync, false);
	path_clear(page);
}

void entry_link(struct mmu_token *token, struct shadow_vcpu *sv, struct shadow *page, spte_t *entry,
                struct shadow *child)
{
	ASSERT(!load_relaxed(entry));
	rmap_add_from(sv, &child->parents, entry);
	/* release: the CPU's walk sees the child's contents before it sees the entry that leads to the child */
	store_release(entry, spte_make_table(token->vm->fmt, PFN(port_ptr_to_pfn(child->spt))));
	if (child->unsync || child->unsync_children)
		unsync_mark_path(page, entry_index_of(page, entry));
}

/* Does the change from old to spte take away a right that a TLB may still hold? A change of key counts, too. */
static bool stricter(spte_t old, spte_t spte)
{
	return (old & ~spte & (VMMU_NPT_W | VMMU_NPT_U)) || (spte & ~old & VMMU_NPT_NX) ||
	       ((old ^ spte) & BIT_MASK(62, 59));
}

/*
 * With mmu_lock held for read, several vCPUs may fill the same entry. The first compare-and-swap wins; the others do
 * not inspect what it wrote.
 */
static bool entry_fill(const struct mmu_token *token, spte_t *entry, spte_t spte)
{
	spte_t nothing = 0;

	if (!token->write)
		return cas_acqrel(entry, &nothing, spte);
	store_release(entry, spte);
	return true;
}

bool entry_set_leaf(struct mmu_token *token, struct shadow_vcpu *sv, const struct memslot *slot, struct shadow *page,
                    spte_t *entry, const struct leaf *leaf)
{
	int level = role_level(page->role);
	spte_t old = load_relaxed(entry);

	if (token->write && spte_is_present(old)) {
		/* Hardware may set A and D until the swap succeeds; the new entry, of the same frame, keeps them. */
		while (!cas_acqrel(entry, &old, leaf->spte | (old & (VMMU_NPT_A | VMMU_NPT_D))))
			continue;
		if (stricter(old, leaf->spte))
			token->flush = true;
		return false;
	}
	if (!entry_fill(token, entry, leaf->spte))
		return false;
	/* After the swap: only the vCPU that filled the entry notes its gfn. It is read under mmu_lock for write. */
	if (page->shadowed)
		table_entries(page->shadowed)[entry_index_of(page, entry)] = leaf->gfn.v;
	if (!spte_is_leaf(leaf->spte, level))
		return false; /* an MMIO entry maps nothing */
	slot_block_use(slot, leaf->gfn);
	if (rmap_add_from(sv, gfn_rmap(slot, leaf->gfn, level), entry) > RMAP_MOST)
		sv->crowded = gfn_rmap(slot, leaf->gfn, level);
	return true;
}

bool gfn_write_protect(struct mmu_token *token, const struct memslot *slot, gfn_t gfn, int min_level)
{
	struct rmap_iter iter;
	bool any = false;
	spte_t *entry;

	(void)token;
	for (int level = min_level; level <= ARRAY_LEVELS; level++)
		rmap_for_each(entry, gfn_rmap(slot, gfn, level), &iter)
			any |= entry_write_protect(entry);
	return any;
}

spte_t shadow_make_leaf(struct vm *vm, pfn_t pfn, int level, unsigned rights, unsigned key, bool host_writable,
                        bool young)
{
	bool writable = host_writable && (rights & ACC_WRITE);
	spte_t spte = spte_make_leaf(vm->fmt, pfn, level, host_writable, writable, young, false);

	if (!(rights & ACC_USER))
		spte &= ~VMMU_NPT_U;
	if (!(rights & ACC_EXEC))
		spte |= VMMU_NPT_NX;
	return spte | (spte_t)key << 59;
}

/* SPDX-License-Identifier: MIT */
/* Roots of the shadow MMU: found, cached over CR3 switches (F33), synced, dropped. */
#include "core/shadow/shadow_int.h"

#include "core/base/assert.h"

static uint32_t mode_role(const struct shadow_vcpu *sv)
{
	const struct guest_mode *mode = &sv->mode;
	uint32_t role = (sv->as_id ? ROLE_SMM : 0) | (sv->guest_mode ? ROLE_GUEST_MODE : 0);

	if (!mode->levels)
		return role | ROLE_NO_PAGING;
	if (sv->ept)
		role |= ROLE_EPT | (sv->ept & EPTP_AD ? ROLE_EPT_AD : 0);
	if (!mode->wide)
		role |= ROLE_FOUR_BYTE | (mode->pse ? ROLE_PSE : 0);
	if (mode->levels == 3)
		role |= ROLE_PAE;
	if (mode->nx)
		role |= ROLE_NX;
	if (mode->wp)
		role |= ROLE_WP;
	if (mode->smep && !mode->wp)
		role |= ROLE_SMEP_NOT_WP;
	if (mode->smap && !mode->wp)
		role |= ROLE_SMAP_NOT_WP;
	if (mode->pke)
		role |= ROLE_PKE;
	return role;
}

bool shadow_mode_set(struct shadow_vcpu *sv, unsigned as_id)
{
	uint8_t levels = sv->mode.levels;

	if (sv->ept)
		guest_mode_init_ept(&sv->mode, sv->ept, &sv->regs);
	else
		guest_mode_init(&sv->mode, &sv->regs);
	sv->as_id = as_id;
	sv->role = mode_role(sv);
	return sv->mode.levels != levels;
}

static uint64_t cr3_base(const struct shadow_vcpu *sv)
{
	return sv->mode.levels >= 4 ? sv->regs.cr3 & BIT_MASK(51, 12) :
	       sv->mode.levels == 3 ? sv->regs.cr3 & BIT_MASK(31, 5) :
	                              sv->regs.cr3 & BIT_MASK(31, 12);
}

bool shadow_root_is_obsolete(const struct vm *vm, const struct shadow_root *root)
{
	for (unsigned i = 0; i < 4; i++)
		if (root->page[i] && shadow_is_obsolete(vm, root->page[i]))
			return true;
	return false;
}

static void root_drop(struct mmu_token *token, struct shadow_root *root)
{
	for (unsigned i = 0; i < 4; i++)
		if (root->page[i])
			shadow_root_put(token, root->page[i]);
	*root = (struct shadow_root){ .valid = false };
}

void shadow_roots_drop(struct vm *vm, struct shadow_vcpu *sv, bool only_obsolete)
{
	struct mmu_write token = mmu_write_lock(vm);

	/* Ask each root, not only the current one (zoo 18). */
	if (!only_obsolete || shadow_root_is_obsolete(vm, &sv->root))
		root_drop(&token.token, &sv->root);
	for (unsigned i = 0; i < SHADOW_PREVIOUS; i++)
		if (!only_obsolete || shadow_root_is_obsolete(vm, &sv->previous[i]))
			root_drop(&token.token, &sv->previous[i]);
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
}

void shadow_root_lost(struct mmu_token *token, struct shadow_vcpu *sv)
{
	root_drop(token, &sv->root);
}

void shadow_root_forget(struct vm *vm, struct shadow_vcpu *sv)
{
	struct mmu_write token = mmu_write_lock(vm);

	shadow_root_lost(&token.token, sv);
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
}

/* --- loading --- */

static bool root_matches(const struct vm *vm, const struct shadow_root *root, const struct shadow_vcpu *sv)
{
	/*
	 * PDPTEs may change under the same CR3. Code that loads them forgets the root first, and a root that was
	 * made from them is not cached.
	 */
	return root->valid && root->cr3 == cr3_base(sv) && root->role == sv->role && !shadow_root_is_obsolete(vm, root);
}

/* Make a cached root current. The root that was current takes its place in the cache. */
static bool root_cached(struct vm *vm, struct shadow_vcpu *sv)
{
	struct shadow_root found;

	for (unsigned i = 0; i < SHADOW_PREVIOUS; i++) {
		if (!root_matches(vm, &sv->previous[i], sv))
			continue;
		found = sv->previous[i];
		for (; i > 0; i--)
			sv->previous[i] = sv->previous[i - 1];
		sv->previous[0] = sv->root;
		sv->root = found;
		return true;
	}
	return false;
}

static struct shadow *root_page_get(struct mmu_token *token, struct shadow_vcpu *sv, struct table_cache *tables,
                                    gfn_t gfn, uint32_t role)
{
	struct shadow *page;

	if (!(role & ROLE_DIRECT)) {
		const struct memslot *slot = memslot_find(memslots_current(token->vm, role_as_id(role)), gfn);

		if (!slot || (slot->flags & SLOT_INVALID))
			return NULL; /* outside memory, or in memory that is being removed: nothing is mapped (F32) */
	}
	page = shadow_get(token, sv, tables, gfn, role | ROLE_RIGHTS(ACC_ALL));
	page->roots++;
	return page;
}

static void root_make(struct mmu_token *token, struct shadow_vcpu *sv, struct table_cache *tables)
{
	struct shadow_root *root = &sv->root;
	uint32_t role = sv->role;

	root->cr3 = cr3_base(sv);
	root->role = role;
	root->valid = true;
	if (sv->mode.levels >= 4) {
		root->page[0] = root_page_get(token, sv, tables, GFN(root->cr3 >> PAGE_SHIFT),
		                              role | ROLE_LEVEL(sv->mode.levels));
		return;
	}
	/*
	 * Four pages of 1G each: for the tables of the four PDPTEs, for the quarters of one directory, or for
	 * physical memory itself.
	 */
	for (unsigned i = 0; i < 4; i++) {
		uint64_t pdpte = sv->regs.pdpte[i];

		if (sv->mode.levels == 3 && (pdpte & GPTE_P))
			root->page[i] = root_page_get(token, sv, tables, GFN((pdpte & BIT_MASK(51, 12)) >> PAGE_SHIFT),
			                              role | ROLE_LEVEL(2));
		else if (sv->mode.levels == 2)
			root->page[i] = root_page_get(token, sv, tables, GFN(root->cr3 >> PAGE_SHIFT),
			                              role | ROLE_LEVEL(2) | ROLE_QUADRANT(i));
		else if (sv->mode.levels == 0)
			root->page[i] = root_page_get(token, sv, tables, GFN((uint64_t)i << 18),
			                              role | ROLE_LEVEL(2) | ROLE_DIRECT | ROLE_DIRTY);
	}
}

static void top_make(struct vm *vm, struct shadow_vcpu *sv)
{
	spte_t *top = table_entries(sv->top);

	for (unsigned i = 0; i < 4; i++) {
		struct shadow *page = sv->mode.levels >= 4 ? NULL : sv->root.page[i];

		store_relaxed(&top[i], page ? spte_make_table(vm->fmt, PFN(port_ptr_to_pfn(page->spt))) : 0);
	}
}

/* Move the current root to the cache, in place of the oldest one there. */
static void root_retire(struct mmu_token *token, struct shadow_vcpu *sv)
{
	if (!sv->root.valid)
		return;
	root_drop(token, &sv->previous[SHADOW_PREVIOUS - 1]);
	for (unsigned i = SHADOW_PREVIOUS - 1; i > 0; i--)
		sv->previous[i] = sv->previous[i - 1];
	sv->previous[0] = sv->root;
	sv->root = (struct shadow_root){ .valid = false };
	if (sv->mode.levels < 4)
		root_drop(token, &sv->previous[0]);
}

enum vmmu_status shadow_root_load(struct vm *vm, struct shadow_vcpu *sv, struct table_cache *tables, unsigned id)
{
	struct srcu_read srcu;
	struct mmu_write token;
	enum vmmu_status status;

	/* Nearly always so. `top` was made for this root, and what it says has not changed since. */
	if (likely(root_matches(vm, &sv->root, sv)))
		return VMMU_OK;
	if (root_cached(vm, sv)) {
		top_make(vm, sv);
		return VMMU_OK;
	}
	srcu = srcu_read_lock(&vm->srcu, id);
	status = arrays_first_root(vm, srcu);
	if (status == VMMU_OK && !shadow_caches_fill(vm, sv, tables))
		status = VMMU_ENOMEM;
	if (status == VMMU_OK) {
		if (!sv->top)
			sv->top = table_get(tables);
		token = mmu_write_lock(vm);
		root_retire(&token.token, sv);
		shadow_make_room(&token);
		root_make(&token.token, sv, tables);
		mmu_flush(&token.token);
		mmu_write_unlock(&token);
		top_make(vm, sv);
	}
	srcu_read_unlock(&vm->srcu, srcu);
	return status;
}

const spte_t *shadow_root_entries(const struct shadow_vcpu *sv, unsigned *levels)
{
	*levels = sv->mode.levels >= 4 ? sv->mode.levels : 3;
	return sv->mode.levels >= 4 && sv->root.page[0] ? sv->root.page[0]->spt : table_entries(sv->top);
}

/* --- flushes by the guest --- */

static bool root_is_unsync(const struct shadow_root *root)
{
	for (unsigned i = 0; i < 4; i++)
		/*
		 * acquire: a page is marked unsync before its table becomes writable. If the guest wrote the table
		 * before this flush, the mark is seen here. Pairs with the release in shadow_unsync_mark. P8
		 */
		if (root->page[i] &&
		    (load_acquire(&root->page[i]->unsync) || load_acquire(&root->page[i]->unsync_children)))
			return true;
	return false;
}

void shadow_sync_roots(struct vm *vm, struct shadow_vcpu *sv, unsigned as_id)
{
	struct srcu_read srcu;
	struct mmu_write token;

	if (!root_is_unsync(&sv->root))
		return;
	srcu = srcu_read_lock(&vm->srcu, 0);
	token = mmu_write_lock(vm);
	{
		struct memslot_cache cache = { 0 };
		struct guest_reader reader = { &sv->mode, memslots_active(vm, as_id, srcu), &cache, vm, NULL };

		for (unsigned i = 0; i < 4; i++)
			if (sv->root.page[i] && !sv->root.page[i]->invalid)
				shadow_sync_below(&token.token, &reader, sv->root.page[i]);
	}
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
	srcu_read_unlock(&vm->srcu, srcu);
}

void shadow_flushed_all(struct shadow_vcpu *sv)
{
	for (unsigned i = 0; i < SHADOW_PREVIOUS; i++)
		sv->previous[i].behind = true;
}

/* Only an unsync page can differ from the guest's table. */
static void root_invlpg(struct mmu_token *token, const struct shadow_root *root, const struct guest_mode *mode,
                        gva_t gva)
{
	struct shadow *page = mode->levels >= 4 ? root->page[0] : root->page[gva.v >> 30 & 3];

	while (page && !page->invalid) {
		int level = role_level(page->role);
		spte_t *entry = &page->spt[gva.v >> (PAGE_SHIFT + (level - 1) * LEVEL_BITS) & (ENTRIES - 1)],
		       old = load_relaxed(entry);

		if (!spte_is_table(old, level)) {
			if (old && page->unsync)
				entry_zap(token, page, entry);
			return;
		}
		page = shadow_of(port_pfn_to_ptr(spte_pfn(old).v));
	}
}

void shadow_invlpg(struct vm *vm, struct shadow_vcpu *sv, gva_t gva)
{
	struct mmu_write token;
	bool unsync = root_is_unsync(&sv->root);

	for (unsigned i = 0; i < SHADOW_PREVIOUS; i++)
		unsync |= root_is_unsync(&sv->previous[i]);
	if (!unsync)
		return;
	token = mmu_write_lock(vm);
	root_invlpg(&token.token, &sv->root, &sv->mode, gva);
	/* Also roots of other roles: their tables have as many levels. */
	for (unsigned i = 0; i < SHADOW_PREVIOUS; i++)
		root_invlpg(&token.token, &sv->previous[i], &sv->mode, gva);
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
}

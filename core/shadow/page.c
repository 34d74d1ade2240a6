/* SPDX-License-Identifier: MIT */
/* Shadow pages: finding one by (gfn, role), making, zapping and freeing. */
#include "core/shadow/shadow_int.h"

#include "core/base/assert.h"

const struct memslot *slot_of_gfn(struct vm *vm, unsigned as_id, gfn_t gfn)
{
	const struct memslot *slot = memslot_find(memslots_current(vm, as_id), gfn);

	return slot && slot->arrays ? slot : NULL;
}

struct shadow **shadow_bucket(struct vm *vm, gfn_t gfn)
{
	return &vm->shadow->hash[(gfn.v * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - SHADOW_HASH_BITS)];
}

struct shadow *shadow_find(struct vm *vm, gfn_t gfn, uint32_t role)
{
	for (struct shadow *page = *shadow_bucket(vm, gfn); page; page = page->hash_next)
		if (page->gfn.v == gfn.v && page->role == role && !shadow_is_obsolete(vm, page))
			return page;
	return NULL;
}

struct shadow *shadow_next_of(struct vm *vm, gfn_t gfn, struct shadow *page)
{
	for (page = page ? page->hash_next : *shadow_bucket(vm, gfn); page; page = page->hash_next)
		if (page->gfn.v == gfn.v && !(page->role & ROLE_DIRECT))
			return page;
	return NULL;
}

/* --- what a shadowed table means for the mappings of its frame --- */

/*
 * Counts in the slot of the page's own address space only. gfn_try_unsync and shadow_mirrors_* ask the slots of all
 * address spaces (zoo 5), since a slot may appear in another one while the page exists.
 */
static void shadowed_count(const struct shadow *page, int change)
{
	const struct memslot *slot = slot_of_gfn(page->vm, role_as_id(page->role), page->gfn);
	struct slot_arrays *arrays;

	if (VM_BUG(page->vm, !slot))
		return;
	arrays = slot->arrays;
	for (int level = 2; level <= ARRAY_LEVELS; level++)
		arrays->no_huge[level - 2][slot_block(slot, page->gfn, level)] += change;
	if (role_level(page->role) > 1)
		arrays->tracked[page->gfn.v - slot->base.v] += change;
}

/*
 * P4, shadow side: count the page, full barrier, write-protect its frame in every address space (zoo 5) and in both
 * MMUs (N1), flush. After that the caller reads the guest's entries again. A store to the table is then either seen by
 * that reading, or the storing thread sees the count in shadow_track_write.
 */
void account_shadowed(struct mmu_token *token, struct shadow *page)
{
	struct vm *vm = token->vm;

	add_relaxed(&vm->shadow->indirect, 1);
	fence_full(); /* pairs with shadow_track_write, P4 */
	shadowed_count(page, 1);
	for (unsigned as_id = 0; as_id < vm->address_spaces; as_id++) {
		const struct memslot *slot = slot_of_gfn(vm, as_id, page->gfn);

		if (slot && gfn_write_protect(token, slot, page->gfn, 1))
			token->flush = true;
	}
	mirror_begins(token, page->gfn);
	mmu_flush(token);
}

void unaccount_shadowed(struct shadow *page)
{
	shadowed_count(page, -1);
	add_relaxed(&page->vm->shadow->indirect, -UINT64_C(1)); /* counting down needs no barrier (P4) */
}

/* Asks the slots first: where no table in 2 MiB is mirrored, the hash need not be searched. */
bool shadow_mirrors_gfn(struct vm *vm, gfn_t gfn)
{
	for (unsigned as_id = 0; as_id < vm->address_spaces; as_id++) {
		const struct memslot *slot = slot_of_gfn(vm, as_id, gfn);

		if (slot && slot->arrays->no_huge[0][slot_block(slot, gfn, 2)] && shadow_next_of(vm, gfn, NULL))
			return true;
	}
	return false;
}

bool shadow_mirrors_block(struct vm *vm, gfn_t gfn, int level)
{
	gfn_t block = gfn_round(gfn, level);

	for (unsigned as_id = 0; as_id < vm->address_spaces; as_id++) {
		const struct memslot *slot = slot_of_gfn(vm, as_id, block);

		if (slot && block.v + level_pages(level) <= slot->base.v + slot->npages) {
			if (slot->arrays->no_huge[level - 2][slot_block(slot, block, level)])
				return true;
		} else if (memslots_overlap(memslots_current(vm, as_id), block, level_pages(level), ~0u)) {
			return true; /* the block holds parts of slots: too rare to be worth a search */
		}
	}
	return false;
}

/* --- making --- */

static void shadow_retire(struct table *table);

/* What statistics tell of L2's tables. `change`: 1 or -1. */
static void nested_count(struct vm *vm, uint32_t role, uint64_t change)
{
	if (role & ROLE_GUEST_MODE)
		add_relaxed(&vm->stats.nested_tables, change);
}

static struct shadow *shadow_make(struct mmu_token *token, struct shadow_vcpu *sv, struct table_cache *tables,
                                  gfn_t gfn, uint32_t role)
{
	struct vm *vm = token->vm;
	struct shadow *page = sv->pages.object[--sv->pages.count], **bucket = shadow_bucket(vm, gfn);

	page->vm = vm;
	page->gfn = gfn;
	page->role = role;
	page->generation = vm->shadow->generation;
	page->table = table_get(tables);
	page->table->owner = page;
	page->table->retire = shadow_retire;
	page->table->level = role_level(role);
	page->spt = table_entries(page->table);
	if (!(role & ROLE_DIRECT))
		page->shadowed = table_get(tables);
	page->hash_next = *bucket;
	*bucket = page;
	list_add_tail(&vm->shadow->pages, &page->link);
	vm->shadow->used++;
	nested_count(vm, role, 1);
	add_relaxed(&vm->stats.nested_tables_allocated, role & ROLE_GUEST_MODE ? 1 : 0);
	if (!(role & ROLE_DIRECT))
		account_shadowed(token, page);
	return page;
}

struct shadow *shadow_get(struct mmu_token *token, struct shadow_vcpu *sv, struct table_cache *tables, gfn_t gfn,
                          uint32_t role)
{
	struct shadow *page = shadow_find(token->vm, gfn, role);

	if (!page)
		return shadow_make(token, sv, tables, gfn, role);
	shadow_used(page);
	return page;
}

/* --- going --- */

static void shadow_free_after_grace(struct port_rcu_head *rcu)
{
	struct shadow *page = container_of(rcu, struct shadow, rcu);

	table_free(page->table);
	if (page->shadowed)
		table_free(page->shadowed);
	vm_free(page->vm, page, sizeof(*page));
}

static void shadow_retire(struct table *table)
{
	struct shadow *page = table->owner;

	port_rcu_call(&page->rcu, shadow_free_after_grace);
}

static void shadow_bury(struct mmu_token *token, struct shadow *page)
{
	page->table->link.next = token->dead;
	token->dead = &page->table->link;
	token->flush = true; /* hardware may be walking it */
}

static void shadow_unhash(struct vm *vm, struct shadow *page)
{
	struct shadow **at = shadow_bucket(vm, page->gfn);

	while (*at != page)
		at = &(*at)->hash_next;
	*at = page->hash_next;
	list_remove(&page->link);
	vm->shadow->used--;
	nested_count(vm, page->role, -UINT64_C(1));
}

/* I3.2: a vCPU whose root became invalid loads another before it runs again. This request makes it do so. */
static void roots_request(struct vm *vm)
{
	unsigned limit = load_acquire(&vm->vcpus.limit);

	for (unsigned id = 0; id < limit; id++) {
		struct vcpu *vcpu = load_acquire(&vm->vcpus.by_id[id]);

		if (vcpu)
			vcpu_request(vcpu, REQ_FREE_OBSOLETE_ROOTS);
	}
}

void shadow_zap(struct mmu_token *token, struct shadow *page)
{
	spte_t *parent;

	ASSERT(token->write && !page->invalid);
	/* First: the page is about to lose its parents, and must not be zapped again for that (N6). */
	store_relaxed(&page->invalid, true);
	for (unsigned i = 0; i < ENTRIES; i++)
		if (load_relaxed(&page->spt[i]))
			entry_zap(token, page, &page->spt[i]);
	while ((parent = rmap_any(&page->parents)))
		entry_zap(token, shadow_of(parent), parent);
	if (page->unsync)
		shadow_unsync_clear(page);
	shadow_unhash(token->vm, page);
	if (!(page->role & ROLE_DIRECT))
		unaccount_shadowed(page);
	if (page->roots)
		roots_request(token->vm);
	else
		shadow_bury(token, page);
}

void shadow_root_put(struct mmu_token *token, struct shadow *page)
{
	if (--page->roots == 0 && page->invalid)
		shadow_bury(token, page);
}

/* --- the limit (F62) --- */

#define FAULT_PAGES 6  /* the most pages that one fault makes */
#define FAULT_RMAPS 16 /* descriptors for one fault: a parent of each page, the leaf, and prefetched leaves */

static uint64_t limit_default(struct vm *vm)
{
	return max_u64(64, load_relaxed(&vm->slots->total_pages) / 50);
}

void shadow_make_room(struct mmu_write *token)
{
	struct shadow_mmu *mmu = token->token.vm->shadow;
	uint64_t limit = mmu->limit ? mmu->limit : limit_default(token->token.vm);
	struct list *link = mmu->pages.next;

	while (mmu->used + FAULT_PAGES > max_u64(limit, FAULT_PAGES * 2) && link != &mmu->pages) {
		struct shadow *page = container_of(link, struct shadow, link);
		bool others = page->role & ROLE_GUEST_MODE; /* which may go with it (N6) */

		link = link->next;
		if (page->roots)
			continue;
		shadow_zap(&token->token, page);
		if (others)
			link = mmu->pages.next;
		/* After the limit was lowered there are many pages to zap. A yield may change the list: begin again. */
		if (mmu->used > limit && mmu_lock_contended(&token->token)) {
			mmu_yield(&token->token);
			link = mmu->pages.next;
		}
	}
}

enum vmmu_status shadow_limit_set(struct vm *vm, uint64_t pages)
{
	struct mmu_write token;

	if (!vm->shadow)
		return VMMU_EINVAL;
	token = mmu_write_lock(vm);
	vm->shadow->limit = pages;
	shadow_make_room(&token);
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
	return VMMU_OK;
}

/* --- caches, birth and death --- */

static bool cache_fill(struct vm *vm, struct shadow_cache *cache, unsigned want, size_t bytes)
{
	while (cache->count < want) {
		void *object = vm_alloc(vm, bytes);

		if (!object)
			return false;
		cache->object[cache->count++] = object;
	}
	return true;
}

static void cache_drain(struct vm *vm, struct shadow_cache *cache, size_t bytes)
{
	while (cache->count)
		vm_free(vm, cache->object[--cache->count], bytes);
}

bool shadow_caches_fill(struct vm *vm, struct shadow_vcpu *sv, struct table_cache *tables)
{
	return cache_fill(vm, &sv->pages, FAULT_PAGES, sizeof(struct shadow)) &&
	       cache_fill(vm, &sv->rmaps, FAULT_RMAPS, sizeof(struct rmap_desc)) &&
	       table_cache_fill(vm, tables, 2 * FAULT_PAGES);
}

void shadow_vcpu_fini(struct vm *vm, struct shadow_vcpu *sv)
{
	if (!sv)
		return;
	cache_drain(vm, &sv->pages, sizeof(struct shadow));
	cache_drain(vm, &sv->rmaps, sizeof(struct rmap_desc));
	if (sv->top)
		table_free(sv->top);
	vm_free(vm, sv, sizeof(*sv));
}

enum vmmu_status shadow_init(struct vm *vm)
{
	vm->shadow = vm_alloc(vm, sizeof(*vm->shadow));
	if (!vm->shadow)
		return VMMU_ENOMEM;
	list_init(&vm->shadow->pages);
	return VMMU_OK;
}

void shadow_fini(struct vm *vm)
{
	struct mmu_write token;

	if (!vm->shadow)
		return;
	token = mmu_write_lock(vm);
	shadow_obsolete_all(&token);
	shadow_zap_obsolete(&token);
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
	port_rcu_barrier();
	VM_BUG(vm, vm->shadow->used || vm->shadow->indirect);
	vm_free(vm, vm->shadow->hash, HASH_SIZE * sizeof(*vm->shadow->hash));
	vm_free(vm, vm->shadow, sizeof(*vm->shadow));
	vm->shadow = NULL;
}

/* --- P3, shadow half --- */

void shadow_obsolete_all(struct mmu_write *token)
{
	struct shadow_mmu *shadow = token->token.vm->shadow;

	/* All existing pages now belong to an older generation: none is found by shadow_find or reused as a root. */
	if (shadow)
		store_relaxed(&shadow->generation, shadow->generation + 1);
}

/*
 * Zaps from the old end of the list. New pages are added at the other end, so the walk is over at the first page of
 * the current generation. A page that vCPUs still use as a root leaves the list, too, when it is zapped. After a
 * yield the walk begins again at the old end: all pages before that point are gone.
 */
void shadow_zap_obsolete(struct mmu_write *token)
{
	struct vm *vm = token->token.vm;

	while (vm->shadow && !list_empty(&vm->shadow->pages)) {
		struct shadow *page = container_of(vm->shadow->pages.next, struct shadow, link);

		if (!shadow_is_obsolete(vm, page))
			return;
		shadow_zap(&token->token, page);
		if (mmu_lock_contended(&token->token))
			mmu_yield(&token->token);
	}
}

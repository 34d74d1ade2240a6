/* SPDX-License-Identifier: MIT */
/*
 * A VM that shadows: its pages, their entries, the parents of each page, and what vCPUs refer to. What must hold of
 * one page is checked at that page. What must hold of all pages together is counted from both sides and compared.
 */
#include "core/audit/shadow_int.h"

#include "core/format/spte.h"

/* Counted over all pages. */
struct totals {
	uint64_t pages, indirect, tables;
	uint64_t links, parents; /* entries that point to a child; entries that children know of */
	uint64_t roots;          /* references, as the pages count them */
};

/* What a child has in common with the page above it. */
#define ROLE_MODE                                                                                     \
	(ROLE_FOUR_BYTE | ROLE_NX | ROLE_WP | ROLE_SMEP_NOT_WP | ROLE_SMAP_NOT_WP | ROLE_SMM | ROLE_PKE | \
	 ROLE_PSE | ROLE_NO_PAGING | ROLE_PAE | ROLE_GUEST_MODE | ROLE_EPT | ROLE_EPT_AD)

static bool is_hashed(struct vm *vm, const struct shadow *page)
{
	for (const struct shadow *other = *shadow_bucket(vm, page->gfn); other; other = other->hash_next)
		if (other == page)
			return true;
	return false;
}

static struct vmmu_vcpu *vcpu_of(struct vm *vm, unsigned id)
{
	return vm->vcpus.by_id[id] ? container_of(vm->vcpus.by_id[id], struct vmmu_vcpu, vcpu) : NULL;
}

#define ROOTS (SHADOW_PREVIOUS + 1)

/* What a vCPU keeps of the kind, counted from 0: of its guest's tables, of L1's nested table. NULL at the end. */
static const struct shadow_vcpu *shadow_vcpu_of(const struct vmmu_vcpu *vcpu, unsigned kind)
{
	const struct shadow_vcpu *first = vcpu->shadow ? vcpu->shadow : vcpu->nested;

	return kind == 0 ? first : kind == 1 && first != vcpu->nested ? vcpu->nested : NULL;
}

/* Root number n of a vCPU: the current one and the previous ones of each kind. NULL at the end. */
static const struct shadow_root *root_of(const struct vmmu_vcpu *vcpu, unsigned n)
{
	const struct shadow_vcpu *sv = shadow_vcpu_of(vcpu, n / ROOTS);

	if (!sv)
		return NULL;
	return n % ROOTS == 0 ? &sv->root : &sv->previous[n % ROOTS - 1];
}

/* --- entries --- */

static void child_check(struct audit *audit, struct totals *totals, const struct shadow *page, spte_t *entry,
                        spte_t spte)
{
	const struct shadow *child = shadow_of(port_pfn_to_ptr(spte_pfn(spte).v));
	unsigned index = entry_index_of(page, entry);
	bool unsync;

	totals->links++;
	if (!child || child->vm != audit->vm || child->invalid || !is_hashed(audit->vm, child)) {
		audit_fail(audit, "an entry leads to a page that is gone (I3.7)", "table ", page->gfn.v,
		           "entry ", index);
		return;
	}
	unsync = child->unsync || child->unsync_children;
	if (role_level(child->role) != role_level(page->role) - 1 || ((child->role ^ page->role) & ROLE_MODE))
		audit_fail(audit, "a child of another role (F25, zoo 1)", "role ", page->role, "child's ", child->role);
	if ((page->role & ROLE_DIRECT) &&
	    (!(child->role & ROLE_DIRECT) ||
	     child->gfn.v != page->gfn.v + index * level_pages(role_level(page->role)) ||
	     role_rights(child->role) != role_rights(page->role) || ((child->role ^ page->role) & ROLE_DIRTY)))
		audit_fail(audit, "a piece of another large page (F25)", "gfn ", page->gfn.v, "child's ", child->gfn.v);
	if (audit_rmap_has(&child->parents, entry) != 1)
		audit_fail(audit, "a child does not know its parent once (F26)", "child ", child->gfn.v,
		           "parent ", page->gfn.v);
	if (unsync != (page->unsync_map[index / 64] >> (index % 64) & 1))
		audit_fail(audit,
		           unsync ? "an unsync page that no flush finds (P8)"
		                  : "a way to an unsync page where there is none (P8)",
		           "table ", page->gfn.v, "entry ", index);
}

/* A leaf of a page that mirrors part of a large page. The large page's rights, key and D are in the role. */
static void piece_check(struct audit *audit, uint32_t role, gfn_t gfn, spte_t spte)
{
	bool write = spte & VMMU_NPT_W, user = spte & VMMU_NPT_U, exec = !(spte & VMMU_NPT_NX);
	unsigned rights = role_rights(role);
	bool may_write = (rights & ACC_WRITE) ||
	                 ((role & ROLE_DIRTY) && audit_supervisor_may(role, rights & ACC_USER, user, exec));

	if ((write && !may_write) || (user && !(rights & ACC_USER)) || (exec && !(rights & ACC_EXEC)) ||
	    (spte >> 59 & 15) != role_key(role))
		audit_fail(audit, "a piece of a large page gives more rights than it", "gfn ", gfn.v, "spte ", spte);
}

static void leaf_check(struct audit *audit, const struct shadow *page, spte_t *entry, spte_t spte)
{
	const struct memslots *slots = memslots_current(audit->vm, role_as_id(page->role));
	gfn_t gfn = shadow_entry_gfn(page, entry_index_of(page, entry));
	const struct memslot *slot = memslot_find(slots, gfn);

	audit->mapped++;
	audit_leaf(audit, slots, gfn, spte, role_level(page->role), VMMU_NPT_P); /* the guest decides about U */
	if (slot && slot->arrays && audit_rmap_has(gfn_rmap(slot, gfn, role_level(page->role)), entry) != 1)
		audit_fail(audit, "a leaf is not on its chain once (I2.5)", "gfn ", gfn.v, "spte ", spte);
	if (page->role & ROLE_DIRECT)
		piece_check(audit, page->role, gfn, spte);
}

static void entry_check(struct audit *audit, struct totals *totals, const struct shadow *page, spte_t *entry)
{
	spte_t spte = load_relaxed(entry);
	int level = role_level(page->role);

	if (!spte)
		return;
	if (spte_is_table(spte, level))
		child_check(audit, totals, page, entry, spte);
	else if (spte_is_leaf(spte, level))
		leaf_check(audit, page, entry, spte);
	else if (spte_is_mmio(audit->vm->fmt, spte))
		audit_mmio(audit, memslots_current(audit->vm, role_as_id(page->role)),
		           shadow_entry_gfn(page, entry_index_of(page, entry)), spte);
	else
		audit_fail(audit, "an entry that means nothing", "table ", page->gfn.v, "spte ", spte);
	if (!(page->role & ROLE_DIRECT) && !page->unsync && !audit->report->tables_unwatched)
		audit_mirror(audit, page, entry_index_of(page, entry), spte);
}

/* --- pages --- */

/* I4.4. Search the chains of the frame; leaf_check has found them complete. */
static void frame_check(struct audit *audit, const struct shadow *page)
{
	for (unsigned as_id = 0; as_id < audit->vm->address_spaces; as_id++) {
		const struct memslot *slot = memslot_find(memslots_current(audit->vm, as_id), page->gfn);
		struct rmap_iter iter;
		spte_t *entry;

		for (int level = 1; slot && slot->arrays && level <= ARRAY_LEVELS; level++)
			rmap_for_each(entry, gfn_rmap(slot, page->gfn, level), &iter)
				if (load_relaxed(entry) & VMMU_NPT_W)
					audit_fail(audit, "a shadowed table can be written unseen (I4.4)",
					           "gfn ", page->gfn.v, "address space ", as_id);
	}
}

static void unsync_check(struct audit *audit, const struct shadow *page)
{
	unsigned bits = 0;

	for (unsigned i = 0; i < ENTRIES; i++) {
		bool bit = page->unsync_map[i / 64] >> (i % 64) & 1;

		bits += bit;
		if (bit && !spte_is_table(load_relaxed(&page->spt[i]), role_level(page->role)))
			audit_fail(audit, "a way to an unsync page that leads nowhere (P8)", "table ", page->gfn.v,
			           "entry ", i);
	}
	if (bits != page->unsync_children)
		audit_fail(audit, "unsync children (P8)", "counted ", page->unsync_children, "there are ", bits);
	if (page->unsync && (role_level(page->role) != 1 || (page->role & (ROLE_DIRECT | ROLE_GUEST_MODE))))
		audit_fail(audit, "unsync, and no page that may be (P8)", "table ", page->gfn.v, "role ", page->role);
}

static uint64_t references(struct vm *vm, const struct shadow *page)
{
	uint64_t count = 0;

	for (unsigned id = 0; id < vm->vcpus.limit; id++) {
		const struct vmmu_vcpu *vcpu = vcpu_of(vm, id);

		for (unsigned n = 0; vcpu && root_of(vcpu, n); n++)
			for (unsigned i = 0; i < 4; i++)
				count += root_of(vcpu, n)->page[i] == page;
	}
	return count;
}

static void page_check(struct audit *audit, struct totals *totals, struct shadow *page)
{
	struct vm *vm = audit->vm;
	bool direct = page->role & ROLE_DIRECT;

	totals->pages++;
	totals->indirect += !direct;
	totals->tables += direct ? 1 : 2;
	totals->parents += rmap_count(&page->parents);
	totals->roots += page->roots;
	if (page->vm != vm || page->table->owner != page || page->spt != table_entries(page->table) ||
	    page->table->level != role_level(page->role) || direct != !page->shadowed ||
	    role_as_id(page->role) >= vm->address_spaces)
		audit_fail(audit, "a shadow page that is none", "gfn ", page->gfn.v, "role ", page->role);
	if (!is_hashed(vm, page) || shadow_find(vm, page->gfn, page->role) != page)
		audit_fail(audit, "a page is not found under its gfn and role, or another is (F25)", "gfn ",
		           page->gfn.v, "role ", page->role);
	if (page->invalid || page->generation != vm->shadow->generation)
		audit_fail(audit, "an obsolete page is left (P3)", "gfn ", page->gfn.v,
		           "generation ", page->generation);
	if (page->roots != references(vm, page))
		audit_fail(audit, "references of a shadow root (I3.6)", "gfn ", page->gfn.v, "there are ", page->roots);
	/* In 4 and 5 levels. In fewer, the pages of level 2 are roots. */
	if ((page->role & ROLE_GUEST_MODE) && !(page->role & (ROLE_PAE | ROLE_FOUR_BYTE)) && !page->roots &&
	    role_level(page->role) < 4 && rmap_is_empty(&page->parents))
		audit_fail(audit, "a page of guest mode that nothing leads to (N6)", "gfn ", page->gfn.v,
		           "role ", page->role);
	unsync_check(audit, page);
	if (!direct && !page->unsync)
		frame_check(audit, page);
	if (!direct)
		audit_mirrored_frame(audit, page->gfn);
	for (unsigned i = 0; i < ENTRIES; i++)
		entry_check(audit, totals, page, &page->spt[i]);
}

static uint64_t hashed(struct vm *vm)
{
	uint64_t count = 0;

	for (unsigned i = 0; vm->shadow->hash && i < HASH_SIZE; i++)
		for (const struct shadow *page = vm->shadow->hash[i]; page; page = page->hash_next)
			count++;
	return count;
}

/* --- vCPUs --- */

/* Does an earlier root of this vCPU, or a root of an earlier vCPU, hold the same page? */
static bool seen_before(struct vm *vm, unsigned id, unsigned n, unsigned i)
{
	const struct shadow *page = root_of(vcpu_of(vm, id), n)->page[i];

	for (unsigned other = 0; other <= id; other++) {
		const struct vmmu_vcpu *vcpu = vcpu_of(vm, other);

		for (unsigned m = 0; vcpu && root_of(vcpu, m); m++)
			for (unsigned k = 0; k < 4; k++) {
				if (other == id && m == n && k == i)
					return false;
				if (root_of(vcpu, m)->page[k] == page)
					return true;
			}
	}
	return false;
}

static void root_page_check(struct audit *audit, struct totals *totals, unsigned id, unsigned n, unsigned i)
{
	const struct vmmu_vcpu *vcpu = vcpu_of(audit->vm, id);
	const struct shadow_root *root = root_of(vcpu, n);
	const struct shadow *page = root->page[i];

	if ((page->role & ROLE_MODE) != (root->role & ROLE_MODE) || role_rights(page->role) != ACC_ALL)
		audit_fail(audit, "a root of another role", "vcpu ", id, "role ", page->role);
	if (role_level(page->role) >= 4 && page->gfn.v != root->cr3 >> PAGE_SHIFT)
		audit_fail(audit, "a root of another CR3", "vcpu ", id, "gfn ", page->gfn.v);
	if (!page->invalid)
		return;
	/* The page is zapped, and exists only because this vCPU has not entered since. */
	if (!(load_relaxed(&vcpu->vcpu.requests) & REQ_FREE_OBSOLETE_ROOTS))
		audit_fail(audit, "a vCPU keeps an obsolete root and was not told (I3.2)", "vcpu ", id,
		           "gfn ", page->gfn.v);
	if (!seen_before(audit->vm, id, n, i))
		totals->tables += page->role & ROLE_DIRECT ? 1 : 2;
	for (unsigned entry = 0; entry < ENTRIES; entry++)
		if (load_relaxed(&page->spt[entry])) {
			audit_fail(audit, "an invalid root still maps something (I3.3)", "entry ", entry,
			           "spte ", page->spt[entry]);
			return;
		}
}

static void vcpu_check(struct audit *audit, struct totals *totals, unsigned id)
{
	const struct vmmu_vcpu *vcpu = vcpu_of(audit->vm, id);

	for (unsigned kind = 0; shadow_vcpu_of(vcpu, kind); kind++) {
		const struct shadow_vcpu *sv = shadow_vcpu_of(vcpu, kind);

		totals->tables += sv->top != NULL;
		/* The last vCPU's CPUID is as good as any. */
		audit->phys_bits = sv->regs.phys_bits;
		audit->gbpages = sv->regs.gbpages;
		audit->amd = sv->regs.amd;
	}
	for (unsigned n = 0; root_of(vcpu, n); n++)
		for (unsigned i = 0; i < 4; i++)
			if (root_of(vcpu, n)->page[i])
				root_page_check(audit, totals, id, n, i);
}

static void mmu_check(struct audit *audit, const struct shadow_mmu *mmu)
{
	struct vm *vm = audit->vm;
	struct totals totals = { 0 };

	for (unsigned id = 0; id < vm->vcpus.limit; id++)
		if (vcpu_of(vm, id))
			vcpu_check(audit, &totals, id);
	list_for_each(link, &mmu->pages)
		page_check(audit, &totals, container_of(link, struct shadow, link));
	if (totals.pages != mmu->used || totals.pages != hashed(vm))
		audit_fail(audit, "count of shadow pages", "counted ", mmu->used, "there are ", totals.pages);
	if (totals.indirect != load_relaxed(&mmu->indirect))
		audit_fail(audit, "count of mirrored tables (I4.3)", "counted ", load_relaxed(&mmu->indirect),
		           "there are ", totals.indirect);
	if (totals.links != totals.parents)
		audit_fail(audit, "parents that are none (F26)", "links ", totals.links, "parents ", totals.parents);
	audit->report->tables += totals.tables;
	audit->report->shadow_pages = totals.pages;
}

void audit_shadow(struct audit *audit)
{
	/* Without a vCPU that shadows: the most that any may have had. */
	audit->phys_bits = audit->vm->guest_phys_bits;
	audit->gbpages = true;
	if (audit->vm->shadow)
		mmu_check(audit, audit->vm->shadow);
	audit_arrays(audit);
}

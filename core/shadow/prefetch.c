/* SPDX-License-Identifier: MIT */
/*
 * Prefetch (F44): a fault also installs the neighbours of its entry, those in the same cache line, where the guest's
 * table maps something and the host need not be asked. Like KVM's FNAME(pte_prefetch).
 *
 * The guest cannot observe a prefetch. It sets no A or D bit in a guest's entry: only entries with A are taken, and
 * only those with D become writable. In a logged slot none becomes writable, since the first write must be marked. No
 * page is marked unsync for a neighbour.
 */
#include "core/shadow/shadow_int.h"

#define PREFETCH 8 /* entries, aligned: one cache line */

_Static_assert(SHADOW_CACHE_MAX >= 2 * PREFETCH, "each may need an rmap descriptor");

/* The host's answer for the fault's page is valid for this whole range, and the retry check covered all of it (P5). */
void shadow_fault_host_range(const struct shadow_fault *fault, hva_t *start, hva_t *end)
{
	uint64_t bytes = level_pages(fault->common.page.max_level) << PAGE_SHIFT,
	         hva = memslot_hva(fault->common.slot, fault->walk.gfn).v;

	*start = HVA(hva & ~(bytes - 1));
	*end = HVA(start->v + bytes);
	if (bytes == PAGE_SIZE && fault->common.page.neighbours) {
		*start = HVA(hva - (PREFETCH - 1) * PAGE_SIZE);
		*end = HVA(hva + PREFETCH * PAGE_SIZE);
	}
}

struct prefetch {
	const struct guest_mode *mode;
	const struct shadow *page;
	const struct shadow_fault *fault;
	hva_t table;      /* the guest's table, if the page mirrors one */
	hva_t start, end; /* the range for which the host's answer is valid */
};

struct neighbour {
	gfn_t gfn;
	unsigned rights, key;
};

/* What the guest's table maps at `index`. Returns: false when a CPU would not use that entry, or would set its A. */
static bool guest_says(const struct prefetch *p, unsigned index, struct neighbour *n)
{
	const struct guest_mode *mode = p->mode;
	const struct shadow *page = p->page;
	uint64_t value;

	if (page->role & ROLE_DIRECT) {
		*n = (struct neighbour){ GFN(page->gfn.v + index), role_rights(page->role), role_key(page->role) };
		return true;
	}
	if (!guest_entry_read(mode, p->table, guest_entry_index(page, index), &value) ||
	    !guest_entry_is_present(mode, value) || !guest_entry_is_accessed(mode, value) ||
	    guest_entry_is_reserved(mode, value, 1))
		return false;
	*n = (struct neighbour){ guest_leaf_gfn(mode, value, 1), guest_entry_leaf_rights(mode, page, value),
	                         mode->pke ? value >> 59 & 15 : 0 };
	return true;
}

static bool host_answered_for(const struct prefetch *p, gfn_t gfn)
{
	hva_t hva = memslot_hva(p->fault->common.slot, gfn);

	return memslot_contains(p->fault->common.slot, gfn) && hva.v >= p->start.v && hva.v < p->end.v;
}

static bool put(struct mmu_token *token, struct shadow_vcpu *sv, const struct prefetch *p, struct shadow *page,
                unsigned index)
{
	const struct shadow_fault *fault = p->fault;
	const struct memslot *slot = fault->common.slot;
	bool writable = fault->common.page.writable && !(slot->flags & VMMU_SLOT_READONLY);
	struct neighbour n;
	struct leaf leaf;

	if (!guest_says(p, index, &n) || !host_answered_for(p, n.gfn))
		return false;
	if ((slot->flags & VMMU_SLOT_LOG_DIRTY) ||
	    ((n.rights & ACC_WRITE) && !gfn_try_unsync(token, slot, n.gfn, false)))
		n.rights &= ~ACC_WRITE;
	leaf.gfn = n.gfn;
	leaf.spte = shadow_make_leaf(token->vm, PFN(fault->common.page.pfn.v + (n.gfn.v - fault->walk.gfn.v)), 1,
	                             n.rights, n.key, writable, false);
	return entry_set_leaf(token, sv, slot, page, &page->spt[index], &leaf);
}

void shadow_prefetch(struct mmu_token *token, struct shadow_vcpu *sv, struct shadow *page, unsigned index,
                     const struct shadow_fault *fault)
{
	struct prefetch p = { .mode = fault->reader->mode, .page = page, .fault = fault };
	unsigned first = index & ~(PREFETCH - 1u), more = 0;

	if (fault->common.page.max_level == VMMU_LEVEL_4K && !fault->common.page.neighbours)
		return;
	if (!(page->role & ROLE_DIRECT) && !guest_table_find(fault->reader, page->gfn, &p.table))
		return;
	shadow_fault_host_range(fault, &p.start, &p.end);
	for (unsigned i = first; i < first + PREFETCH; i++)
		if (!load_relaxed(&page->spt[i]))
			more += put(token, sv, &p, page, i);
	if (more)
		leaves_count(token, 1, more);
}

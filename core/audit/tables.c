/* SPDX-License-Identifier: MIT */
/* Roots, tables, entries. */
#include "core/audit/audit_int.h"

#include "core/fault/vcpu.h"
#include "core/format/spte.h"
#include "core/tdp/tdp_int.h"

/* Where the audit stands in a tree. */
struct place {
	struct audit *audit;
	struct table *root;
	const struct memslots *slots;
};

static void leaf_check_rights(struct audit *audit, const struct memslot *slot, gfn_t gfn, spte_t spte, int level,
                              spte_t every)
{
	struct vm *vm = audit->vm;
	bool writable = spte & vm->fmt->any_write, logged = slot->flags & VMMU_SLOT_LOG_DIRTY;

	spte = spte_rejuvenated(vm->fmt, spte);
	if (writable && (spte & (SPTE_HOST_W | SPTE_MMU_W)) != (SPTE_HOST_W | SPTE_MMU_W))
		audit_fail(audit, "a leaf is writable and its software bits say no (P6)", "gfn ", gfn.v, "spte ", spte);
	if ((slot->flags & VMMU_SLOT_READONLY) && (writable || (spte & SPTE_HOST_W)))
		audit_fail(audit, "a leaf of a read-only slot may be written", "gfn ", gfn.v, "spte ", spte);
	if ((spte & every) != every || (spte & vm->fmt->exec) != vm->fmt->exec)
		audit_fail(audit, "a leaf without the bits of every leaf", "gfn ", gfn.v, "spte ", spte);
	if (!writable || !logged)
		return;
	audit->report->writable_logged++;
	/* A huge leaf, too, may stay writable only while all its pages are dirty (VMMU_DIRTY_INITIALLY_SET). */
	if (!audit_pages_dirty(vm, slot, gfn.v - slot->base.v, level_pages(level)))
		audit_fail(audit, "a page can be written unlogged (P11)", "gfn ", gfn.v, "spte ", spte);
}

pfn_t audit_frame(const struct audit *audit, hva_t hva)
{
	return audit->report->frame ? audit->report->frame(audit->report->frame_arg, hva) : PFN(hva.v >> PAGE_SHIFT);
}

void audit_leaf(struct audit *audit, const struct memslots *slots, gfn_t gfn, spte_t spte, int level, spte_t every)
{
	const struct memslot *slot = memslot_find(slots, gfn);

	if (level > 3 || (level == 1 ? 0 : !(spte & SPTE_HUGE))) {
		audit_fail(audit, "a leaf at a level that has none", "gfn ", gfn.v, "level ", level);
		return;
	}
	audit->report->leaves[level - 1]++;
	if (!slot) {
		audit_fail(audit, "a leaf maps a page of no slot (I3.1)", "gfn ", gfn.v, "spte ", spte);
		return;
	}
	if (spte & VMMU_ENTRY_RSVD)
		audit_fail(audit, "reserved bits in a leaf", "gfn ", gfn.v, "spte ", spte);
	if (gfn.v + level_pages(level) > slot->base.v + slot->npages || memslot_max_level(slot, gfn) < level) {
		audit_fail(audit, "a huge leaf that its slot does not allow", "gfn ", gfn.v, "level ", level);
		return;
	}
	if (spte_pfn(spte).v != audit_frame(audit, memslot_hva(slot, gfn)).v)
		audit_fail(audit, "a leaf maps another page than its slot says", "gfn ", gfn.v, "spte ", spte);
	leaf_check_rights(audit, slot, gfn, spte, level, every);
}

void audit_mmio(struct audit *audit, const struct memslots *slots, gfn_t gfn, spte_t spte)
{
	audit->report->mmio++;
	if (spte_mmio_gfn(audit->vm->mmio_guard, spte).v != gfn.v)
		audit_fail(audit, "an MMIO entry of another gfn", "gfn ", gfn.v, "spte ", spte);
	if (spte_mmio_generation(spte) == (slots->generation & MMIO_GENERATION_MASK) && memslot_find(slots, gfn))
		audit_fail(audit, "a page of a slot passes for MMIO (P10)", "gfn ", gfn.v, "spte ", spte);
}

static void table_check(struct place *place, struct table *table, struct table *parent, gfn_t base);

static void entry_check(struct place *place, struct table *table, gfn_t gfn, spte_t spte)
{
	const struct format *format = place->audit->vm->fmt;
	int level = table->level;

	if (spte_is_table(spte, level)) {
		if ((spte & format->table) != format->table)
			audit_fail(place->audit, "an entry to a table with too few rights", "gfn ", gfn.v,
			           "spte ", spte);
		table_check(place, table_of(port_pfn_to_ptr(spte_pfn(spte).v)), table, gfn);
	} else if (spte_is_leaf(spte, level)) {
		audit_leaf(place->audit, place->slots, gfn, spte, level, format->leaf);
	} else if (spte_is_frozen(spte)) {
		audit_fail(place->audit, "a frozen entry is reachable (P7)", "gfn ", gfn.v, "level ", level);
	} else if (spte_is_mmio(format, spte)) {
		audit_mmio(place->audit, place->slots, gfn, spte);
	} else if (spte) {
		audit_fail(place->audit, "an entry that means nothing", "gfn ", gfn.v, "spte ", spte);
	}
}

/* A table that is reached twice shows as a table whose header names another place. */
static void table_check(struct place *place, struct table *table, struct table *parent, gfn_t base)
{
	const spte_t *entries = table_entries(table);

	place->audit->report->tables++;
	if (parent && (table->is_root || table->level != parent->level - 1 || table->base.v != base.v ||
	               table->as_id != place->root->as_id)) {
		audit_fail(place->audit, "a table is not where its header says (zoo 1)", "gfn ", base.v,
		           "header ", (uintptr_t)table);
		return;
	}
	if (table->vm != place->audit->vm)
		audit_fail(place->audit, "a table of another VM", "gfn ", base.v, NULL, 0);
	for (unsigned i = 0; i < ENTRIES; i++)
		entry_check(place, table, GFN(base.v + i * level_pages(table->level)), load_relaxed(&entries[i]));
}

static unsigned root_users(struct vm *vm, const struct table *root)
{
	unsigned users = 0;

	for (unsigned id = 0; id < vm->vcpus.limit; id++)
		if (vm->vcpus.by_id[id] && container_of(vm->vcpus.by_id[id], struct vmmu_vcpu, vcpu)->root == root)
			users++;
	return users;
}

/*
 * At a quiet point an invalid root is zapped, and exists only because a vCPU that has not entered since refers to it.
 */
static void root_check(struct place *place)
{
	struct audit *audit = place->audit;
	struct table *root = place->root;
	unsigned users = root_users(audit->vm, root);

	audit->report->roots++;
	if (!root->is_root || root->level != audit->vm->levels || root->base.v)
		audit_fail(audit, "a root that is none", "level ", root->level, "base ", root->base.v);
	if (root->refs != users + !root->invalid)
		audit_fail(audit, "references of a root (I3.6)", "there are ", root->refs, "vCPUs ", users);
	if (root->scheduled)
		audit_fail(audit, "a root waits to be zapped and nobody will (I3.4)", "as ", root->as_id, NULL, 0);
	if (!root->invalid) {
		table_check(place, root, NULL, GFN(0));
		return;
	}
	audit->report->tables++;
	for (unsigned i = 0; i < ENTRIES; i++)
		if (table_entries(root)[i]) {
			audit_fail(audit, "an invalid root still maps something (I3.3)", "entry ", i,
			           "spte ", table_entries(root)[i]);
			break;
		}
}

void audit_tables(struct audit *audit)
{
	unsigned valid[MAX_ADDRESS_SPACES] = { 0 };

	if (!audit->vm->tdp)
		return;
	list_for_each(link, &audit->vm->tdp->roots) {
		struct table *root = container_of(link, struct table, link);
		struct place place = { .audit = audit, .root = root };

		if (root->as_id >= audit->vm->address_spaces) {
			audit_fail(audit, "a root of no address space", "as ", root->as_id, NULL, 0);
			continue;
		}
		place.slots = memslots_current(audit->vm, root->as_id);
		root_check(&place);
		if (!root->invalid && ++valid[root->as_id] > 1)
			audit_fail(audit, "two valid roots of one address space", "as ", root->as_id, NULL, 0);
	}
}

/* SPDX-License-Identifier: MIT */
/* I4.2: a synced entry matches the guest's current entry, or is stricter. */
#include "core/audit/shadow_int.h"

#include "core/format/spte.h"

static void differs(struct audit *audit, const char *what, const struct shadow *page, unsigned index, uint64_t value)
{
	audit_fail(audit, what, "table ", page->gfn.v << PAGE_SHIFT | index, "guest's entry ", value);
}

bool audit_supervisor_may(uint32_t role, bool users_page, bool user, bool exec)
{
	return !(role & (ROLE_WP | ROLE_SMAP_NOT_WP | ROLE_PKE | ROLE_NO_PAGING)) && !user &&
	       !((role & ROLE_SMEP_NOT_WP) && users_page && exec);
}

/* `rights`: those that the entry, or the entries below it, may give. */
static void rights_check(struct audit *audit, const struct shadow *page, unsigned index, uint64_t value,
                         const struct audit_meaning *m, bool readonly, unsigned rights)
{
	bool write = rights & ACC_WRITE, user = rights & ACC_USER, exec = rights & ACC_EXEC;

	if ((user && !m->user) || (exec && !m->exec))
		differs(audit, "an entry gives more rights than the guest's (I4.2)", page, index, value);
	if (!write)
		return;
	if (!m->dirty && !readonly)
		differs(audit, "a clean page may be written, and would not become dirty (I4.2)", page, index, value);
	if (m->write)
		return;
	/* With CR0.WP = 0 only the supervisor may write the page, where nothing else depends on whose page it is. */
	if (!audit_supervisor_may(page->role, m->user, user, exec))
		differs(audit, "a page may be written that the guest made read-only (I4.2)", page, index, value);
}

static void leaf_mirror(struct audit *audit, const struct shadow *page, unsigned index, spte_t spte, uint64_t value,
                        const struct audit_meaning *m, bool readonly)
{
	if (!m->leaf || shadow_entry_gfn(page, index).v != m->frame)
		differs(audit, "a leaf maps another gfn than the guest's entry (I4.2)", page, index, value);
	if ((spte >> 59 & 15) != m->key)
		differs(audit, "a leaf has another protection key than the guest's", page, index, value);
	rights_check(audit, page, index, value, m, readonly,
	             (spte & VMMU_NPT_W ? ACC_WRITE : 0) | (spte & VMMU_NPT_U ? ACC_USER : 0) |
	             (spte & VMMU_NPT_NX ? 0 : ACC_EXEC));
}

static void table_mirror(struct audit *audit, const struct shadow *page, unsigned index, spte_t spte, uint64_t value,
                         const struct audit_meaning *m, bool readonly)
{
	const struct shadow *child = shadow_of(port_pfn_to_ptr(spte_pfn(spte).v));
	bool direct = child->role & ROLE_DIRECT;
	unsigned rights = (m->write ? ACC_WRITE : 0) | (m->user ? ACC_USER : 0) | (m->exec ? ACC_EXEC : 0);

	if (direct != m->leaf || child->gfn.v != m->frame)
		differs(audit, "a child mirrors another table than the guest's entry names (F25, zoo 2)", page, index,
		        value);
	if (direct) {
		if ((child->role & ROLE_DIRTY) && !m->dirty && !readonly)
			differs(audit, "pieces of a clean large page are taken for those of a dirty one (I4.2)", page,
			        index, value);
		rights_check(audit, page, index, value, m, readonly, role_rights(child->role));
		if ((child->role >> 19 & 15) != m->key)
			differs(audit, "a piece of a large page has another protection key than it", page, index,
			        value);
	} else if (role_rights(child->role) != rights) {
		differs(audit, "a child has other rights than the path to it (F25, zoo 1)", page, index, value);
	} else if ((page->role & ROLE_FOUR_BYTE) && role_quadrant(child->role) != (index & 1)) {
		differs(audit, "a child mirrors another half of its table", page, index, value);
	}
}

void audit_mirror(struct audit *audit, const struct shadow *page, unsigned index, spte_t spte)
{
	struct audit_meaning m;
	uint64_t value;
	bool readonly;

	if (!audit_guest_load(audit, page, index, &value, &readonly)) {
		audit_fail(audit, "a shadow page of no memory", "gfn ", page->gfn.v, NULL, 0);
		return;
	}
	m = audit_guest_meaning(audit, page, index, value);
	if (!m.present || m.reserved || (!m.accessed && !readonly)) {
		differs(audit, "an entry stands for one that the guest has not (I4.2)", page, index, value);
		return;
	}
	if (spte_is_table(spte, role_level(page->role)))
		table_mirror(audit, page, index, spte, value, &m, readonly);
	else if (spte_is_leaf(spte, role_level(page->role)))
		leaf_mirror(audit, page, index, spte, value, &m, readonly);
	else if (!m.leaf || shadow_entry_gfn(page, index).v != m.frame)
		differs(audit, "an MMIO entry of another gfn than the guest's entry (I4.2)", page, index, value);
}

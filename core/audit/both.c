/* SPDX-License-Identifier: MIT */
/* A VM with both MMUs: what TDP's leaves may say of a frame that the shadow MMU mirrors (N1). */
#include "core/audit/shadow_int.h"

#include "core/tdp/tdp_int.h"

static void root_check(struct audit *audit, struct table *root, gfn_t gfn)
{
	int level;
	spte_t spte = tdp_leaf(audit->vm, root, gfn, &level);

	if (!spte_is_leaf(spte, level))
		return;
	if (level > 1)
		audit_fail(audit, "a huge TDP leaf over a mirrored table (N1)", "gfn ", gfn.v, "level ", level);
	if (spte & (audit->vm->fmt->any_write | SPTE_MMU_W))
		audit_fail(audit, "a mirrored table can be written unseen through TDP (N1)", "gfn ", gfn.v,
		           "spte ", spte);
}

void audit_mirrored_frame(struct audit *audit, gfn_t gfn)
{
	if (!audit->vm->tdp)
		return;
	list_for_each(link, &audit->vm->tdp->roots)
		root_check(audit, container_of(link, struct table, link), gfn);
}

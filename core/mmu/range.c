/* SPDX-License-Identifier: MIT */
/* One range of a slot, in both MMUs. */
#include "core/mmu/mmu.h"
#include "core/shadow/shadow.h"
#include "core/tdp/tdp.h"

void mmu_zap_range(struct mmu_write *token, const struct memslot *slot, gfn_t first, gfn_t end)
{
	tdp_zap_range(&token->token, slot->as_id, first, end);
	shadow_zap_range(token, slot, first, end);
}

bool mmu_age(struct vm *vm, const struct memslot *slot, gfn_t first, gfn_t end, bool clear)
{
	bool young = tdp_age(vm, slot->as_id, first, end, clear);

	/* A page is old only if no MMU has used it. With `clear` age both, whatever the first says. */
	if (!young || clear)
		young |= shadow_age(vm, slot, first, end, clear);
	return young;
}

/* SPDX-License-Identifier: MIT */
/* Everything that a VM maps goes (P3), or what one slot maps. */
#include "core/mmu/mmu.h"
#include "core/shadow/arrays.h"
#include "core/shadow/shadow.h"
#include "core/tdp/tdp.h"

void mmu_zap_all_fast(struct vm *vm)
{
	struct mmu_write token = mmu_write_lock(vm);

	/*
	 * One lock section (P3). The roots are marked before the request, or a vCPU could answer the request and keep its root. The request is
	 * waited for under the lock, or a vCPU could run on a root that is being taken apart.
	 */
	tdp_invalidate_roots(&token);
	shadow_obsolete_all(&token);
	vcpus_request_and_wait(vm, REQ_FREE_OBSOLETE_ROOTS);
	shadow_zap_obsolete(&token);
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
	tdp_zap_invalidated_roots(vm);
}

void mmu_zap_slot(struct vm *vm, const struct memslot *slot)
{
	struct mmu_write token;

	/*
	 * Once something is shadowed, everything goes: shadow pages may mirror tables that lie in the slot, beside mapping it. A first shadow
	 * root that comes after the look finds the slot INVALID, and neither maps it nor mirrors a table in it.
	 */
	if (!vm->slot_delete_zaps_slot || arrays_exist(vm)) {
		mmu_zap_all_fast(vm);
		return;
	}
	token = mmu_write_lock(vm);
	mmu_zap_range(&token, slot, slot->base, memslot_end(slot));
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
}

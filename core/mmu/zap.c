/* SPDX-License-Identifier: MIT */
/* Zap everything that a VM maps (P3), or what one slot maps. */
#include "core/mmu/mmu.h"
#include "core/shadow/arrays.h"
#include "core/shadow/shadow.h"
#include "core/tdp/tdp.h"

void mmu_zap_all_fast(struct vm *vm)
{
	struct mmu_write token = mmu_write_lock(vm);

	/*
	 * One lock section (P3). Mark the roots before the request, or a vCPU could answer the request and keep its
	 * root. Wait for the answers under the lock, or a vCPU could run on a root that is being taken apart.
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
	 * Once something is shadowed, everything goes: shadow pages may also mirror guest tables that lie in the
	 * slot. If the first shadow root comes after this check, it finds the slot INVALID. It then neither maps
	 * the slot nor mirrors a table in it.
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

/* SPDX-License-Identifier: MIT */
/* What the tables do when a slot changes: P3 when one goes, logging on and off, generations that wrap. */
#include "core/format/spte.h"
#include "core/memslot/dirty.h"
#include "core/shadow/arrays.h"
#include "core/shadow/shadow.h"
#include "core/tdp/tdp.h"
#include "core/vm/vm_int.h"

void vm_zap_all_fast(struct vm *vm)
{
	struct mmu_write token = mmu_write_lock(vm);

	/*
	 * One lock section (P3). The roots are marked before the request, or a vCPU could answer it and keep its root; and the request is waited for
	 * under the lock, or a vCPU could run on a root that is being taken apart.
	 */
	tdp_invalidate_roots(&token);
	if (vm->shadow)
		shadow_obsolete_all(&token);
	vcpus_request_and_wait(vm, REQ_FREE_OBSOLETE_ROOTS);
	if (vm->shadow)
		shadow_zap_obsolete(&token);
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
	tdp_zap_invalidated_roots(vm);
}

static gfn_t slot_end(const struct memslot *slot)
{
	return GFN(slot->base.v + slot->npages);
}

static void slot_zap(struct vm *vm, const struct memslot *slot)
{
	struct mmu_write token;

	/* Shadow pages may mirror tables that lie in the slot, beside mapping it: all go. */
	if (!vm->slot_delete_zaps_slot || vm->shadow) {
		vm_zap_all_fast(vm);
		return;
	}
	token = mmu_write_lock(vm);
	tdp_zap_range(&token.token, slot->as_id, slot->base, slot_end(slot));
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
}

/*
 * Logging begins: every page must fault on its next write. Huge leaves are split now, where nobody waits, rather than in faults (17). With
 * VMMU_DIRTY_INITIALLY_SET all is dirty already, and vmmu_dirty_clear does both for the part that it clears (12).
 */
static void shadow_logging_begin(struct vm *vm, const struct memslot *slot)
{
	struct mmu_write token = mmu_write_lock(vm);

	shadow_write_protect(&token, slot, slot->base, slot_end(slot));
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
}

static void shadow_logging_end(struct vm *vm, const struct memslot *slot)
{
	struct mmu_write token = mmu_write_lock(vm);

	shadow_zap_collapsible(&token, slot);
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
}

static void logging_begin(struct vm *vm, const struct memslot *slot)
{
	struct mmu_read token;

	if (vm->slots->dirty_mode & VMMU_DIRTY_INITIALLY_SET && !vm->slots->ring_entries)
		return;
	if (vm->shadow) {
		shadow_logging_begin(vm, slot);
		return;
	}
	token = mmu_read_lock(vm, 0);
	tdp_split(&token.token, slot, slot->base, slot_end(slot), 1);
	tdp_write_protect(&token.token, slot, slot->base, slot_end(slot), 1);
	mmu_flush(&token.token);
	mmu_read_unlock(&token);
}

static bool slot_logging_begin(void *arg, struct memslot *slot)
{
	if (memslot_logs(slot))
		logging_begin(arg, slot);
	return false;
}

void vm_logging_begin_again(struct vm *vm)
{
	for (unsigned as_id = 0; as_id < vm->address_spaces; as_id++)
		memslots_for_each(memslots_current(vm, as_id), slot_logging_begin, vm);
}

static void slot_committed(struct vm *vm, enum slot_change change, const struct memslot *old, const struct memslot *new)
{
	bool logged = old && memslot_logs(old), logs = new && memslot_logs(new);

	if (change == SLOT_DELETE)
		return;
	if (logs && !logged)
		logging_begin(vm, new);
	else if (logged && !logs && change == SLOT_FLAGS && vm->shadow)
		shadow_logging_end(vm, new);
	else if (logged && !logs && change == SLOT_FLAGS)
		fault_recover_huge(vm, new);
}

/* MMIO entries hold 18 bits of the generation: when those come round, an old entry would pass for a new one (P10). */
static void generation_moved(struct vm *vm, uint64_t generation)
{
	if ((generation & MMIO_GENERATION_MASK) < vm->address_spaces)
		vm_zap_all_fast(vm);
}

const struct slots_hooks vm_slots_hooks = {
	.zap = slot_zap,
	.committed = slot_committed,
	.generation = generation_moved,
	.arrays_make = arrays_make,
	.arrays_free = arrays_free,
};

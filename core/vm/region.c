/* SPDX-License-Identifier: MIT */
/* vmmu_region_*: the slots, as the embedder sees them. */
#include "core/format/spte.h"
#include "core/memslot/dirty.h"
#include "core/mmu/mmu.h"
#include "core/shadow/arrays.h"
#include "core/shadow/shadow.h"
#include "core/vm/vm_int.h"

static void slot_committed(struct vm *vm, enum slot_change change, const struct memslot *old, const struct memslot *new)
{
	bool logged = old && memslot_logs(old), logs = new && memslot_logs(new);

	if (change == SLOT_DELETE)
		return;
	if (logs && !logged)
		mmu_log_begin(vm, new);
	else if (logged && !logs && change == SLOT_FLAGS)
		mmu_log_end(vm, new);
}

/* An MMIO entry holds 18 bits of the generation. When those wrap, an old entry would pass for a new one (P10). */
static void generation_moved(struct vm *vm, uint64_t generation)
{
	if ((generation & MMIO_GENERATION_MASK) < vm->address_spaces)
		mmu_zap_all_fast(vm);
}

const struct slots_hooks vm_slots_hooks = {
	.zap = mmu_zap_slot,
	.committed = slot_committed,
	.generation = generation_moved,
	.arrays_reserve = arrays_reserve,
	.arrays_free = arrays_free,
};

enum vmmu_status vmmu_region_set(struct vmmu_vm *vmmu, const struct vmmu_region *region)
{
	struct vm *vm = &vmmu->vm;
	enum vmmu_status status = VMMU_EDEAD;

	mutex_lock(&vm->slots_lock);
	if (!vm_is_dead(vm))
		status = slots_change(vm, region);
	mutex_unlock(&vm->slots_lock);
	return status;
}

enum vmmu_status vmmu_region_get(struct vmmu_vm *vmmu, uint32_t address_space, uint32_t slot_id,
                                 struct vmmu_region *out)
{
	struct vm *vm = &vmmu->vm;
	const struct memslot *slot = NULL;

	mutex_lock(&vm->slots_lock);
	if (address_space < vm->address_spaces)
		slot = memslot_find_id(memslots_current(vm, address_space), slot_id);
	if (slot)
		*out = (struct vmmu_region){
			.slot = slot->id,
			.address_space = slot->as_id,
			.flags = slot->flags,
			.gpa = gfn_to_gpa(slot->base),
			.bytes = slot->npages << PAGE_SHIFT,
			.hva = slot->hva,
		};
	mutex_unlock(&vm->slots_lock);
	return slot ? VMMU_OK : VMMU_ENOENT;
}

void vmmu_slot_delete_set(struct vmmu_vm *vmmu, bool zaps_slot)
{
	struct vm *vm = &vmmu->vm;

	mutex_lock(&vm->slots_lock);
	vm->slot_delete_zaps_slot = zaps_slot;
	mutex_unlock(&vm->slots_lock);
}

enum vmmu_status vmmu_shadow_limit_set(struct vmmu_vm *vmmu, uint64_t pages)
{
	struct vm *vm = &vmmu->vm;
	enum vmmu_status status;

	mutex_lock(&vm->slots_lock);
	status = shadow_limit_set(vm, pages);
	mutex_unlock(&vm->slots_lock);
	return status;
}

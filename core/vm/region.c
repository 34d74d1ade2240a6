/* SPDX-License-Identifier: MIT */
/* vmmu_region_*: the slots, as the embedder sees them. */
#include "core/shadow/shadow.h"
#include "core/vm/vm_int.h"

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

enum vmmu_status vmmu_region_get(struct vmmu_vm *vmmu, uint32_t address_space, uint32_t slot_id, struct vmmu_region *out)
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

enum vmmu_status vmmu_shadow_limit_set(struct vmmu_vm *vmmu, uint64_t pages)
{
	struct vm *vm = &vmmu->vm;

	if (!vm->shadow)
		return VMMU_EINVAL;
	mutex_lock(&vm->slots_lock);
	shadow_limit_set(vm, pages);
	mutex_unlock(&vm->slots_lock);
	return VMMU_OK;
}

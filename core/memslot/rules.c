/* SPDX-License-Identifier: MIT */
/* What KVM_SET_USER_MEMORY_REGION allows (Documentation/virt/kvm/api.rst, 4.35), and what a request amounts to. */
#include "core/memslot/slots_int.h"

#define USER_FLAGS (VMMU_SLOT_LOG_DIRTY | VMMU_SLOT_READONLY)

/* Host addresses of a slot end below this: the user half of x86-64 with 4-level paging. */
#define HVA_LIMIT BIT(47)

static bool page_aligned(uint64_t x)
{
	return !(x & (PAGE_SIZE - 1));
}

/* The rules that need no other slot. */
static bool request_is_well_formed(const struct vm *vm, const struct vmmu_region *region)
{
	if (region->address_space >= vm->address_spaces || region->slot >= VMMU_MAX_SLOTS)
		return false;
	if (region->flags & ~USER_FLAGS)
		return false;
	if (!page_aligned(region->bytes) || !page_aligned(region->gpa.v) || !page_aligned(region->hva.v))
		return false;
	if (region->bytes >> PAGE_SHIFT > VMMU_MAX_SLOT_PAGES)
		return false;
	if (region->gpa.v + region->bytes < region->gpa.v)
		return false;
	return region->hva.v <= HVA_LIMIT && region->bytes <= HVA_LIMIT - region->hva.v;
}

/* A change of an existing slot that does not delete it: it may move, or start or stop logging; its memory stays. */
static enum vmmu_status modify_check(const struct vmmu_region *region, struct slot_plan *plan, bool *nothing)
{
	const struct memslot *old = plan->old;

	if (region->hva.v != old->hva.v || region->bytes >> PAGE_SHIFT != old->npages)
		return VMMU_EINVAL;
	if ((region->flags ^ old->flags) & VMMU_SLOT_READONLY)
		return VMMU_EINVAL;
	if (gpa_to_gfn(region->gpa).v != old->base.v)
		plan->change = SLOT_MOVE;
	else if (region->flags != old->flags)
		plan->change = SLOT_FLAGS;
	else
		*nothing = true;
	return VMMU_OK;
}

static enum vmmu_status plan_make(struct vm *vm, const struct vmmu_region *region, struct slot_plan *plan,
                                  bool *nothing)
{
	uint64_t npages = region->bytes >> PAGE_SHIFT;

	if (!npages) {
		plan->change = SLOT_DELETE;
		return plan->old ? VMMU_OK : VMMU_EINVAL;
	}
	if (plan->old)
		return modify_check(region, plan, nothing);
	plan->change = SLOT_CREATE;
	return vm->slots->total_pages + npages < npages ? VMMU_EINVAL : VMMU_OK;
}

enum vmmu_status rules_check(struct vm *vm, const struct vmmu_region *region, struct slot_plan *plan, bool *nothing)
{
	const struct memslots *set;
	enum vmmu_status status;

	*nothing = false;
	if (!request_is_well_formed(vm, region))
		return VMMU_EINVAL;
	set = memslots_current(vm, region->address_space);
	*plan = (struct slot_plan){ .old = memslot_find_id(set, region->slot) };
	status = plan_make(vm, region, plan, nothing);
	if (status || *nothing)
		return status;
	if (plan->change != SLOT_CREATE && plan->change != SLOT_MOVE)
		return VMMU_OK;
	if (memslots_overlap(set, gpa_to_gfn(region->gpa), region->bytes >> PAGE_SHIFT, region->slot))
		return VMMU_EEXIST;
	/* As in KVM, the width of a guest physical address is checked last, and not for a delete. */
	return region->gpa.v + region->bytes <= BIT(vm->guest_phys_bits) ? VMMU_OK : VMMU_EINVAL;
}

/* SPDX-License-Identifier: MIT */
/* A vCPU on its way into the guest and out of it: requests and the root (P3, P9). */
#include "core/fault/vcpu.h"
#include "core/tdp/tdp.h"

void vcpu_root_drop(struct vmmu_vcpu *vcpu)
{
	if (!vcpu->root)
		return;
	tdp_root_put(vcpu->vcpu.vm, vcpu->root);
	vcpu->root = NULL;
	vcpu->flush = true; /* translations of one root mean nothing under another */
}

enum vmmu_status vcpu_root_load(struct vmmu_vcpu *vcpu)
{
	struct vm *vm = vcpu->vcpu.vm;
	struct mmu_read token;

	if (vcpu->root && tdp_root_is_valid(vcpu->root))
		return VMMU_OK;
	vcpu_root_drop(vcpu);
	if (!table_cache_fill(vm, &vcpu->tables, 1))
		return VMMU_ENOMEM;
	token = mmu_read_lock(vm, vcpu->vcpu.id);
	vcpu->root = tdp_root_get(&token, vcpu->as_id, &vcpu->tables);
	mmu_read_unlock(&token);
	return vcpu->root ? VMMU_OK : VMMU_ENOMEM;
}

/* Act on every pending request. Returns: true when the user must be told that the ring is nearly full. */
static bool requests_handle(struct vmmu_vcpu *vcpu)
{
	uint32_t requests = vcpu_requests_take(&vcpu->vcpu);

	if (likely(!requests))
		return false;
	for (uint32_t rest = requests; rest; rest &= rest - 1) /* no popcount: gcc's is a libgcc call */
		vcpu->vcpu.stats.requests++;
	if (requests & REQ_TLB_FLUSH)
		vcpu->flush = true;
	/* Exactly the roots that are obsolete (P3). */
	if ((requests & REQ_FREE_OBSOLETE_ROOTS) && vcpu->root && !tdp_root_is_valid(vcpu->root))
		vcpu_root_drop(vcpu);
	if (!(requests & REQ_RING_FULL) || !dirty_ring_nearly_full(&vcpu->ring))
		return false;
	vcpu_request(&vcpu->vcpu, REQ_RING_FULL); /* until it has been emptied */
	return true;
}

enum vmmu_enter vmmu_vcpu_enter(struct vmmu_vcpu *vcpu, struct vmmu_entry *entry)
{
	struct vm *vm = vcpu->vcpu.vm;

	do {
		if (unlikely(vm_is_dead(vm)))
			return VMMU_ENTER_DEAD;
		if (requests_handle(vcpu))
			return VMMU_ENTER_RING_FULL;
		if (unlikely(vcpu_root_load(vcpu) != VMMU_OK))
			return VMMU_ENTER_NOMEM;
	} while (!vcpu_mode_enter(&vcpu->vcpu));
	entry->root = table_entries(vcpu->root);
	entry->format = vm->format;
	entry->levels = vm->levels;
	entry->flush = vcpu->flush;
	entry->poll = &vcpu->vcpu.mode;
	vcpu->flush = false;
	return VMMU_ENTER_RUN;
}

void vmmu_vcpu_leave(struct vmmu_vcpu *vcpu)
{
	vcpu_mode_leave(&vcpu->vcpu);
}

void vmmu_vcpu_kick(struct vmmu_vcpu *vcpu)
{
	vcpu_kick(&vcpu->vcpu);
}

void vmmu_vcpu_address_space_set(struct vmmu_vcpu *vcpu, unsigned address_space)
{
	if (address_space >= vcpu->vcpu.vm->address_spaces || address_space == vcpu->as_id)
		return;
	vcpu_root_drop(vcpu);
	vcpu->as_id = address_space;
	vcpu->mmio.generation = 0;
}

/* SPDX-License-Identifier: MIT */
/* A vCPU on its way into the guest and out of it (P3, P9), and what its guest does to its translations. */
#include <vmmu/nested.h>

#include "core/fault/context.h"
#include "core/fault/vcpu.h"

enum vmmu_status vcpu_context_set(struct vmmu_vcpu *vcpu, const struct context_ops *context)
{
	if (context->init && context->init(vcpu) != VMMU_OK)
		return VMMU_ENOMEM;
	vcpu->context = context;
	/* The address space may have changed while the vCPU had another context. */
	if (context->mode)
		context->mode(vcpu);
	vcpu->flush = true; /* translations of one kind mean nothing under another */
	return VMMU_OK;
}

void vcpu_roots_drop(struct vmmu_vcpu *vcpu, bool only_obsolete)
{
	context_tdp.drop(vcpu, only_obsolete);
	context_shadow.drop(vcpu, only_obsolete);
	context_nested.drop(vcpu, only_obsolete);
}

/* Act on every pending request. Returns: true when the user must be told that the ring is nearly full. */
static bool requests_handle(struct vmmu_vcpu *vcpu)
{
	uint32_t requests = vcpu_requests_take(&vcpu->vcpu);

	if (likely(!requests))
		return false;
	for (uint32_t rest = requests; rest; rest &= rest - 1) /* no popcount: gcc's is a libgcc call */
		vcpu_count(&vcpu->vcpu.stats.requests, 1);
	if (requests & REQ_TLB_FLUSH)
		vcpu->flush = true;
	if (requests & REQ_FREE_OBSOLETE_ROOTS)
		vcpu_roots_drop(vcpu, true); /* exactly those that are obsolete (P3) */
	if (!(requests & REQ_RING_FULL) || !dirty_ring_nearly_full(&vcpu->ring))
		return false;
	vcpu_request(&vcpu->vcpu, REQ_RING_FULL); /* raise it again until the ring has been emptied */
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
		if (unlikely(vcpu->context->load(vcpu, entry) != VMMU_OK))
			return VMMU_ENTER_NOMEM;
	} while (!vcpu_mode_enter(&vcpu->vcpu));
	entry->format = vm->format;
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

enum vmmu_status vmmu_vcpu_address_space_set(struct vmmu_vcpu *vcpu, unsigned address_space)
{
	if (address_space >= vcpu->vcpu.vm->address_spaces)
		return VMMU_EINVAL;
	if (address_space == vcpu->as_id)
		return VMMU_OK;
	vmmu_nested_leave(vcpu); /* guest mode has one address space: L1 was in it at VMRUN */
	vcpu_roots_drop(vcpu, false);
	vcpu->as_id = address_space;
	vcpu->mmio.generation = 0;
	if (vcpu->context->mode)
		vcpu->context->mode(vcpu);
	return VMMU_OK;
}

/* --- what the guest does to its translations. Only a context that shadows its tables has to act --- */

void vmmu_guest_regs_set(struct vmmu_vcpu *vcpu, const struct vmmu_guest_regs *regs, bool keep)
{
	if (vcpu->context->regs_set)
		vcpu->context->regs_set(vcpu, regs, keep);
}

void vmmu_invlpg(struct vmmu_vcpu *vcpu, struct vmmu_gva gva)
{
	struct vm *vm = vcpu->vcpu.vm;
	struct srcu_read token;

	if (!vcpu->context->invlpg)
		return;
	token = srcu_read_lock(&vm->srcu, vcpu->vcpu.id); /* keeps the slots, whose rmaps lose entries */
	vcpu->context->invlpg(vcpu, gva);
	srcu_read_unlock(&vm->srcu, token);
}

void vmmu_invpcid(struct vmmu_vcpu *vcpu, unsigned type, uint64_t pcid, struct vmmu_gva gva)
{
	/* Roots are not kept apart by PCID: remove the page from all of them. */
	(void)pcid;
	if (type == 0)
		vmmu_invlpg(vcpu, gva);
	else if (vcpu->context->flush_all)
		vcpu->context->flush_all(vcpu);
}

bool vmmu_unprotect(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa)
{
	struct vm *vm = vcpu->vcpu.vm;
	struct srcu_read token = srcu_read_lock(&vm->srcu, vcpu->vcpu.id);
	bool any = shadow_unprotect(vm, gpa_to_gfn(gpa));

	srcu_read_unlock(&vm->srcu, token);
	return any;
}

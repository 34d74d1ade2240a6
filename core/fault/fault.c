/* SPDX-License-Identifier: MIT */
/* Faults as the CPU reports them. Each goes to the context of the vCPU (context.h). */
#include "core/fault/fault.h"

#include <vmmu/nested.h>

enum vmmu_page_fault fault_page_get(struct vm *vm, struct fault *fault)
{
	unsigned access = fault->access & (VMMU_READ | VMMU_WRITE | VMMU_NOWAIT);

	switch (vm->host->page_get(vm->host_state, memslot_hva(fault->slot, fault->gfn), access, &fault->page)) {
	case VMMU_OK:
		return (access & VMMU_WRITE) && !fault->page.writable ? VMMU_PAGE_HOST : VMMU_PAGE_FIXED;
	case VMMU_EAGAIN:
		return VMMU_PAGE_RETRY;
	case VMMU_ENOMEM:
		return VMMU_PAGE_NOMEM;
	case VMMU_EBUSY:
		return access & VMMU_NOWAIT ? VMMU_PAGE_WAIT : VMMU_PAGE_HOST;
	default:
		return VMMU_PAGE_HOST;
	}
}

static inline void answer_count(struct vmmu_vcpu *vcpu, enum vmmu_page_fault answer)
{
	if (likely(answer == VMMU_PAGE_FIXED))
		return;
	if (answer == VMMU_PAGE_MMIO)
		vcpu_count(&vcpu->vcpu.stats.mmio, 1);
	else if (answer == VMMU_PAGE_RETRY)
		vcpu_count(&vcpu->vcpu.stats.retried, 1);
	else if (answer == VMMU_PAGE_HOST)
		vcpu_count(&vcpu->vcpu.stats.host, 1);
}

enum vmmu_fault vmmu_fault(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, uint64_t error)
{
	const struct context_ops *context = vcpu->context;
	struct vm *vm = vcpu->vcpu.vm;
	enum vmmu_page_fault answer;
	struct srcu_read token;

	ASSERT(load_relaxed(&vcpu->vcpu.mode) == VCPU_OUTSIDE);
	if (unlikely(vm_is_dead(vm) || !context->fault))
		return VMMU_FAULT_DEAD;
	token = srcu_read_lock(&vm->srcu, vcpu->vcpu.id);
	answer = context->fault(vcpu, memslots_active(vm, vcpu->as_id, token), gpa, error);
	srcu_read_unlock(&vm->srcu, token);
	answer_count(vcpu, answer);
	return (enum vmmu_fault)answer; /* never GUEST: that is an answer about linear addresses */
}

enum vmmu_page_fault vmmu_page_fault(struct vmmu_vcpu *vcpu, struct vmmu_gva gva, uint64_t error, uint32_t pkru,
                                     struct vmmu_page_info *info)
{
	const struct context_ops *context = vcpu->context;
	struct vm *vm = vcpu->vcpu.vm;
	enum vmmu_page_fault answer;
	struct srcu_read token;

	ASSERT(load_relaxed(&vcpu->vcpu.mode) == VCPU_OUTSIDE);
	*info = (struct vmmu_page_info){ 0 };
	if (unlikely(vm_is_dead(vm) || !context->page_fault))
		return VMMU_PAGE_DEAD;
	token = srcu_read_lock(&vm->srcu, vcpu->vcpu.id);
	answer = context->page_fault(vcpu, memslots_active(vm, vcpu->as_id, token), gva, error, pkru, info);
	srcu_read_unlock(&vm->srcu, token);
	answer_count(vcpu, answer);
	return answer;
}

enum vmmu_page_fault vmmu_nested_fault(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, uint64_t error,
                                       struct vmmu_page_info *info)
{
	const struct context_ops *context = vcpu->context;
	struct vm *vm = vcpu->vcpu.vm;
	enum vmmu_page_fault answer;
	struct srcu_read token;

	ASSERT(load_relaxed(&vcpu->vcpu.mode) == VCPU_OUTSIDE);
	*info = (struct vmmu_page_info){ 0 };
	if (unlikely(vm_is_dead(vm) || !context->nested_fault))
		return VMMU_PAGE_DEAD;
	token = srcu_read_lock(&vm->srcu, vcpu->vcpu.id);
	answer = context->nested_fault(vcpu, memslots_active(vm, vcpu->as_id, token), gpa, error, info);
	srcu_read_unlock(&vm->srcu, token);
	answer_count(vcpu, answer);
	vcpu_count(&vcpu->vcpu.stats.nested, 1);
	vcpu_count(&vcpu->vcpu.stats.nested_guest, answer == VMMU_PAGE_GUEST);
	return answer;
}

static enum vmmu_status prefault_page(struct vmmu_vcpu *vcpu, gfn_t gfn)
{
	static const enum vmmu_status status[] = {
		[VMMU_PAGE_FIXED] = VMMU_OK,
		[VMMU_PAGE_RETRY] = VMMU_EAGAIN,
		[VMMU_PAGE_MMIO] = VMMU_ENOENT,
		[VMMU_PAGE_HOST] = VMMU_EFAULT,
		[VMMU_PAGE_NOMEM] = VMMU_ENOMEM,
	};
	struct vm *vm = vcpu->vcpu.vm;
	struct srcu_read token = srcu_read_lock(&vm->srcu, vcpu->vcpu.id);
	enum vmmu_page_fault answer;

	/*
	 * A slot that is being deleted is reported. Do not wait for it here: the thread that deletes it may be
	 * waiting for this read section to end (zoo 15).
	 */
	answer = vcpu->context->prefault(vcpu, memslots_active(vm, vcpu->as_id, token), gfn);
	srcu_read_unlock(&vm->srcu, token);
	return status[answer];
}

enum vmmu_status vmmu_prefault(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, uint64_t bytes, uint64_t *done)
{
	enum vmmu_status status = VMMU_OK;
	struct vmmu_entry entry;

	*done = 0;
	/* Only the guest decides what its own tables map. KVM refuses this, too. */
	if (!vcpu->context->prefault)
		return VMMU_EINVAL;
	if (!bytes || ((gpa.v | bytes) & (PAGE_SIZE - 1)) || gpa.v + bytes < gpa.v ||
	    gpa.v + bytes > BIT(vcpu->vcpu.vm->guest_phys_bits))
		return VMMU_EINVAL;
	while (*done < bytes && status == VMMU_OK) {
		if (vm_is_dead(vcpu->vcpu.vm))
			return VMMU_EDEAD;
		status = vcpu->context->load(vcpu, &entry);
		if (status == VMMU_OK)
			status = prefault_page(vcpu, GFN((gpa.v + *done) >> PAGE_SHIFT));
		if (status == VMMU_OK)
			*done += PAGE_SIZE;
	}
	return status;
}

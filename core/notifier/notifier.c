/* SPDX-License-Identifier: MIT */
#include "core/notifier/notifier.h"

#include <vmmu/notifier.h>

#include "core/memslot/slots.h"
#include "core/shadow/shadow.h"
#include "core/tdp/tdp.h"

enum vmmu_status notifier_init(struct vm *vm)
{
	vm->notifier = vm_alloc(vm, sizeof(*vm->notifier));
	return vm->notifier ? VMMU_OK : VMMU_ENOMEM;
}

void notifier_fini(struct vm *vm)
{
	vm_free(vm, vm->notifier, sizeof(*vm->notifier));
	vm->notifier = NULL;
}

bool notifier_must_retry(const struct mmu_token *token, uint64_t snapshot, hva_t start, hva_t end)
{
	const struct notifier *notifier = token->vm->notifier;

	if (unlikely(notifier->in_progress) && start.v < notifier->end && notifier->start < end.v)
		return true;
	return load_relaxed(&notifier->sequence) != snapshot;
}

static bool span_found(void *arg, const struct memslot_span *span)
{
	(void)arg;
	(void)span;
	return true;
}

/* In the gate, so begin and end of a pair get the same answer (I5.2). */
static bool range_hits_slot(struct vm *vm, hva_t start, hva_t end)
{
	for (unsigned as_id = 0; as_id < vm->address_spaces; as_id++)
		if (memslots_for_each_hva(load_acquire(&vm->slots->active[as_id]), start, end, span_found, NULL)) /* pairs with publication */
			return true;
	return false;
}

/*
 * Both walks let mmu_lock go when others wait. Nothing comes back into the range meanwhile, since it is noted already, and the slot stays, since a set is
 * published only when no invalidation is in the gate.
 */
static bool span_zap(void *arg, const struct memslot_span *span)
{
	struct mmu_write *token = arg;
	gfn_t end = GFN(span->last.v + 1);

	tdp_zap_range(&token->token, span->slot->as_id, span->first, end);
	if (token->token.vm->shadow)
		shadow_zap_range(token, span->slot, span->first, end);
	return false;
}

/* I5.5: before the zap, in one lock section with its beginning: from here on faults in the range are tried again. */
static void notifier_began(struct notifier *notifier, hva_t start, hva_t end)
{
	if (notifier->in_progress++ == 0) {
		notifier->start = start.v;
		notifier->end = end.v;
	} else {
		notifier->start = min_u64(notifier->start, start.v);
		notifier->end = max_u64(notifier->end, end.v);
	}
}

void vmmu_invalidate_begin(struct vmmu_vm *vmmu, struct vmmu_hva start, struct vmmu_hva end)
{
	struct vm *vm = &vmmu->vm;
	struct mmu_write token;

	gate_enter(&vm->slots->gate);
	add_relaxed(&vm->stats.invalidations, 1);
	if (!range_hits_slot(vm, start, end))
		return;
	add_relaxed(&vm->stats.invalidations_hit, 1);
	token = mmu_write_lock(vm);
	notifier_began(vm->notifier, start, end);
	for (unsigned as_id = 0; as_id < vm->address_spaces; as_id++)
		memslots_for_each_hva(load_acquire(&vm->slots->active[as_id]), start, end, span_zap, &token); /* pairs with publication */
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
}

static void notifier_ended(struct vm *vm, struct notifier *notifier)
{
	/* release, and before in_progress falls: a fault that no longer sees the range in progress sees the new sequence (pairs with
	 * notifier_snapshot), P5 */
	add_release(&notifier->sequence, 1);
	if (!VM_BUG(vm, notifier->in_progress == 0)) /* I5.1 */
		notifier->in_progress--;
}

void vmmu_invalidate_end(struct vmmu_vm *vmmu, struct vmmu_hva start, struct vmmu_hva end)
{
	struct vm *vm = &vmmu->vm;

	if (range_hits_slot(vm, start, end)) {
		struct mmu_write token = mmu_write_lock(vm);

		notifier_ended(vm, vm->notifier);
		mmu_write_unlock(&token);
	}
	gate_leave(&vm->slots->gate);
}

struct age {
	struct vm *vm;
	bool clear, young;
};

static bool span_age(void *arg, const struct memslot_span *span)
{
	struct age *age = arg;
	gfn_t end = GFN(span->last.v + 1);

	add_relaxed(&age->vm->stats.ages, end.v - span->first.v);
	if (age->vm->shadow ? shadow_age(age->vm, span->slot, span->first, end, age->clear)
	                    : tdp_age(age->vm, span->slot->as_id, span->first, end, age->clear)) {
		add_relaxed(&age->vm->stats.ages_young, 1);
		age->young = true;
	}
	return age->young && !age->clear;
}

bool vmmu_age(struct vmmu_vm *vmmu, struct vmmu_hva start, struct vmmu_hva end, bool clear)
{
	struct age age = { .vm = &vmmu->vm, .clear = clear };
	struct srcu_read token = srcu_read_lock(&vmmu->vm.srcu, 0);

	for (unsigned as_id = 0; as_id < age.vm->address_spaces; as_id++)
		if (memslots_for_each_hva(memslots_active(age.vm, as_id, token), start, end, span_age, &age))
			break;
	srcu_read_unlock(&vmmu->vm.srcu, token);
	return age.young;
}

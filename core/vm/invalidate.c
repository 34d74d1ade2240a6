/* SPDX-License-Identifier: MIT */
/* The host takes memory away, or asks whether it was used: vmmu_invalidate_* and vmmu_age (P5, P2). */
#include <vmmu/notifier.h>

#include "core/mmu/mmu.h"
#include "core/notifier/notifier.h"
#include "core/vm/vm_int.h"

static bool span_found(void *arg, const struct memslot_span *span)
{
	(void)arg;
	(void)span;
	return true;
}

/* Called in the gate, so that begin and end of a pair get the same answer (I5.2). */
static bool range_hits_slot(struct vm *vm, hva_t start, hva_t end)
{
	for (unsigned as_id = 0; as_id < vm->address_spaces; as_id++)
		/* acquire: pairs with publication */
		if (memslots_for_each_hva(load_acquire(&vm->slots->active[as_id]), start, end, span_found, NULL))
			return true;
	return false;
}

/*
 * The walks drop mmu_lock when others wait. No fault maps into the range meanwhile, because the range is noted
 * already. The slot stays, because a set is published only when no invalidation is in the gate.
 */
static bool span_zap(void *arg, const struct memslot_span *span)
{
	mmu_zap_range(arg, span->slot, span->first, GFN(span->last.v + 1));
	return false;
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
	notifier_began(&token, start, end);
	for (unsigned as_id = 0; as_id < vm->address_spaces; as_id++)
		/* acquire: pairs with publication */
		memslots_for_each_hva(load_acquire(&vm->slots->active[as_id]), start, end, span_zap, &token);
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
	pfn_caches_invalidate(vm, start, end);
}

void vmmu_invalidate_end(struct vmmu_vm *vmmu, struct vmmu_hva start, struct vmmu_hva end)
{
	struct vm *vm = &vmmu->vm;

	if (range_hits_slot(vm, start, end)) {
		struct mmu_write token = mmu_write_lock(vm);

		notifier_ended(&token);
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
	if (mmu_age(age->vm, span->slot, span->first, end, age->clear)) {
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

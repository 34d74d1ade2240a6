/* SPDX-License-Identifier: MIT */
#include "core/notifier/notifier.h"

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

void notifier_began(struct mmu_write *token, hva_t start, hva_t end)
{
	struct notifier *notifier = token->token.vm->notifier;

	if (notifier->in_progress++ == 0) {
		notifier->start = start.v;
		notifier->end = end.v;
	} else {
		notifier->start = min_u64(notifier->start, start.v);
		notifier->end = max_u64(notifier->end, end.v);
	}
}

void notifier_ended(struct mmu_write *token)
{
	struct vm *vm = token->token.vm;
	struct notifier *notifier = vm->notifier;

	/*
	 * release, and before in_progress falls: a fault that no longer sees the range in progress sees the new
	 * sequence. Pairs with the acquire in notifier_snapshot. P5
	 */
	add_release(&notifier->sequence, 1);
	if (!VM_BUG(vm, notifier->in_progress == 0)) /* I5.1 */
		notifier->in_progress--;
}

/* SPDX-License-Identifier: MIT */
/* Host memory events (P5) and aging (P2): what a kernel tells KVM through MMU notifiers. */
#ifndef VMMU_NOTIFIER_H
#define VMMU_NOTIFIER_H

#include <vmmu/types.h>
#include <vmmu/vm.h>

VMMU_BEGIN_DECLS

/**
 * The host is about to change what is behind [start, end). Every begin is followed by one end with the same range, on
 * the same thread or another. Pairs may nest and overlap.
 * After: nothing of the range is mapped and no vCPU can reach it (I5.4), until the end. Sleeps only while vCPUs leave
 * the guest. Allocates nothing: never fails.
 * Cost: O(log slots) if no slot overlaps, without mmu_lock.
 */
void vmmu_invalidate_begin(struct vmmu_vm *vm, struct vmmu_hva start, struct vmmu_hva end);

/** The change is done: faults on the range may be answered again. Never sleeps for long. */
void vmmu_invalidate_end(struct vmmu_vm *vm, struct vmmu_hva start, struct vmmu_hva end);

/**
 * Was a page of [start, end) used since it was last cleared? A hint: takes no mmu_lock, stops no fault, flushes
 * nothing. `clear` also makes the pages old.
 * Returns: true if a page was young.
 */
bool vmmu_age(struct vmmu_vm *vm, struct vmmu_hva start, struct vmmu_hva end, bool clear);

VMMU_END_DECLS

#endif

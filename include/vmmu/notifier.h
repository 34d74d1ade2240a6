/* SPDX-License-Identifier: MIT */
/*
 * Host memory events (P5) and aging (P2): what a kernel tells KVM through MMU notifiers.
 */
#ifndef VMMU_NOTIFIER_H
#define VMMU_NOTIFIER_H

#include <vmmu/types.h>
#include <vmmu/vm.h>

VMMU_BEGIN_DECLS

/**
 * The host is about to change what is behind [start, end). Every begin is followed by one end with the same range,
 * on the same thread or another; pairs may nest and overlap.
 * After: nothing of the range is mapped and no vCPU can reach it (I5.4) until the end.
 * Sleeps only while vCPUs leave the guest. Allocates nothing: never fails.
 * Cost: O(log slots) when no slot overlaps, without mmu_lock.
 */
void vmmu_invalidate_begin(struct vmmu_vm *vm, struct vmmu_hva start, struct vmmu_hva end);

/** The change is done: faults on the range may be answered again. Never sleeps long. */
void vmmu_invalidate_end(struct vmmu_vm *vm, struct vmmu_hva start, struct vmmu_hva end);

/**
 * Was a page of [start, end) used since it was last cleared? Takes no mmu_lock, stops no fault, flushes nothing:
 * it is a hint. `clear` also makes the pages old.
 * Returns: true when one was young.
 */
bool vmmu_age(struct vmmu_vm *vm, struct vmmu_hva start, struct vmmu_hva end, bool clear);

VMMU_END_DECLS

#endif

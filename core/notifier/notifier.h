/* SPDX-License-Identifier: MIT */
/*
 * Invalidations (P5): the host takes memory away, and nothing that was looked up before may be installed after.
 *
 * A fault takes a snapshot of `sequence` before it resolves its page, and under mmu_lock it asks
 * notifier_must_retry. Ranges are host virtual addresses throughout.
 */
#ifndef CORE_NOTIFIER_NOTIFIER_H
#define CORE_NOTIFIER_NOTIFIER_H

#include "core/sync/vm.h"

struct notifier {
	uint64_t sequence;    /* invalidations that ended; written under mmu_lock write, read by anyone */
	uint64_t in_progress; /* invalidations that hit a slot, begun and not ended; mmu_lock */
	uint64_t start, end;  /* covers all of them (I5.5); mmu_lock; meaningless when in_progress is 0 */
};

enum vmmu_status notifier_init(struct vm *vm);
void notifier_fini(struct vm *vm);

/** To be taken before a host page is looked up. 64 bits wide and compared at full width (zoo 9). */
static inline uint64_t notifier_snapshot(const struct vm *vm)
{
	/* acquire: the look-up of the page comes after this. Pairs with the release in notifier_ended. P5 */
	return load_acquire(&vm->notifier->sequence);
}

/**
 * Must a fault start over that took `snapshot` and is about to map the host block [start, end)?
 * Holds: mmu_lock in either mode, until the mapping is installed.
 */
bool notifier_must_retry(const struct mmu_token *token, uint64_t snapshot, hva_t start, hva_t end);

/**
 * An invalidation of [start, end) has begun: from here on faults in the range are retried. Call it before the zap,
 * in the same lock section as the beginning of the zap (I5.5). Holds: mmu_lock write, the gate.
 */
void notifier_began(struct mmu_write *token, hva_t start, hva_t end);

/** An invalidation that hit a slot has ended. Holds: mmu_lock write, the gate. */
void notifier_ended(struct mmu_write *token);

#endif

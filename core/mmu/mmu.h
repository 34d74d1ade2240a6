/* SPDX-License-Identifier: MIT */
/*
 * What happens to the entries of a slot, in every MMU that may have some: the one face of both MMUs.
 *
 * A VM has TDP roots, or shadow pages, or both (nested guests need both). Nobody above this folder asks which. Each function here goes to
 * both MMUs, and an MMU without entries returns at once: TDP in a VM that has no TDP roots (vm->tdp is NULL), the shadow MMU before the VM's
 * first shadow root (arrays_exist, P1).
 *
 * Order. Where one lock section does both, TDP comes first, and one flush follows both. The order is free: no function here reads the one MMU
 * to change the other, and lockless readers of either (P2, P6, the CPU) are answered by that flush. Where TDP must leave faults running and the
 * shadow MMU must stop them, the shadow MMU comes first in a section of its own, so that TDP's longer walk holds mmu_lock for read only.
 */
#ifndef CORE_MMU_MMU_H
#define CORE_MMU_MMU_H

#include "core/memslot/slots.h"
#include "core/sync/vm.h"

/* --- one range (range.c) --- */

/**
 * Zap every leaf of gfns [first, end) of `slot`. Leaves a flush pending. Yields: a range that must stay empty is noted first, as an
 * invalidation does (P5). Holds: mmu_lock write; what keeps the slot (slots_lock, or the gate). Cost: the leaves of the range.
 */
void mmu_zap_range(struct mmu_write *token, const struct memslot *slot, gfn_t first, gfn_t end);

/**
 * Was a leaf of gfns [first, end) used since it was last aged? With `clear`, age every leaf; without, stop at the first MMU that says yes.
 * Without mmu_lock (P2). Holds: SRCU read side.
 */
bool mmu_age(struct vm *vm, const struct memslot *slot, gfn_t first, gfn_t end, bool clear);

/* --- slots that go, and everything (zap.c) --- */

/**
 * Zap what a slot maps that is being deleted or moved: everything there is (P3), or its own range where the VM was made so.
 * Holds: slots_lock. Sleeps. After: no vCPU uses anything that the slot mapped (I3.1).
 */
void mmu_zap_slot(struct vm *vm, const struct memslot *slot);

/**
 * Make every mapping of the VM obsolete and take them apart (P3). Like KVM's kvm_mmu_zap_all_fast. Holds: slots_lock. Sleeps.
 * After: no vCPU uses anything that was mapped when this was called (I3.1, I3.2).
 */
void mmu_zap_all_fast(struct vm *vm);

/* --- dirty logs (log.c, P11). All hold slots_lock --- */

/**
 * The log of `slot` begins: every page of it faults on its next write. Huge leaves are split now, where nobody waits, rather than in faults
 * (F17). With VMMU_DIRTY_INITIALLY_SET nothing is done here: all pages are dirty, and mmu_protect_word does both for those that are cleared
 * (F12). Sleeps, allocates.
 */
void mmu_log_begin(struct vm *vm, const struct memslot *slot);

/** The log of `slot` has ended: leaves become huge again where slot and host allow (F18). Sleeps, allocates; best effort. */
void mmu_log_end(struct vm *vm, const struct memslot *slot);

/**
 * All slots that are logged, as if their logs began now: every page faults on its next write. For a VM with rings. Sleeps.
 * Cost: a walk of all tables.
 */
void mmu_log_begin_again(struct vm *vm);

/*
 * Write protection of many pages in one lock section. It begins with the first page and yields to those that wait. Initialise with the VM
 * alone; end with mmu_protect_end.
 */
struct mmu_protect {
	struct vm *vm;
	struct mmu_read read;
	struct mmu_write write;
	struct mmu_token *token; /* of the one that is held; NULL: none */
	uint64_t split_end;      /* huge leaves before this page of the slot have been split */
};

/**
 * Write-protect the pages of word `word` of a slot whose bit is set in `mask`. Their marks were taken before (dirty_take), so that a page that
 * is written after this is marked anew. Yields.
 */
void mmu_protect_word(struct mmu_protect *p, const struct memslot *slot, uint64_t word, uint64_t mask);

/**
 * Split huge leaves over word `word` if the log began with every page dirty. For speed only: a huge leaf that stays is write-protected with
 * its page. Before mmu_protect_word. Yields, drops mmu_lock to allocate.
 */
void mmu_protect_split(struct mmu_protect *p, const struct memslot *slot, uint64_t word);

/** Between words without a mark: long stretches of a bitmap may have nothing to protect. Yields now and then. */
void mmu_protect_pause(struct mmu_protect *p, uint64_t word);

/** Flush, and let mmu_lock go. After: no CPU writes a page that was protected without a fault. */
void mmu_protect_end(struct mmu_protect *p);

#endif

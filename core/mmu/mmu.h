/* SPDX-License-Identifier: MIT */
/*
 * What happens to the entries of a slot, in every MMU that may have some: the one face of both MMUs.
 *
 * A VM has TDP roots, or shadow pages, or both: nested guests need both. Code above this folder never asks which.
 * Each function here goes to both MMUs, and an MMU without entries returns at once: TDP in a VM that has no TDP
 * roots (vm->tdp is NULL), the shadow MMU before the VM's first shadow root (arrays_exist, P1).
 *
 * Order. Where one lock section does both, TDP comes first, and one flush follows both. The other order would do as
 * well: no function here reads one MMU to change the other, and that flush is what lockless readers of either rely
 * on (P2, P6, the CPU). Where TDP must leave faults running and the shadow MMU must stop them, the shadow MMU comes
 * first, in a section of its own. TDP's longer walk then holds mmu_lock for read only.
 */
#ifndef CORE_MMU_MMU_H
#define CORE_MMU_MMU_H

#include "core/memslot/slots.h"
#include "core/sync/vm.h"

/* --- one range (range.c) --- */

/**
 * Zap every leaf of gfns [first, end) of `slot`. Leaves a flush pending. Yields: if the range must stay empty, the
 * caller has noted it first, as an invalidation does (P5).
 * Holds: mmu_lock write; what keeps the slot (slots_lock, or the gate). Cost: the leaves of the range.
 */
void mmu_zap_range(struct mmu_write *token, const struct memslot *slot, gfn_t first, gfn_t end);

/**
 * Was a leaf of gfns [first, end) used since it was last aged? With `clear`, age every leaf. Without, stop at the
 * first MMU that says yes. Takes no mmu_lock (P2). Holds: SRCU read side.
 */
bool mmu_age(struct vm *vm, const struct memslot *slot, gfn_t first, gfn_t end, bool clear);

/* --- removing a slot, or everything (zap.c) --- */

/**
 * Zap what a slot maps that is being deleted or moved. That is everything in the VM (P3), or only the slot's own
 * range if the VM was made so. Holds: slots_lock. Sleeps. After: no vCPU uses anything that the slot mapped (I3.1).
 */
void mmu_zap_slot(struct vm *vm, const struct memslot *slot);

/**
 * Make every mapping of the VM obsolete and take them apart (P3). Like KVM's kvm_mmu_zap_all_fast.
 * Holds: slots_lock. Sleeps. After: no vCPU uses anything that was mapped when this was called (I3.1, I3.2).
 */
void mmu_zap_all_fast(struct vm *vm);

/* --- dirty logs (log.c, P11). All hold slots_lock --- */

/**
 * The log of `slot` begins: every page of it faults on its next write. Huge leaves are split now, where nobody
 * waits, rather than in faults (F17). With VMMU_DIRTY_INITIALLY_SET nothing is done here: all pages are dirty, and
 * mmu_protect_word protects and mmu_protect_split splits those that are cleared (F12). Sleeps, allocates.
 */
void mmu_log_begin(struct vm *vm, const struct memslot *slot);

/**
 * The log of `slot` has ended: leaves become huge again where slot and host allow (F18). Best effort.
 * Sleeps, allocates.
 */
void mmu_log_end(struct vm *vm, const struct memslot *slot);

/**
 * Begin the logs of all logged slots anew: every page of them faults on its next write. For a VM with rings.
 * Sleeps. Cost: a walk of all tables.
 */
void mmu_log_begin_again(struct vm *vm);

/*
 * Write protection of many pages in one lock section, which begins with the first page and yields to waiters.
 * Initialise with the VM alone; end with mmu_protect_end.
 */
struct mmu_protect {
	struct vm *vm;
	struct mmu_read read;
	struct mmu_write write;
	struct mmu_token *token; /* of `read` or `write`, whichever is held; NULL: neither */
	uint64_t split_end;      /* huge leaves before this page of the slot have been split */
};

/**
 * Write-protect the pages of word `word` of a slot whose bit is set in `mask`. The caller has taken their marks
 * already (dirty_take), so a page that is written after this is marked anew. Yields.
 */
void mmu_protect_word(struct mmu_protect *p, const struct memslot *slot, uint64_t word, uint64_t mask);

/**
 * Split huge leaves over word `word` if the log began with every page dirty. Call it before mmu_protect_word. For
 * speed only: a huge leaf that stays is write-protected with its page. Yields, drops mmu_lock to allocate.
 */
void mmu_protect_split(struct mmu_protect *p, const struct memslot *slot, uint64_t word);

/** Call it for a word without a mark: a long stretch of a bitmap may have nothing to protect. Yields now and then. */
void mmu_protect_pause(struct mmu_protect *p, uint64_t word);

/** Flush, and drop mmu_lock. After: no CPU writes a protected page without a fault. */
void mmu_protect_end(struct mmu_protect *p);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * mmu_lock: the reader-writer lock over a VM's tables, and the tokens that prove it is held.
 *
 * Readers are vCPUs that install entries by compare-and-swap. Writers are invalidations and other work that must
 * exclude them. Readers count on stripes of their own, so two vCPUs that fault on different pages do not share a cache
 * line.
 *
 * Neither side starves. A waiting writer keeps new readers out, and the next writer lets waiting readers in first. A
 * reader spins for about as long as a writer should take. After that it counts as a waiter, and at most one writer
 * passes it. Writers have no order among themselves.
 *
 * A token also carries the TLB flush that its holder owes. The unlock functions catch an unlock with a flush pending,
 * so nobody can drop the lock and forget the flush.
 */
#ifndef CORE_SYNC_MMU_LOCK_H
#define CORE_SYNC_MMU_LOCK_H

#include "core/base/list.h"
#include "core/base/types.h"
#include "core/sync/mutex.h"

struct vm;

#define MMU_LOCK_STRIPES READER_STRIPES

struct mmu_lock_stripe {
	uint32_t readers;
} cacheline;

struct mmu_lock {
	struct mmu_lock_stripe stripe[MMU_LOCK_STRIPES];
	cacheline uint32_t writer; /* 1 while a writer holds the lock or waits for readers to leave */
	uint32_t waiters;          /* readers that sleep or are about to; the next writer lets them in first */
	struct mutex writers;      /* one writer at a time */
};

void mmu_lock_init(struct mmu_lock *lock);

/* What both kinds of holder have in common: the VM, and what the holder owes it. */
struct mmu_token {
	struct vm *vm;
	struct list *dead; /* tables unlinked under this lock, chained by `next`: given back only after a flush */
	bool flush;        /* a TLB may hold what an entry no longer says */
	bool write;
	unsigned stripe;
};

/*
 * Proof of holding mmu_lock for write: nobody else reads or writes tables but the lockless parties (P2, P6, hardware).
 */
struct mmu_write {
	struct mmu_token token;
};

/* Proof of holding mmu_lock for read. */
struct mmu_read {
	struct mmu_token token;
};

/** Take mmu_lock. Sleeps at most as long as the holders work; holders do not sleep. */
struct mmu_write mmu_write_lock(struct vm *vm);
/** `hint` as in srcu_read_lock. */
struct mmu_read mmu_read_lock(struct vm *vm, unsigned hint);

/** Release the lock. The flush must have been done before (mmu_flush). */
void mmu_write_unlock(struct mmu_write *token);
void mmu_read_unlock(struct mmu_read *token);

/**
 * Does any thread wait for the lock that the token holds? Two or three relaxed loads. A hint: it may lag behind by as
 * long as a waiter spins.
 */
bool mmu_lock_contended(const struct mmu_token *token);

/**
 * Flush what the token owes, release the lock, let other threads have it, and take it again in the same mode.
 * After: nothing that was read from tables before may be trusted.
 */
void mmu_yield(struct mmu_token *token);

/** The two halves of mmu_yield, for a caller that must allocate in between. mmu_drop flushes. */
void mmu_drop(struct mmu_token *token);
void mmu_retake(struct mmu_token *token);

/**
 * If the token owes a flush, flush the TLBs of every vCPU, and wait until every vCPU in the guest has taken note. Then
 * give back, through RCU, the tables that waited for the flush.
 */
void mmu_flush(struct mmu_token *token);

/** Free by RCU the table whose link this is. Supplied by core/table. */
void mmu_retire(struct list *link);

#endif

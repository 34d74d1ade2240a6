/* SPDX-License-Identifier: MIT */
#include "core/sync/mmu_lock.h"

#include "core/sync/request.h"
#include "core/sync/vm.h"

#define SPINS SPIN_LIMIT(200)

void mmu_lock_init(struct mmu_lock *lock)
{
	*lock = (struct mmu_lock){ 0 };
}

/*
 * How a reader and a writer meet (store buffering, with full ordering on both sides):
 *
 *     reader: readers++ ; look at writer        writer: writer = 1 ; look at readers
 *
 * At least one of them sees the other. A reader that sees a writer steps back and waits for it.
 */
static bool read_try(struct mmu_lock *lock, uint32_t *readers)
{
	/* full: pairs with write_lock's store of `writer` */
	add_seqcst(readers, 1);
	if (likely(!load_seqcst(&lock->writer)))
		return true;
	/* The writer may sleep until this very count is 0. */
	if (sub_acqrel(readers, 1) == 1)
		port_wake(readers);
	return false;
}

/*
 * Why a reader does not starve. It counts itself among the waiters, and then tries:
 *
 *     reader: waiters++ ; look at writer        writer: look at waiters ; writer = 1 ; ... ; writer = 0
 *
 * A writer that looks at the waiters after this count does not come in. One writer may have looked just before it and
 * pass the reader. The reader then meets that writer, so its count was out before that writer left, and the next
 * writer looks only later. So at most one writer passes a counted reader.
 *
 * Writers do not starve either. Only a reader that met a writer becomes a waiter, and no reader can meet a writer that
 * still waits for the waiters.
 */
static void read_wait(struct mmu_lock *lock, uint32_t *readers)
{
	/*
	 * full on both: the count must be out before `writer` is looked at, or the writer could skip the wake-up and
	 * the next writer could come first. Pairs with write_unlock and write_lock.
	 */
	add_seqcst(&lock->waiters, 1);
	do
		while (load_seqcst(&lock->writer))
			port_wait(&lock->writer, 1);
	while (!read_try(lock, readers));
	/* A writer may sleep until this very count is 0. Pairs with readers_wait. */
	if (sub_acqrel(&lock->waiters, 1) == 1)
		port_wake(&lock->waiters);
}

static void read_lock(struct mmu_lock *lock, unsigned stripe)
{
	uint32_t *readers = &lock->stripe[stripe].readers;

	if (likely(read_try(lock, readers)))
		return;
	for (int i = 0; i < SPINS; i++) {
		if (!load_relaxed(&lock->writer) && read_try(lock, readers))
			return;
		port_pause();
	}
	read_wait(lock, readers);
}

static void read_unlock(struct mmu_lock *lock, unsigned stripe)
{
	uint32_t *readers = &lock->stripe[stripe].readers;

	/*
	 * full: the section ends before the count says so, and the count is out before `writer` is looked at. Pairs
	 * with write_lock and readers_wait.
	 */
	add_seqcst(readers, -1u);
	if (unlikely(load_seqcst(&lock->writer)))
		port_wake(readers);
}

/* Wait until a count of readers is 0. The reader that takes it to 0 wakes the waiter. */
static void readers_wait(uint32_t *readers)
{
	for (int spins = 0;; spins++) {
		uint32_t count = load_seqcst(readers); /* acquire part: pairs with read_unlock */

		if (count == 0)
			return;
		if (spins < SPINS)
			port_pause();
		else
			port_wait(readers, count);
	}
}

static void write_lock(struct mmu_lock *lock)
{
	mutex_lock(&lock->writers);
	readers_wait(&lock->waiters);   /* full: waiting readers go first; pairs with read_wait */
	store_seqcst(&lock->writer, 1); /* full: pairs with read_try and read_unlock */
	for (int i = 0; i < MMU_LOCK_STRIPES; i++)
		readers_wait(&lock->stripe[i].readers);
}

static void write_unlock(struct mmu_lock *lock)
{
	/*
	 * release part: a reader that sees 0 also sees all that the writer did; pairs with read_try's load. full: 0 is
	 * out before `waiters` is looked at; pairs with read_wait.
	 */
	store_seqcst(&lock->writer, 0);
	if (load_seqcst(&lock->waiters))
		port_wake(&lock->writer);
	mutex_unlock(&lock->writers);
}

struct mmu_write mmu_write_lock(struct vm *vm)
{
	write_lock(&vm->mmu_lock);
	return (struct mmu_write){ { .vm = vm, .write = true } };
}

struct mmu_read mmu_read_lock(struct vm *vm, unsigned hint)
{
	unsigned stripe = hint % MMU_LOCK_STRIPES;

	read_lock(&vm->mmu_lock, stripe);
	return (struct mmu_read){ { .vm = vm, .stripe = stripe } };
}

void mmu_write_unlock(struct mmu_write *token)
{
	VM_BUG(token->token.vm, token->token.flush);
	mmu_flush(&token->token);
	write_unlock(&token->token.vm->mmu_lock);
	token->token.vm = NULL;
}

void mmu_read_unlock(struct mmu_read *token)
{
	VM_BUG(token->token.vm, token->token.flush);
	mmu_flush(&token->token);
	read_unlock(&token->token.vm->mmu_lock, token->token.stripe);
	token->token.vm = NULL;
}

bool mmu_lock_contended(const struct mmu_token *token)
{
	const struct mmu_lock *lock = &token->vm->mmu_lock;

	return mutex_is_contended(&lock->writers) || load_relaxed(&lock->waiters) ||
	       (!token->write && load_relaxed(&lock->writer));
}

void mmu_drop(struct mmu_token *token)
{
	mmu_flush(token);
	if (token->write)
		write_unlock(&token->vm->mmu_lock);
	else
		read_unlock(&token->vm->mmu_lock, token->stripe);
}

void mmu_retake(struct mmu_token *token)
{
	if (token->write)
		write_lock(&token->vm->mmu_lock);
	else
		read_lock(&token->vm->mmu_lock, token->stripe);
}

void mmu_yield(struct mmu_token *token)
{
	mmu_drop(token);
	port_yield();
	mmu_retake(token);
}

void mmu_flush(struct mmu_token *token)
{
	if (token->flush) {
		token->flush = false;
		vcpus_flush(token->vm);
	}
	while (token->dead) {
		struct list *link = token->dead;

		token->dead = link->next;
		mmu_retire(link);
	}
}

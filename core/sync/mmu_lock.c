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
 * Reader and writer meet like this (store buffering, both sides with full ordering):
 *
 *     reader: readers++ ; look at writer        writer: writer = 1 ; look at readers
 *
 * At least one of them sees the other. A reader that sees a writer steps back and waits for it.
 */
static void read_wait(struct mmu_lock *lock)
{
	for (int i = 0; i < SPINS; i++) {
		if (!load_relaxed(&lock->writer))
			return;
		port_pause();
	}
	/* full, both: the count is out before `writer` is looked at (pairs with write_unlock), or the wake-up could be skipped */
	add_seqcst(&lock->waiters, 1);
	while (load_seqcst(&lock->writer))
		port_wait(&lock->writer, 1);
	add_relaxed(&lock->waiters, -1u);
}

static void read_lock(struct mmu_lock *lock, unsigned stripe)
{
	uint32_t *readers = &lock->stripe[stripe].readers;

	for (;;) {
		/* full: pairs with write_lock's store of `writer` */
		add_seqcst(readers, 1);
		if (likely(!load_seqcst(&lock->writer)))
			return;
		/* The writer may be asleep waiting for this very count. */
		if (sub_acqrel(readers, 1) == 1)
			port_wake(readers);
		read_wait(lock);
	}
}

static void read_unlock(struct mmu_lock *lock, unsigned stripe)
{
	uint32_t *readers = &lock->stripe[stripe].readers;

	/* full: the section is over before the count says so, and the count is out before `writer` is looked at (pairs with write_lock) */
	add_seqcst(readers, -1u);
	if (unlikely(load_seqcst(&lock->writer)))
		port_wake(readers);
}

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
	store_seqcst(&lock->writer, 1); /* full: pairs with read_lock and read_unlock */
	for (int i = 0; i < MMU_LOCK_STRIPES; i++)
		readers_wait(&lock->stripe[i].readers);
}

static void write_unlock(struct mmu_lock *lock)
{
	/* release part: readers that see 0 see all that the writer did (read_lock's load). full: 0 is out before `waiters` is looked at
	 * (pairs with read_wait) */
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

	return mutex_is_contended(&lock->writers) || load_relaxed(&lock->waiters) || (!token->write && load_relaxed(&lock->writer));
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

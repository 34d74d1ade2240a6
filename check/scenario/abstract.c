/* SPDX-License-Identifier: MIT */
/*
 * Each of these calls is one step of the checker, unless the library's own lock was asked for. The file is
 * instrumented all the same: meson.build says why.
 *
 * mmu_drop, mmu_retake and mmu_yield are wrapped one by one: the linker does not see the
 * calls within sync/mmu_lock.c.
 */
#include "check/scenario/abstract.h"

#include "check/check.h"
#include "core/sync/vm.h"

/* The linker calls the function defined here __wrap_fn, and the library's own __real_fn. */
#define WRAP(result, fn, args)                                 \
	result real_##fn args __asm__("__real_" #fn);          \
	result wrap_##fn args __asm__("__wrap_" #fn);          \
	result wrap_##fn args

static unsigned real; /* written in setup only */

void abstract_init(unsigned flags)
{
	real = flags;
	port_spin_limit = flags & SPIN_ONCE ? 1 : 0;
}

WRAP(void, mutex_lock, (struct mutex *mutex))
{
	if (real & REAL_MUTEX)
		real_mutex_lock(mutex);
	else
		check_lock(mutex, true);
}

WRAP(void, mutex_unlock, (struct mutex *mutex))
{
	if (real & REAL_MUTEX)
		real_mutex_unlock(mutex);
	else
		check_unlock(mutex, true);
}

WRAP(struct mmu_write, mmu_write_lock, (struct vm *vm))
{
	if (real & REAL_MMU_LOCK)
		return real_mmu_write_lock(vm);
	check_rw_lock(&vm->mmu_lock, true);
	return (struct mmu_write){ { .vm = vm, .write = true } };
}

WRAP(struct mmu_read, mmu_read_lock, (struct vm *vm, unsigned hint))
{
	if (real & REAL_MMU_LOCK)
		return real_mmu_read_lock(vm, hint);
	check_rw_lock(&vm->mmu_lock, false);
	return (struct mmu_read){ { .vm = vm, .stripe = hint % MMU_LOCK_STRIPES } };
}

static void settle(struct mmu_token *token)
{
	if (token->flush)
		check_fail("mmu_lock let go with a flush pending");
	mmu_flush(token);
}

WRAP(void, mmu_write_unlock, (struct mmu_write *write))
{
	struct mmu_token *token = &write->token;

	if (real & REAL_MMU_LOCK) {
		real_mmu_write_unlock(write);
		return;
	}
	settle(token);
	check_rw_unlock(&token->vm->mmu_lock, true);
}

WRAP(void, mmu_read_unlock, (struct mmu_read *read))
{
	struct mmu_token *token = &read->token;

	if (real & REAL_MMU_LOCK) {
		real_mmu_read_unlock(read);
		return;
	}
	settle(token);
	check_rw_unlock(&token->vm->mmu_lock, false);
}

static bool contended(void)
{
	static bool was[CHECK_MAX_THREADS]; /* plain: one for each thread */
	bool *mine = &was[check_self()];

	if (*mine)
		return false;
	*mine = check_choose(2);
	return *mine;
}

WRAP(bool, mmu_lock_contended, (const struct mmu_token *token))
{
	if (real & MAY_CONTEND)
		return check_self() >= 0 && contended();
	return (real & REAL_MMU_LOCK) && real_mmu_lock_contended(token);
}

WRAP(void, mmu_drop, (struct mmu_token *token))
{
	if (real & REAL_MMU_LOCK) {
		real_mmu_drop(token);
		return;
	}
	mmu_flush(token);
	check_rw_unlock(&token->vm->mmu_lock, token->write);
}

WRAP(void, mmu_retake, (struct mmu_token *token))
{
	if (real & REAL_MMU_LOCK)
		real_mmu_retake(token);
	else
		check_rw_lock(&token->vm->mmu_lock, token->write);
}

WRAP(void, mmu_yield, (struct mmu_token *token))
{
	if (real & REAL_MMU_LOCK) {
		real_mmu_yield(token);
		return;
	}
	wrap_mmu_drop(token);
	wrap_mmu_retake(token);
}

WRAP(struct srcu_read, srcu_read_lock, (struct srcu *srcu, unsigned hint))
{
	if (real & REAL_SRCU)
		return real_srcu_read_lock(srcu, hint);
	check_rcu_read_lock(srcu);
	return (struct srcu_read){ 0 };
}

WRAP(void, srcu_read_unlock, (struct srcu *srcu, struct srcu_read token))
{
	if (real & REAL_SRCU)
		real_srcu_read_unlock(srcu, token);
	else
		check_rcu_read_unlock(srcu);
}

WRAP(void, srcu_synchronize, (struct srcu *srcu))
{
	if (real & REAL_SRCU)
		real_srcu_synchronize(srcu);
	else
		check_synchronize(srcu);
}

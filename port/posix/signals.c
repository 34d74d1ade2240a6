/* SPDX-License-Identifier: MIT */
/*
 * The library's handlers of SIGSEGV and SIGBUS, for an application that leaves them to the library.
 *
 * The handlers found, now and later, are kept in chains that only grow, because a handler may run on any thread and
 * reads them without a lock. A handler that was installed over ours may have been told of ours, and may call ours for
 * a fault that is not its own. Such a call goes on to the handler before it.
 */
#include "port/posix/signals.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include <vmmu/posix.h>

#include "port/posix/fork.h"
#include "port/posix/lock.h"
#include "port/posix/probe.h"
#include "port/posix/raw.h"

struct found {
	struct sigaction action;
	struct found *older; /* the one that it may believe it replaced; NULL: the default */
	struct found *next;  /* of all */
};

static const int numbers[2] = { SIGSEGV, SIGBUS };
static struct posix_lock lock = POSIX_LOCK_INIT; /* for all but reading `current` and what it leads to */
static struct found *all[2];
static struct found *current[2]; /* our handler hands on to it; NULL: to none */

/* The handler that our handler, running on this thread, has handed on to. */
static __thread struct found *handed_to;

atomic_bool posix_signals_owned;

static unsigned index_of(int number)
{
	return number == SIGBUS;
}

static void handler(int number, siginfo_t *info, void *context);

static bool is_ours(const struct sigaction *action)
{
	return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == handler;
}

/* --- a fault that is not ours --- */

static void default_action(int number, const siginfo_t *info)
{
	struct sigaction none = { .sa_handler = SIG_DFL };

	sigaction(number, &none, NULL);
	/* The processor's own fault comes again, with no handler in its way. A sent signal must be sent again. */
	if (info->si_code <= 0)
		raise(number);
}

/* Call a handler as the kernel would. */
static void handler_call(const struct found *found, int number, siginfo_t *info, void *context)
{
	const struct sigaction *action = &found->action;
	sigset_t block = action->sa_mask;

	if (!(action->sa_flags & SA_NODEFER))
		sigaddset(&block, number);
	pthread_sigmask(SIG_BLOCK, &block, NULL); /* until the kernel restores the context's mask */
	if (action->sa_flags & SA_SIGINFO)
		action->sa_sigaction(number, info, context);
	else
		action->sa_handler(number);
}

static void hand_on(struct found *found, int number, siginfo_t *info, void *context)
{
	struct found *before = handed_to;

	if (found && found->action.sa_handler == SIG_IGN && info->si_code <= 0)
		return;
	/* A fault of the processor's cannot be ignored. */
	if (!found || found->action.sa_handler == SIG_DFL || found->action.sa_handler == SIG_IGN) {
		default_action(number, info);
		return;
	}
	if (found->action.sa_flags & (int)SA_RESETHAND)
		__atomic_store_n(&current[index_of(number)], NULL, __ATOMIC_RELEASE); /* pairs with handler */
	handed_to = found;
	handler_call(found, number, info, context);
	handed_to = before;
}

static void handler(int number, siginfo_t *info, void *context)
{
	/*
	 * On x86-64 the kernel puts the context right above the return address. If it is elsewhere, our caller is a
	 * handler that we handed on to.
	 */
	bool by_kernel = (char *)context == (char *)__builtin_frame_address(0) + 2 * sizeof(void *);
	int saved = errno;

	if (!posix_probe_signal(number, info, context)) {
		/* acquire: pairs with handler_found */
		struct found *found = by_kernel ? __atomic_load_n(&current[index_of(number)], __ATOMIC_ACQUIRE) :
		                      handed_to ? handed_to->older : NULL;

		hand_on(found, number, info, context);
	}
	errno = saved;
}

/* --- taking the signals --- */

static bool same_action(const struct sigaction *a, const struct sigaction *b)
{
	return a->sa_sigaction == b->sa_sigaction && a->sa_flags == b->sa_flags &&
	       !memcmp(&a->sa_mask, &b->sa_mask, sizeof(uint64_t));
}

/* Holds: lock. Returns: NULL without memory. */
static struct found *found_make(unsigned i, const struct sigaction *action)
{
	struct found *found;

	/* Is it one that was replaced earlier? Then its successors are forgotten. */
	for (found = current[i]; found; found = found->older)
		if (same_action(&found->action, action))
			return found;
	for (found = all[i]; found; found = found->next)
		if (found->older == current[i] && same_action(&found->action, action))
			return found;
	found = raw_mmap(sizeof(*found));
	if (!found)
		return NULL;
	*found = (struct found){ *action, current[i], all[i] };
	all[i] = found;
	return found;
}

/* Holds: lock. */
static bool handler_found(unsigned i, const struct sigaction *action)
{
	struct found *found = found_make(i, action);

	if (found)
		__atomic_store_n(&current[i], found, __ATOMIC_RELEASE); /* release: pairs with handler */
	return found;
}

static void signal_take(unsigned i)
{
	struct sigaction ours = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK }, now;

	sigemptyset(&ours.sa_mask);
	/* Record the handler before replacing it: another thread may fault at once. Without memory, leave it. */
	if (sigaction(numbers[i], NULL, &now) || is_ours(&now) || !handler_found(i, &now))
		return;
	/* The application may have installed another one meanwhile. */
	if (sigaction(numbers[i], &ours, &now) == 0 && !is_ours(&now))
		handler_found(i, &now);
}

void posix_signals_take(void)
{
	struct sigaction now;

	for (unsigned i = 0; i < 2; i++) {
		if (sigaction(numbers[i], NULL, &now) || is_ours(&now))
			continue;
		posix_lock(&lock);
		signal_take(i);
		posix_unlock(&lock);
	}
}

void signals_fork(enum fork_step step)
{
	if (step == FORK_PREPARE)
		posix_lock(&lock);
	else
		posix_unlock(&lock);
}

/* --- the application's own --- */

void vmmu_posix_signals_own(void)
{
	atomic_store_explicit(&posix_signals_owned, true, memory_order_relaxed);
}

bool vmmu_posix_signal(int signal, void *info, void *context)
{
	return posix_probe_signal(signal, info, context);
}

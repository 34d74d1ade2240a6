/* SPDX-License-Identifier: MIT */
/*
 * The older functions that install a handler. Each calls our sigaction, because libc's own would bypass the
 * wrapper. Programs that ask for strict POSIX call __sysv_signal for signal.
 */
#include "kvm/interpose/interpose.h"
#include "kvm/process/signals.h"
#include <errno.h>
#include <stdatomic.h>

/* by siginterrupt: the signals whose handlers, installed by signal, end system calls */
static _Atomic uint64_t interrupting;

static sighandler_t install(int number, sighandler_t handler, int flags, bool block)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = flags }, old;

	if (handler == SIG_ERR) {
		errno = EINVAL;
		return SIG_ERR;
	}
	sigemptyset(&action.sa_mask);
	if (block)
		sigaddset(&action.sa_mask, number);
	return sigaction(number, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

static sighandler_t bsd(int number, sighandler_t handler)
{
	bool interrupts = number > 0 && number < NSIG && atomic_load(&interrupting) & signals_bit(number);

	return install(number, handler, interrupts ? 0 : SA_RESTART, true);
}

#define DEFINE_SIGNAL(name, how)                                                                                   \
	EXPORT sighandler_t name(int number, sighandler_t handler);                                                \
	EXPORT sighandler_t name(int number, sighandler_t handler)                                                 \
	{                                                                                                          \
		return how;                                                                                        \
	}

// clang-format off
DEFINE_SIGNAL(signal, bsd(number, handler))
DEFINE_SIGNAL(bsd_signal, bsd(number, handler))
DEFINE_SIGNAL(ssignal, bsd(number, handler))
DEFINE_SIGNAL(sysv_signal, install(number, handler, SA_RESETHAND | SA_NODEFER, false))
DEFINE_SIGNAL(__sysv_signal, install(number, handler, SA_RESETHAND | SA_NODEFER, false))
// clang-format on

EXPORT int siginterrupt(int number, int interrupt)
{
	struct sigaction action;

	if (sigaction(number, NULL, &action) != 0)
		return -1;
	if (interrupt) {
		atomic_fetch_or(&interrupting, signals_bit(number));
		action.sa_flags &= ~(int)SA_RESTART;
	} else {
		atomic_fetch_and(&interrupting, ~signals_bit(number));
		action.sa_flags |= SA_RESTART;
	}
	return sigaction(number, &action, NULL);
}

EXPORT int sigignore(int number)
{
	return install(number, SIG_IGN, 0, false) == SIG_ERR ? -1 : 0;
}

EXPORT sighandler_t sigset(int number, sighandler_t handler)
{
	struct sigaction now;
	sigset_t set, blocked;
	sighandler_t before;

	sigemptyset(&set);
	if (sigaddset(&set, number) != 0)
		return SIG_ERR;
	if (handler == SIG_HOLD) {
		if (sigaction(number, NULL, &now) != 0 || sigprocmask(SIG_BLOCK, &set, &blocked) != 0)
			return SIG_ERR;
		return sigismember(&blocked, number) ? SIG_HOLD : now.sa_handler;
	}
	before = install(number, handler, 0, false);
	if (before == SIG_ERR || sigprocmask(SIG_UNBLOCK, &set, &blocked) != 0)
		return SIG_ERR;
	return sigismember(&blocked, number) ? SIG_HOLD : before;
}

/* SPDX-License-Identifier: MIT */
/*
 * The older functions that install a handler. Each calls our sigaction, because libc's own would bypass the
 * wrapper. Programs that ask for strict POSIX call __sysv_signal for signal.
 */
#include "kvm/interpose/interpose.h"
#include "kvm/process/handlers.h"
#include "kvm/process/hosted.h"
#include "kvm/process/signals.h"
#include "kvm/process/sys.h"
#include "kvm/process/user.h"
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

/* ---- syscall(2) -------------------------------------------------------------------------------- */

static long change(int number, unsigned long new_one, unsigned long old_one)
{
	struct handlers_kernel kernel;
	struct sigaction action, old;

	if (new_one && user_read(&kernel, new_one, sizeof(kernel)) != 0)
		return -EFAULT;
	if (new_one)
		handlers_from_kernel(&kernel, &action);
	if (handlers_change(number, new_one ? &action : NULL, &old) != 0)
		return -errno;
	handlers_to_kernel(&old, &kernel);
	return old_one && user_write(old_one, &kernel, sizeof(kernel)) != 0 ? -EFAULT : 0;
}

/* The mask that the client sets, but for the signals that stay open. */
static long mask(const long a[6])
{
	uint64_t set;

	if (!a[1] || a[0] == SIG_UNBLOCK || a[3] != sizeof(set))
		return SYS4(SYS_rt_sigprocmask, a[0], a[1], a[2], a[3]);
	if (user_read(&set, (unsigned long)a[1], sizeof(set)) != 0)
		return -EFAULT;
	set &= ~signals_open();
	return SYS4(SYS_rt_sigprocmask, a[0], &set, a[2], a[3]);
}

bool syscall_signal(long number, const long a[6], long *result)
{
	const int which = (int)a[0];

	if (!hosted_on)
		return false; /* a program with libc uses libc's functions, and these calls may be libc's own */
	switch (number) {
	case SYS_rt_sigaction:
		if (a[3] != sizeof(uint64_t) || which < 1 || which >= NSIG || which == SIGKILL || which == SIGSTOP)
			return false;
		*result = change(which, (unsigned long)a[1], (unsigned long)a[2]);
		return true;
	case SYS_rt_sigprocmask:
		*result = mask(a);
		return true;
	default:
		return false;
	}
}

/* SPDX-License-Identifier: MIT */
/* Which handlers get SIGSEGV and SIGBUS. vmmu/posix.h tells the application about it. */
#ifndef PORT_POSIX_SIGNALS_H
#define PORT_POSIX_SIGNALS_H

#include <stdatomic.h>
#include <stdbool.h>

/* Set by vmmu_posix_signals_own. */
extern atomic_bool posix_signals_owned;

/** Make the library's handlers the installed ones. Sleeps only for other threads that do the same. */
void posix_signals_take(void);

static inline bool posix_signals_are_owned(void)
{
	return atomic_load_explicit(&posix_signals_owned, memory_order_relaxed);
}

/* Call it before an access that may fault. */
static inline void posix_signals_guard(void)
{
	if (!posix_signals_are_owned())
		posix_signals_take();
}

#endif

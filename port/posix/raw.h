/* SPDX-License-Identifier: MIT */
/*
 * System calls past libc. In a program under the preload library the names mmap, munmap and syscall are that library's
 * own. It takes calls of these for changes of guest memory, and our calls are none. Also, errno is left alone: it is
 * the interrupted program's.
 */
#ifndef PORT_POSIX_RAW_H
#define PORT_POSIX_RAW_H

#include <linux/futex.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

/** Returns: what the kernel returned, a value or -errno. */
static inline long raw_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
	                 : "=a"(result)
	                 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
	                 : "rcx", "r11", "memory");
	return result;
}

/** A moment of sleep, as short as the kernel makes it (some 50 us), by a futex that nobody wakes. */
static inline void raw_rest(void)
{
	static const uint32_t word;
	const struct timespec moment = { .tv_nsec = 1000 };

	raw_syscall(SYS_futex, (long)(uintptr_t)&word, FUTEX_WAIT_PRIVATE, 0, (long)(uintptr_t)&moment, 0, 0);
}

/** Block every signal of this thread. Threads that it makes inherit this. Returns: the mask before. */
static inline uint64_t raw_signals_block(void)
{
	uint64_t all = ~UINT64_C(0), old = 0;

	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)(uintptr_t)&all, (long)(uintptr_t)&old, sizeof(old), 0, 0);
	return old;
}

static inline void raw_signals_restore(uint64_t mask)
{
	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)(uintptr_t)&mask, 0, sizeof(mask), 0, 0);
}

/** Private zeroed memory, not reserved. Returns: NULL if there is none. */
void *raw_mmap(size_t bytes);
void raw_munmap(void *at, size_t bytes);

#endif

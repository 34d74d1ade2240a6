/* SPDX-License-Identifier: MIT */
/*
 * System calls made directly, not through libc: the front end stands in for libc's own functions, so a call by name would
 * come back to it. Every one returns what the kernel returned: a value, or -errno.
 */
#ifndef VMMU_KVM_SYS_H
#define VMMU_KVM_SYS_H

#include <sys/syscall.h>
#include <sys/types.h>
#include <stddef.h>
#include <stdint.h>

static inline long sys_call(long number, long a, long b, long c, long d, long e, long f)
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

#define SYS0(n)                sys_call(n, 0, 0, 0, 0, 0, 0)
#define SYS1(n, a)             sys_call(n, (long)(a), 0, 0, 0, 0, 0)
#define SYS2(n, a, b)          sys_call(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define SYS3(n, a, b, c)       sys_call(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define SYS4(n, a, b, c, d)    sys_call(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define SYS5(n, a, b, c, d, e) sys_call(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define SYS6(n, a, b, c, d, e, f)                                                                                  \
	sys_call(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* The value, or -1 with errno set: what libc's function of the same name answers. */
long sys_result(long result);

#endif

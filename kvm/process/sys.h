/* SPDX-License-Identifier: MIT */
/*
 * System calls made directly, not through libc. The front end stands in for libc's functions, so a call by name
 * would come back to it. Each returns what the kernel returned: a value, or -errno.
 */
#ifndef VMMU_KVM_SYS_H
#define VMMU_KVM_SYS_H

#include <sys/types.h>
#include <stddef.h>
#include <stdint.h>

#include "port/posix/raw.h"

#define SYS0(n)                raw_syscall(n, 0, 0, 0, 0, 0, 0)
#define SYS1(n, a)             raw_syscall(n, (long)(a), 0, 0, 0, 0, 0)
#define SYS2(n, a, b)          raw_syscall(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define SYS3(n, a, b, c)       raw_syscall(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define SYS4(n, a, b, c, d)    raw_syscall(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define SYS5(n, a, b, c, d, e) raw_syscall(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define SYS6(n, a, b, c, d, e, f)                                                                                  \
	raw_syscall(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* The value, or -1 with errno set, as libc's function would return it. */
long sys_result(long result);

#endif

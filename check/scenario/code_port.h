/* SPDX-License-Identifier: MIT */
/*
 * What cpu/memory/codemap.c and cpu/base/turns.c are compiled with for the checker, by -include: their calls of libc
 * and of the kernel lead to the checker. Their loops look once before they sleep.
 */
#ifndef CHECK_SCENARIO_CODE_PORT_H
#define CHECK_SCENARIO_CODE_PORT_H

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define TURNS_SPINS 1u

/** A futex whose wake-up wakes all: that the bits of FUTEX_WAKE_BITSET fit is not checked. */
long code_futex(long number, ...);
/** Zeroed memory. A mapping of more than a page or two is cut short: what is used of it is the beginning. */
void *code_map(size_t bytes);
void *code_alloc(size_t bytes);
void code_free(void *memory);
int *code_errno(void);
struct vmmu_vcpu;
void code_kick(struct vmmu_vcpu *vcpu);

#undef errno
#define errno                                (*code_errno())
#define syscall                              code_futex
#define mmap(at, bytes, right, flags, fd, o) code_map(bytes)
#define munmap(at, bytes)                    ((void)(at))
#define calloc(n, bytes)                     code_alloc((n) * (bytes))
#define free                                 code_free
/* The word that a CPU in the guest looks at: code.c's. */
#define vmmu_vcpu_kick                       code_kick
#define cpu_leave                            code_leave /* the other scenarios' CPU has one, too */

#endif

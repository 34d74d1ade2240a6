/* SPDX-License-Identifier: MIT */
/*
 * Find KVM requests in a program without running it.
 *
 * Method, and its limits: ioctl numbers of KVM are 32-bit constants with the type byte 0xae, so they are looked for, byte by byte, in the
 * program's segments. A number computed at run time, or in a library, is not seen. Capabilities are small numbers; they are found
 * where the code loads one as an argument next to KVM_CHECK_EXTENSION, or for a call of the function that contains it.
 */
#ifndef VMMU_CLI_SCAN_H
#define VMMU_CLI_SCAN_H

#include "kvm/report/surface.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCAN_MAX 256u /* kinds that are kept of each */

struct scan {
	bool names_kvm;       /* the string /dev/kvm is there */
	bool raw_syscalls;    /* the code has a syscall instruction of its own */
	uint32_t ioctls[SCAN_MAX]; /* known requests, each once, sorted */
	size_t ioctl_count;
	unsigned caps[SCAN_MAX];   /* each once, sorted */
	size_t cap_count;
};

/** Scan the ELF file. Returns: 0 or an errno value. */
int scan_program(const char *path, struct scan *out);

#endif

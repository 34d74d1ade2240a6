/* SPDX-License-Identifier: MIT */
/*
 * Find KVM requests in a program without running it.
 *
 * KVM's ioctl numbers are 32-bit constants with the type byte 0xae. They are looked for at every byte of the
 * program's segments. A number that the program computes, or that is in a library, is not found. Capabilities are
 * small numbers. One is found where the code loads it as an argument next to KVM_CHECK_EXTENSION, or for a call of
 * the function that contains that request.
 */
#ifndef VMMU_CLI_SCAN_H
#define VMMU_CLI_SCAN_H

#include "kvm/report/surface.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCAN_MAX 256u /* at most so many requests, and so many capabilities, are kept */

struct scan {
	bool names_kvm;       /* the file contains the string /dev/kvm */
	bool raw_syscalls;    /* the code has a syscall instruction */
	uint32_t ioctls[SCAN_MAX]; /* known requests, each once, sorted */
	size_t ioctl_count;
	unsigned caps[SCAN_MAX];   /* each once, sorted */
	size_t cap_count;
};

/** Scan the ELF file. Returns: 0 or an errno value. */
int scan_program(const char *path, struct scan *out);

#endif

/* SPDX-License-Identifier: MIT */
/* What the client asked for and did not get, counted: shown by --stats and `vmmu doctor --trace`. */
#ifndef VMMU_KVM_UNKNOWN_H
#define VMMU_KVM_UNKNOWN_H

#include <stdint.h>
#include <stdio.h>

/** An ioctl that is not answered; a capability that was answered with 0. Any thread, lockless. */
void unknown_ioctl(uint32_t request);
void unknown_cap(unsigned number);

/** A line for each, and in how many calls. Returns: how many kinds. */
unsigned unknown_print(FILE *out, const char *indent);

#endif

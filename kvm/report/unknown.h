/* SPDX-License-Identifier: MIT */
/* Counts what the client asked for and did not get. --stats and `vmmu doctor --trace` show it. */
#ifndef VMMU_KVM_UNKNOWN_H
#define VMMU_KVM_UNKNOWN_H

#include <stdint.h>
#include <stdio.h>

/** Count an ioctl that is refused, or a capability that is answered with 0. Any thread; takes no lock. */
void unknown_ioctl(uint32_t request);
void unknown_cap(unsigned number);

/** Print a line for each kind, with the number of calls. Returns: how many kinds. */
unsigned unknown_print(FILE *out, const char *indent);

#endif

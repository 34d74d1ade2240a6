/* SPDX-License-Identifier: MIT */
/* Where a file is mapped in this process: what a hole punched in the file takes away. */
#ifndef VMMU_KVM_HOSTMAP_H
#define VMMU_KVM_HOSTMAP_H

#include "kvm/vm/machines.h"
#include <sys/types.h>

/**
 * The addresses at which [offset, offset + bytes) of the file behind `descriptor` is mapped now.
 * `ranges`: at most `max`. When they do not all fit, or nothing could be found out, one range that covers everything.
 * Returns: their number; 0 when the file is mapped nowhere. Allocates nothing.
 */
size_t hostmap_of_file(int descriptor, off_t offset, off_t bytes, struct host_range *ranges, size_t max);

#endif

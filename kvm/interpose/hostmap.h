/* SPDX-License-Identifier: MIT */
/* Where a file is mapped in this process: the memory that punching a hole in the file takes away. */
#ifndef VMMU_KVM_HOSTMAP_H
#define VMMU_KVM_HOSTMAP_H

#include "kvm/vm/machines.h"
#include <sys/types.h>

/**
 * The addresses at which [offset, offset + bytes) of the file behind `descriptor` is mapped now. `ranges`: room
 * for `max`. If more are needed, or /proc/self/maps cannot be read, it gets one range that covers everything.
 * Returns: the number of ranges; 0 when the file is mapped nowhere. Allocates nothing.
 */
size_t hostmap_of_file(int descriptor, off_t offset, off_t bytes, struct host_range *ranges, size_t max);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * How large a block of the process's memory may be mapped to a guest as one. All of the process's memory is contiguous "host
 * physical" memory, so the answer is 1 GiB unless somebody said otherwise: memory under a userfaultfd must be resolved page by page, outside the
 * guest; and a program that asked for no huge pages gets none.
 */
#ifndef PORT_POSIX_HINT_H
#define PORT_POSIX_HINT_H

#include <stdint.h>

#include <vmmu/types.h>

/**
 * From now on blocks that touch [start, end) are at most `max_level`; VMMU_LEVEL_1G forgets what was said. Mappings that exist stay: the caller
 * invalidates the range if it matters. Page-aligned. Sleeps, allocates. Returns: false when there is no memory.
 */
bool posix_hint_set(uint64_t start, uint64_t end, enum vmmu_level max_level);

/** The largest block around the page at `hva`. Lockless. */
enum vmmu_level posix_hint_get(uint64_t hva);

#endif

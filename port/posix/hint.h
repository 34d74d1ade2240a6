/* SPDX-License-Identifier: MIT */
/*
 * How large a block of the process's memory may be mapped to a guest as one. All of the process's memory is contiguous
 * "host physical" memory, so the answer is 1 GiB unless a hint says otherwise. Memory under a userfaultfd must be
 * resolved page by page, outside the guest. A program that asked for no huge pages gets none, but several small ones
 * at a time.
 */
#ifndef PORT_POSIX_HINT_H
#define PORT_POSIX_HINT_H

#include <stdbool.h>
#include <stdint.h>

#include <vmmu/types.h>

/* Hints for a page, a set. */
#define POSIX_HINT_ALONE 1u /* map one page at a time, each asked for */
#define POSIX_HINT_SMALL 2u /* map 4 KiB pages */

/**
 * Add hints to [start, end), or take them away. Mappings that exist stay: the caller invalidates the range if that
 * matters. Page-aligned. Sleeps, allocates.
 * Returns: false without memory.
 */
bool posix_hint_set(uint64_t start, uint64_t end, unsigned hints);
bool posix_hint_clear(uint64_t start, uint64_t end, unsigned hints);

/** Does any page of [start, end) have a hint? Lockless. */
bool posix_hint_any(uint64_t start, uint64_t end);

/** The largest block around the page at `hva`, and struct vmmu_host_page's `neighbours`. Lockless. */
enum vmmu_level posix_hint_get(uint64_t hva, bool *neighbours);

#endif

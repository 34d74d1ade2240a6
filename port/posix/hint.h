/* SPDX-License-Identifier: MIT */
/*
 * How large a block of the process's memory may be mapped to a guest as one. All of the process's memory is contiguous "host
 * physical" memory, so the answer is 1 GiB unless somebody said otherwise: memory under a userfaultfd must be resolved page by page, outside the
 * guest; and a program that asked for no huge pages gets none, though several small ones at a time.
 */
#ifndef PORT_POSIX_HINT_H
#define PORT_POSIX_HINT_H

#include <stdbool.h>
#include <stdint.h>

#include <vmmu/types.h>

/* A set of these holds for a page. */
#define POSIX_HINT_ALONE 1u /* one page at a time, each asked for */
#define POSIX_HINT_SMALL 2u /* 4 KiB pages */

/**
 * From now on these hold for [start, end) too, or hold no more. Mappings that exist stay: the caller invalidates the range if it matters. Page-aligned. Sleeps,
 * allocates.
 * Returns: false when there is no memory.
 */
bool posix_hint_set(uint64_t start, uint64_t end, unsigned hints);
bool posix_hint_clear(uint64_t start, uint64_t end, unsigned hints);

/** Was something said of a page of [start, end)? Lockless. */
bool posix_hint_any(uint64_t start, uint64_t end);

/** The largest block around the page at `hva`, and struct vmmu_host_page's `neighbours`. Lockless. */
enum vmmu_level posix_hint_get(uint64_t hva, bool *neighbours);

#endif

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

enum posix_hint {
	POSIX_HINT_ALONE, /* one page at a time, each asked for */
	POSIX_HINT_SMALL, /* 4 KiB pages */
	POSIX_HINT_NONE,  /* forget what was said */
};

/**
 * From now on this holds for [start, end). Mappings that exist stay: the caller invalidates the range if it matters. Page-aligned. Sleeps, allocates.
 * Returns: false when there is no memory.
 */
bool posix_hint_set(uint64_t start, uint64_t end, enum posix_hint hint);

/** The largest block around the page at `hva`, and struct vmmu_host_page's `neighbours`. Lockless. */
enum vmmu_level posix_hint_get(uint64_t hva, bool *neighbours);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Sizes that a build may make smaller (-D) so that few steps reach every corner: the concurrency checker has tables of four entries, one stripe of each
 * counter, and waiters that sleep at once. What is here is what the library is built with.
 */
#ifndef CORE_BASE_SIZE_H
#define CORE_BASE_SIZE_H

/* Bits of an address that one table translates; 9 is hardware's number. */
#ifndef LEVEL_BITS
#define LEVEL_BITS 9
#endif

/* Tables in a chunk, with the page of headers. At most 64: a header has 64 bytes, and the chunk its alignment. */
#ifndef TABLES_PER_CHUNK
#define TABLES_PER_CHUNK 64
#endif

/* Buckets of the hash of shadow pages: a power of two. */
#ifndef SHADOW_HASH_BITS
#define SHADOW_HASH_BITS 12
#endif

/*
 * Leaves of one frame. A leaf is looked for on its frame's chain when it goes, and the guest decides how long chains
 * get: with more leaves than this all of them go, and come back as they are used (27).
 */
#ifndef RMAP_MOST
#define RMAP_MOST 1000
#endif

/* Counters of readers, so that vCPUs do not share a cache line. */
#ifndef READER_STRIPES
#define READER_STRIPES 16
#endif

/* How often a waiter looks before it sleeps, where a file says n. */
#ifndef SPIN_LIMIT
#define SPIN_LIMIT(n) (n)
#endif

#endif

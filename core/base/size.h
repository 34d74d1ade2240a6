/* SPDX-License-Identifier: MIT */
/*
 * Sizes that a build may make smaller (-D), so that a test reaches every corner in few steps. The concurrency
 * checker has tables of four entries, one stripe of each counter, and waiters that sleep at once. The values below
 * are the library's.
 */
#ifndef CORE_BASE_SIZE_H
#define CORE_BASE_SIZE_H

/* Bits of an address that one table translates; 9 is hardware's number. */
#ifndef LEVEL_BITS
#define LEVEL_BITS 9
#endif

/* Pages in a chunk, one of them for headers. At most 64: a header has 64 bytes, and a chunk its alignment. */
#ifndef TABLES_PER_CHUNK
#define TABLES_PER_CHUNK 64
#endif

/* Buckets of the hash of shadow pages: a power of two. */
#ifndef SHADOW_HASH_BITS
#define SHADOW_HASH_BITS 12
#endif

/*
 * The most leaves that one frame may have. Removing a leaf searches its frame's chain, and the guest decides how
 * long chains get. A frame with more leaves than this loses them all; they come back as they are used (F27).
 */
#ifndef RMAP_MOST
#define RMAP_MOST 1000
#endif

/* Stripes of a counter of readers, so that vCPUs do not share a cache line. */
#ifndef READER_STRIPES
#define READER_STRIPES 16
#endif

/* How often a waiter looks before it sleeps; n is the number that the file asks for. */
#ifndef SPIN_LIMIT
#define SPIN_LIMIT(n) (n)
#endif

#endif

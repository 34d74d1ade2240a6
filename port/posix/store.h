/* SPDX-License-Identifier: MIT */
/*
 * Where pages go that were taken out of memory: an LZ4-compressed pool, and a swap file behind it. Not thread-safe;
 * the host memory manager's lock covers it.
 */
#ifndef PORT_POSIX_STORE_H
#define PORT_POSIX_STORE_H

#include <stdbool.h>
#include <stdint.h>

struct store;

/* Where one page is. 0: nowhere. */
typedef uint64_t store_handle;

struct store_stats {
	uint64_t pool_pages, pool_bytes; /* pages in the pool, and the memory that they take */
	uint64_t same_pages;             /* pages of one repeated byte; they take no memory */
	uint64_t swap_pages, swap_limit; /* 4 KiB places of the swap file: those in use, and all */
};

/**
 * `pool_limit`: bytes of memory for compressed pages. `swap_path`: a file to make, and to unlink at once, so that it
 * goes with the process; NULL: none. `swap_bytes`: the file's largest size. Returns: NULL with errno set.
 */
struct store *store_create(uint64_t pool_limit, const char *swap_path, uint64_t swap_bytes);
void store_destroy(struct store *store);

/** Put 4096 bytes away. Returns: 0 if pool and file are full, or the file cannot be written (*why says which). */
store_handle store_put(struct store *store, const void *page, const char **why);

/** Bring them back; the copy is kept until store_drop. Returns: false if it is lost (*why: read error, checksum). */
bool store_get(struct store *store, store_handle handle, void *page, const char **why);

/**
 * Where in the swap file the page is. Returns: false if it is in memory, and store_get waits for nothing.
 */
bool store_is_in_file(const struct store *store, store_handle handle, uint64_t *place);

/**
 * Wait until that place of the file has been read, so that store_get finds it in the kernel's cache. Needs no lock. A
 * place that has another page by now does no harm.
 */
void store_await_file(const struct store *store, uint64_t place);

void store_drop(struct store *store, store_handle handle);

void store_stats_get(const struct store *store, struct store_stats *stats);

#endif

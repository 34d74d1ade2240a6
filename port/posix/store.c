/* SPDX-License-Identifier: MIT */
#include "port/posix/store.h"

#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE 4096
/*
 * A page that does not compress to this goes to the file as it is: decompressing it would cost time and save nothing.
 */
#define WORTHWHILE (PAGE * 3 / 4)

enum kind { KIND_SAME = 1, KIND_POOL, KIND_SWAP };

/* One stored page. A handle is its address. */
struct stored {
	uint8_t kind;
	uint8_t byte;       /* KIND_SAME */
	uint16_t bytes;     /* KIND_POOL: compressed size */
	uint32_t checksum;  /* of the page */
	uint64_t place;     /* KIND_SWAP: number of the 4 KiB place in the file */
	char data[];        /* KIND_POOL */
};

struct store {
	struct store_stats stats;
	uint64_t pool_limit;
	int file;            /* -1: none */
	uint64_t *used;      /* bit per place of the file */
	uint64_t next;       /* where to look next for a free place */
};

struct store *store_create(uint64_t pool_limit, const char *swap_path, uint64_t swap_bytes)
{
	struct store *store = calloc(1, sizeof(*store));

	if (!store)
		return NULL;
	store->pool_limit = pool_limit;
	store->file = -1;
	if (!swap_path || swap_bytes < PAGE)
		return store;
	store->stats.swap_limit = swap_bytes / PAGE;
	store->used = calloc((store->stats.swap_limit + 63) / 64, sizeof(uint64_t));
	store->file = store->used ? open(swap_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
	if (store->file < 0) {
		int error = store->used ? errno : ENOMEM;

		free(store->used);
		free(store);
		errno = error;
		return NULL;
	}
	unlink(swap_path);
	return store;
}

void store_destroy(struct store *store)
{
	if (store->file >= 0)
		close(store->file);
	free(store->used);
	free(store);
}

/* FNV-1a over words: against bits that rot, not against enemies. */
static uint32_t checksum(const void *page)
{
	const char *at = page;
	uint64_t hash = 0xcbf29ce484222325, word;

	for (size_t i = 0; i < PAGE; i += 8) {
		memcpy(&word, at + i, 8);
		hash = (hash ^ word) * 0x100000001b3;
	}
	return (uint32_t)(hash ^ hash >> 32);
}

static bool is_same(const char *page)
{
	return !memcmp(page, page + 1, PAGE - 1);
}

static struct stored *put_same(struct store *store, const char *page)
{
	struct stored *stored = malloc(sizeof(*stored));

	if (!stored)
		return NULL;
	*stored = (struct stored){ .kind = KIND_SAME, .byte = (uint8_t)page[0] };
	store->stats.same_pages++;
	return stored;
}

static struct stored *put_pool(struct store *store, const char *page)
{
	char buffer[WORTHWHILE];
	struct stored *stored;
	int bytes = LZ4_compress_default(page, buffer, PAGE, WORTHWHILE);

	if (bytes <= 0 || store->stats.pool_bytes + sizeof(*stored) + bytes > store->pool_limit)
		return NULL;
	stored = malloc(sizeof(*stored) + bytes);
	if (!stored)
		return NULL;
	*stored = (struct stored){ .kind = KIND_POOL, .bytes = (uint16_t)bytes, .checksum = checksum(page) };
	memcpy(stored->data, buffer, bytes);
	store->stats.pool_pages++;
	store->stats.pool_bytes += sizeof(*stored) + bytes;
	return stored;
}

static bool place_find(struct store *store, uint64_t *place)
{
	for (uint64_t i = 0; i < store->stats.swap_limit; i++) {
		uint64_t at = (store->next + i) % store->stats.swap_limit;

		if (store->used[at / 64] >> (at % 64) & 1)
			continue;
		store->next = at + 1;
		*place = at;
		return true;
	}
	return false;
}

static bool file_io(int file, void *page, uint64_t place, bool write)
{
	for (size_t done = 0; done < PAGE;) {
		off_t at = (off_t)(place * PAGE + done);
		ssize_t bytes = write ? pwrite(file, (char *)page + done, PAGE - done, at)
		                      : pread(file, (char *)page + done, PAGE - done, at);

		if (bytes < 0 && errno == EINTR)
			continue;
		if (bytes <= 0)
			return false;
		done += (size_t)bytes;
	}
	return true;
}

static struct stored *put_swap(struct store *store, const char *page, const char **why)
{
	struct stored *stored;
	uint64_t place;

	*why = "the compressed pool is full and there is no swap file";
	if (store->file < 0)
		return NULL;
	*why = "the swap file is full";
	if (store->stats.swap_pages == store->stats.swap_limit || !place_find(store, &place))
		return NULL;
	*why = "the swap file cannot be written";
	if (!file_io(store->file, (void *)page, place, true))
		return NULL;
	*why = "out of memory";
	stored = malloc(sizeof(*stored));
	if (!stored)
		return NULL;
	*stored = (struct stored){ .kind = KIND_SWAP, .checksum = checksum(page), .place = place };
	store->used[place / 64] |= UINT64_C(1) << (place % 64);
	store->stats.swap_pages++;
	return stored;
}

store_handle store_put(struct store *store, const void *page, const char **why)
{
	struct stored *stored;

	*why = "out of memory";
	stored = is_same(page) ? put_same(store, page) : put_pool(store, page);
	if (!stored)
		stored = put_swap(store, page, why);
	return (uintptr_t)stored;
}

bool store_get(struct store *store, store_handle handle, void *page, const char **why)
{
	const struct stored *stored = (const struct stored *)(uintptr_t)handle;

	switch (stored->kind) {
	case KIND_SAME:
		memset(page, stored->byte, PAGE);
		return true;
	case KIND_POOL:
		*why = "a compressed page is corrupt";
		return LZ4_decompress_safe(stored->data, page, stored->bytes, PAGE) == PAGE &&
		       checksum(page) == stored->checksum;
	default:
		*why = "the swap file cannot be read";
		if (!file_io(store->file, page, stored->place, false))
			return false;
		*why = "a page in the swap file is corrupt";
		return checksum(page) == stored->checksum;
	}
}

bool store_is_in_file(const struct store *store, store_handle handle, uint64_t *place)
{
	const struct stored *stored = (const struct stored *)(uintptr_t)handle;

	(void)store;
	*place = stored->place;
	return stored->kind == KIND_SWAP;
}

void store_await_file(const struct store *store, uint64_t place)
{
	char page[PAGE];

	(void)file_io(store->file, page, place, false);
}

void store_drop(struct store *store, store_handle handle)
{
	struct stored *stored = (struct stored *)(uintptr_t)handle;

	switch (stored->kind) {
	case KIND_SAME:
		store->stats.same_pages--;
		break;
	case KIND_POOL:
		store->stats.pool_pages--;
		store->stats.pool_bytes -= sizeof(*stored) + stored->bytes;
		break;
	default:
		store->used[stored->place / 64] &= ~(UINT64_C(1) << (stored->place % 64));
		store->stats.swap_pages--;
	}
	free(stored);
}

void store_stats_get(const struct store *store, struct store_stats *stats)
{
	*stats = store->stats;
}

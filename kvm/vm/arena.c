/* SPDX-License-Identifier: MIT */
#include "kvm/vm/arena.h"
#include "kvm/vm/host_memory.h"
#include "port/posix/raw.h"
#include <string.h>

/* Address space. Pages that are not touched cost nothing. */
#define REGION_BYTES (UINT64_C(32) << 20)
/* enough for 256 GiB of guest memory; beyond that the arena maps more when tables need it */
#define EXPECT_MOST  (UINT64_C(1) << 30)

/* At the beginning of each mapping. */
struct arena_region {
	struct arena_region *next;
	size_t bytes;
};

/* Map a new region. The unused rest of the one before is given up and no longer counted. Holds: lock. */
static bool grow(struct arena *arena, uint64_t bytes)
{
	uint64_t wanted = bytes + VMMU_CHUNK_BYTES > REGION_BYTES ? bytes + VMMU_CHUNK_BYTES : REGION_BYTES;
	struct arena_region *region = raw_mmap(wanted);

	if (!region)
		return false;
	region->next = arena->regions;
	region->bytes = wanted;
	arena->regions = region;
	arena->mapped += wanted - (uint64_t)(arena->end - arena->at);
	arena->end = (uint8_t *)region + wanted;
	arena->at = (uint8_t *)(((uintptr_t)region + sizeof(*region) + VMMU_CHUNK_BYTES - 1) & ~(VMMU_CHUNK_BYTES - 1));
	return true;
}

static bool has_room(const struct arena *arena, uint64_t bytes)
{
	return (uint64_t)(arena->end - arena->at) >= bytes;
}

void arena_init(struct arena *arena)
{
	pthread_mutex_init(&arena->lock, NULL);
}

void arena_fini(struct arena *arena)
{
	struct arena_region *next;

	for (struct arena_region *region = arena->regions; region; region = next) {
		next = region->next;
		raw_munmap(region, region->bytes);
	}
	pthread_mutex_destroy(&arena->lock);
}

void arena_expect(struct arena *arena, uint64_t bytes)
{
	/*
	 * 8 bytes map a page. Twice that, for roots that come and go, tables of upper levels, and headers. Shadow
	 * paging may need several tables for the same memory.
	 */
	uint64_t tables = bytes / 512 * 2 + REGION_BYTES / 4;

	if (tables > EXPECT_MOST)
		tables = EXPECT_MOST;
	pthread_mutex_lock(&arena->lock);
	if (arena->mapped < tables)
		grow(arena, tables - (arena->mapped - (uint64_t)(arena->end - arena->at)));
	pthread_mutex_unlock(&arena->lock);
}

/* Holds: lock. */
static void *chunk_take(struct arena *arena)
{
	uint8_t *chunk;

	if (!has_room(arena, VMMU_CHUNK_BYTES) && !grow(arena, VMMU_CHUNK_BYTES))
		return NULL;
	chunk = arena->at;
	arena->at += VMMU_CHUNK_BYTES;
	return chunk;
}

static void *chunk_alloc(void *state)
{
	struct arena *arena = state;
	void *chunk;

	pthread_mutex_lock(&arena->lock);
	chunk = chunk_take(arena);
	pthread_mutex_unlock(&arena->lock);
	return chunk;
}

/* Chunks live until the VM is destroyed, and then the arena is freed as a whole. */
static void chunk_free(void *state, void *chunk)
{
	(void)state;
	(void)chunk;
}

/* Holds: lock. */
static void *small_take(struct arena *arena, size_t units)
{
	void *piece = arena->free[units];
	size_t bytes = units * ARENA_UNIT;

	if (piece) {
		memcpy(&arena->free[units], piece, sizeof(void *));
		return memset(piece, 0, bytes);
	}
	if ((size_t)(arena->small_end - arena->small) < bytes) {
		uint8_t *chunk = chunk_take(arena);

		if (!chunk)
			return NULL;
		arena->small = chunk;
		arena->small_end = chunk + VMMU_CHUNK_BYTES;
	}
	piece = arena->small;
	arena->small += bytes;
	return piece;
}

static size_t units_of(size_t bytes)
{
	return (bytes + ARENA_UNIT - 1) / ARENA_UNIT;
}

static void *small_alloc(void *state, size_t bytes)
{
	struct arena *arena = state;
	void *piece;

	if (bytes >= ARENA_SMALL)
		return vmmu_host_posix.alloc(NULL, bytes);
	pthread_mutex_lock(&arena->lock);
	piece = small_take(arena, units_of(bytes));
	pthread_mutex_unlock(&arena->lock);
	return piece;
}

static void small_free(void *state, void *piece, size_t bytes)
{
	struct arena *arena = state;
	size_t units = units_of(bytes);

	if (bytes >= ARENA_SMALL) {
		vmmu_host_posix.free(NULL, piece, bytes);
		return;
	}
	pthread_mutex_lock(&arena->lock);
	memcpy(piece, &arena->free[units], sizeof(void *));
	arena->free[units] = piece;
	pthread_mutex_unlock(&arena->lock);
}

static enum vmmu_status page_get(void *state, struct vmmu_hva hva, unsigned access, struct vmmu_host_page *out)
{
	(void)state;
	if ((access & VMMU_NOWAIT) && host_memory_is_away(hva.v))
		return VMMU_EBUSY;
	return vmmu_host_posix.page_get(NULL, hva, access, out);
}

const struct vmmu_host arena_host = {
	.chunk_alloc = chunk_alloc,
	.chunk_free = chunk_free,
	.alloc = small_alloc,
	.free = small_free,
	.page_get = page_get,
};

/* SPDX-License-Identifier: MIT */
/*
 * Memory for what the library allocates while a vCPU runs: tables, and under shadow paging the records of their
 * pages. It comes from mappings that were made before, so KVM_RUN makes no system call for it. A VM has one
 * arena, which is freed with the VM.
 */
#ifndef VMMU_KVM_ARENA_H
#define VMMU_KVM_ARENA_H

#include <pthread.h>
#include <stdint.h>
#include <vmmu/host.h>

#define ARENA_UNIT 64u           /* small pieces are multiples of this */
/* pieces of this size and more are mapped on their own: ioctls ask for them, or they are asked for once */
#define ARENA_SMALL (16u << 10)

struct arena {
	pthread_mutex_t lock; /* protects all fields below */
	uint8_t *at, *end;    /* the unused rest of the newest mapping; nothing in it was touched */
	uint8_t *small, *small_end; /* the unused rest of the chunk that small pieces come from */
	void *free[ARENA_SMALL / ARENA_UNIT + 1]; /* freed small pieces, by size */
	struct arena_region *regions;
	uint64_t mapped;      /* bytes in use, and the rest of the newest mapping */
};

/** For vmmu_config.host. Its state is a struct arena. */
extern const struct vmmu_host arena_host;

void arena_init(struct arena *arena);
void arena_fini(struct arena *arena);

/**
 * The VM's slots have `bytes` in all. Reserve room for their tables. If that fails, the arena tries again when
 * memory is needed.
 */
void arena_expect(struct arena *arena, uint64_t bytes);

#endif

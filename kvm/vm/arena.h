/* SPDX-License-Identifier: MIT */
/*
 * Memory for what the library makes while a vCPU runs (tables, and under shadow paging their pages' records), from mappings that were
 * made before: KVM_RUN makes no system call for it. The arena is a VM's, and goes with it.
 */
#ifndef VMMU_KVM_ARENA_H
#define VMMU_KVM_ARENA_H

#include <pthread.h>
#include <stdint.h>
#include <vmmu/host.h>

#define ARENA_UNIT 64u           /* small pieces are multiples of it */
#define ARENA_SMALL (16u << 10)  /* from here on memory is mapped on its own: it is asked for by ioctls, or once */

struct arena {
	pthread_mutex_t lock; /* all below */
	uint8_t *at, *end;    /* what is left of the newest mapping; nothing of it was touched */
	uint8_t *small, *small_end; /* what is left of the chunk that small pieces come from */
	void *free[ARENA_SMALL / ARENA_UNIT + 1]; /* small pieces that came back, by size */
	struct arena_region *regions;
	uint64_t mapped;      /* bytes that are used, or left in the newest */
};

/** What vmmu_config.host is, with a struct arena as its state. */
extern const struct vmmu_host arena_host;

void arena_init(struct arena *arena);
void arena_fini(struct arena *arena);

/** The VM's slots have `bytes` in all: have room for their tables. When there is none, it is looked for again when it is needed. */
void arena_expect(struct arena *arena, uint64_t bytes);

#endif

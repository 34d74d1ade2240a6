/* SPDX-License-Identifier: MIT */
/*
 * Table pages: 512 entries that hardware reads, and a header that it does not read.
 *
 * Pages come from the host in chunks of 64. The first page of a chunk holds the headers of the other 63. Header and
 * entries find each other by arithmetic, so an entry that points to a child leads to the child's header with no
 * search, and no word of the table is spent on it.
 */
#ifndef CORE_TABLE_TABLE_H
#define CORE_TABLE_TABLE_H

#include "core/base/list.h"
#include "core/base/types.h"
#include "core/sync/vm.h"

/*
 * A table's header.
 *   c  constant while the table is linked
 *   a  atomic
 *   R  under the tables lock (tdp)
 */
struct table {
	gfn_t base;              /* c: first gfn it covers */
	uint8_t level;           /* c: 1 .. 5 */
	uint8_t as_id;           /* c */
	uint8_t is_root;         /* c */
	uint8_t invalid;         /* a: roots; 0 -> 1 once, under mmu_lock write (P3) */
	uint32_t refs;           /* a: roots; 0 means on its way to be freed */
	uint8_t scheduled;       /* under mmu_lock write or slots_lock: the zapper owns one reference (P3) */
	struct vm *vm;           /* c */
	void *owner;             /* c: the shadow page whose entries these are, or NULL */
	void (*retire)(struct table *table); /* c: after the flush, in place of table_free_rcu; or NULL */
	union {
		struct list link; /* R: of a root: all roots of the VM; when free: the pool; unlinked: mmu_token.dead */
		struct port_rcu_head rcu; /* afterwards */
	};
};

_Static_assert(TABLES_PER_CHUNK <= VMMU_CHUNK_BYTES / PAGE_SIZE, "a chunk has room for its tables");
#define TABLE_HEADER_BYTES 64
_Static_assert(sizeof(struct table) <= TABLE_HEADER_BYTES, "the headers of a chunk fill exactly one page");

static inline uintptr_t chunk_of(const void *inside)
{
	return (uintptr_t)inside & ~(uintptr_t)(VMMU_CHUNK_BYTES - 1);
}

/** The entries of a table: 512 of them, 4096-aligned. */
static inline spte_t *table_entries(const struct table *table)
{
	uintptr_t chunk = chunk_of(table);

	return (spte_t *)(chunk + ((uintptr_t)table - chunk) / TABLE_HEADER_BYTES * PAGE_SIZE);
}

/** The header of the table that these entries, or this single entry, belong to. */
static inline struct table *table_of(const spte_t *entry)
{
	uintptr_t chunk = chunk_of(entry);

	return (struct table *)(chunk + ((uintptr_t)entry - chunk) / PAGE_SIZE * TABLE_HEADER_BYTES);
}

/* Tables set aside before a lock is taken, so that nobody allocates under the lock. */
#define TABLE_CACHE_MAX 12
struct table_cache {
	struct table *tables[TABLE_CACHE_MAX];
	unsigned count;
};

/** The VM's chunks and free tables. Returns: VMMU_ENOMEM. */
enum vmmu_status pool_init(struct vm *vm);
/** Give all chunks back to the host. No table is in use, and no grace period is pending (port_rcu_barrier). */
void pool_fini(struct vm *vm);
/** How many tables there are, and how many of these are in the pool. For the audit. */
void pool_count(struct vm *vm, uint64_t *all, uint64_t *free);

/**
 * Fill the cache up to `want` tables. Sleeps, allocates. Returns: false if the host has no memory (what it got stays).
 */
bool table_cache_fill(struct vm *vm, struct table_cache *cache, unsigned want);
void table_cache_drain(struct vm *vm, struct table_cache *cache);

/** A zeroed table from the cache, or NULL if the cache is empty. The caller sets the header fields base .. is_root. */
struct table *table_get(struct table_cache *cache);

/** Give back a table that hardware and lockless walkers never saw. */
void table_free(struct table *table);
/** Give back a table that hardware or lockless walkers may be reading: after an RCU grace period. */
void table_free_rcu(struct table *table);

#endif

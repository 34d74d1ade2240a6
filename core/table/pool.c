/* SPDX-License-Identifier: MIT */
/* Where table pages come from: chunks of 64 pages. The first page of a chunk holds the headers of the others. */
#include "core/table/table.h"

#include "core/base/string.h"

struct chunk {
	struct chunk *next; /* stands in place of header 0, the one of the header page itself */
};

struct pool {
	struct mutex lock;
	struct list free;     /* under lock */
	struct chunk *chunks; /* under lock */
};

enum vmmu_status pool_init(struct vm *vm)
{
	vm->pool = vm_alloc(vm, sizeof(*vm->pool));
	if (!vm->pool)
		return VMMU_ENOMEM;
	list_init(&vm->pool->free);
	return VMMU_OK;
}

void pool_fini(struct vm *vm)
{
	struct chunk *chunk, *next;

	if (!vm->pool)
		return;
	for (chunk = vm->pool->chunks; chunk; chunk = next) {
		next = chunk->next;
		vm->host->chunk_free(vm->host_state, chunk);
	}
	vm_free(vm, vm->pool, sizeof(*vm->pool));
	vm->pool = NULL;
}

void pool_count(struct vm *vm, uint64_t *all, uint64_t *free)
{
	*all = *free = 0;
	mutex_lock(&vm->pool->lock);
	for (const struct chunk *chunk = vm->pool->chunks; chunk; chunk = chunk->next)
		*all += TABLES_PER_CHUNK - 1;
	list_for_each(link, &vm->pool->free)
		++*free;
	mutex_unlock(&vm->pool->lock);
}

/* Holds: no lock. Returns: false if the host has no memory. */
static bool pool_grow(struct vm *vm)
{
	struct pool *pool = vm->pool;
	struct chunk *chunk = vm->host->chunk_alloc(vm->host_state);

	if (!chunk)
		return false;
	mutex_lock(&pool->lock);
	chunk->next = pool->chunks;
	pool->chunks = chunk;
	for (unsigned i = 1; i < TABLES_PER_CHUNK; i++) {
		struct table *table = (struct table *)((char *)chunk + i * TABLE_HEADER_BYTES);

		table->vm = vm;
		list_add_tail(&pool->free, &table->link);
	}
	mutex_unlock(&pool->lock);
	return true;
}

bool table_cache_fill(struct vm *vm, struct table_cache *cache, unsigned want)
{
	struct pool *pool = vm->pool;
	unsigned had = cache->count;

	ASSERT(want <= TABLE_CACHE_MAX);
	if (likely(cache->count >= want))
		return true;
	mutex_lock(&pool->lock);
	while (cache->count < want) {
		struct list *link = pool->free.next;

		if (list_empty(&pool->free)) {
			mutex_unlock(&pool->lock);
			if (!pool_grow(vm))
				return false;
			mutex_lock(&pool->lock);
			continue;
		}
		list_remove(link);
		cache->tables[cache->count++] = container_of(link, struct table, link);
	}
	mutex_unlock(&pool->lock);
	/*
	 * Write to each new table now, so that the host finds its page here and not under mmu_lock. A walk there would
	 * read first, and a page that is first read is shared until it is written; then the host tells every CPU.
	 */
	for (; had < want; had++)
		store_relaxed(table_entries(cache->tables[had]), 0);
	return true;
}

void table_cache_drain(struct vm *vm, struct table_cache *cache)
{
	mutex_lock(&vm->pool->lock);
	while (cache->count) {
		struct table *table = cache->tables[--cache->count];

		list_add_tail(&vm->pool->free, &table->link);
	}
	mutex_unlock(&vm->pool->lock);
}

struct table *table_get(struct table_cache *cache)
{
	struct table *table;

	if (!cache->count)
		return NULL;
	table = cache->tables[--cache->count];
	add_relaxed(&table->vm->stats.tables, 1);
	add_relaxed(&table->vm->stats.tables_allocated, 1);
	return table;
}

/* Free tables are kept zeroed, so that zeroing costs nothing under a lock. */
void table_free(struct table *table)
{
	struct vm *vm = table->vm;

	memset(table_entries(table), 0, ENTRIES * sizeof(spte_t));
	*table = (struct table){ .vm = vm };
	add_relaxed(&vm->stats.tables, -UINT64_C(1));
	mutex_lock(&vm->pool->lock);
	list_add_tail(&vm->pool->free, &table->link);
	mutex_unlock(&vm->pool->lock);
}

static void table_free_after_grace(struct port_rcu_head *rcu)
{
	table_free(container_of(rcu, struct table, rcu));
}

void table_free_rcu(struct table *table)
{
	port_rcu_call(&table->rcu, table_free_after_grace);
}

void mmu_retire(struct list *link)
{
	struct table *table = container_of(link, struct table, link);

	if (table->retire)
		table->retire(table);
	else
		table_free_rcu(table);
}

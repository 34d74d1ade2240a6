/* SPDX-License-Identifier: MIT */
/* The descriptor table: descriptor -> file, in chunks that are made when first needed and never freed. */
#include "kvm/file.h"
#include "kvm/sys.h"
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#define CHUNK_SHIFT 10
#define CHUNK_SIZE  (1u << CHUNK_SHIFT)
#define CHUNKS      1024u /* 2^20 descriptors: the kernel's own limit (fs.nr_open) */
#define ENTRY_BUSY  ((uintptr_t)1)

/* An entry is a file pointer; bit 0 is its spin lock, held for a few instructions. */
struct chunk {
	_Atomic uintptr_t entry[CHUNK_SIZE];
};

static struct chunk *_Atomic chunks[CHUNKS];
static atomic_int table_owner; /* process id; 0 until the first file */

atomic_uint file_stats_count;

static _Atomic uintptr_t *entry_find(unsigned descriptor, bool make)
{
	unsigned index = descriptor >> CHUNK_SHIFT;
	struct chunk *chunk, *expected = NULL;
	long memory;

	if (index >= CHUNKS)
		return NULL;
	/* Acquire: pairs with the exchange below that publishes a zeroed chunk. */
	chunk = atomic_load_explicit(&chunks[index], memory_order_acquire);
	if (!chunk && make) {
		memory = SYS6(SYS_mmap, 0, sizeof(*chunk), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (memory < 0)
			return NULL;
		chunk = (struct chunk *)memory; // NOLINT: the kernel's answer is an address
		if (!atomic_compare_exchange_strong(&chunks[index], &expected, chunk)) {
			SYS2(SYS_munmap, chunk, sizeof(*chunk));
			chunk = expected;
		}
	}
	return chunk ? &chunk->entry[descriptor & (CHUNK_SIZE - 1)] : NULL;
}

static struct file *entry_lock(_Atomic uintptr_t *entry)
{
	uintptr_t value;

	for (;;) {
		value = atomic_load_explicit(entry, memory_order_relaxed);
		if (value & ENTRY_BUSY) {
			sched_yield();
			continue;
		}
		if (atomic_compare_exchange_weak_explicit(entry, &value, value | ENTRY_BUSY, memory_order_acquire,
		                                          memory_order_relaxed))
			return (struct file *)value; // NOLINT: bit 0 is clear
	}
}

static void entry_unlock(_Atomic uintptr_t *entry, struct file *file)
{
	atomic_store_explicit(entry, (uintptr_t)file, memory_order_release);
}

/* Put `file` (whose reference the entry takes over) in place of what was there. */
static void entry_replace(unsigned descriptor, struct file *file)
{
	_Atomic uintptr_t *entry = entry_find(descriptor, file != NULL);
	struct file *old;

	if (!entry || (!file && atomic_load_explicit(entry, memory_order_relaxed) == 0))
		return;
	old = entry_lock(entry);
	entry_unlock(entry, file);
	if (old)
		file_put(old);
}

struct file *file_install(int descriptor, enum file_kind kind, void *object, void (*release)(struct file *))
{
	struct file *file = calloc(1, sizeof(*file));
	int none = 0;

	if (!file || !entry_find((unsigned)descriptor, true)) {
		free(file);
		return NULL;
	}
	atomic_init(&file->refs, 1);
	file->kind = kind;
	file->object = object;
	file->release = release;
	if (kind == FILE_STATS)
		atomic_fetch_add(&file_stats_count, 1);
	atomic_compare_exchange_strong(&table_owner, &none, (int)SYS0(SYS_getpid));
	entry_replace((unsigned)descriptor, file);
	return file;
}

struct file *file_get(int descriptor)
{
	_Atomic uintptr_t *entry;
	struct file *file;

	if (descriptor < 0)
		return NULL;
	entry = entry_find((unsigned)descriptor, false);
	if (!entry || atomic_load_explicit(entry, memory_order_relaxed) == 0)
		return NULL;
	file = entry_lock(entry);
	if (file)
		atomic_fetch_add_explicit(&file->refs, 1, memory_order_relaxed);
	entry_unlock(entry, file);
	return file;
}

void file_put(struct file *file)
{
	/* Release our use of the file; acquire everybody's before it is taken apart. */
	if (atomic_fetch_sub_explicit(&file->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (file->kind == FILE_STATS)
		atomic_fetch_sub(&file_stats_count, 1);
	/* A foreign object belongs to the parent, whose threads and locks are not here. */
	if (file->release && !file->foreign)
		file->release(file);
	free(file);
}

void file_alias(int copy, struct file *file)
{
	if (copy < 0 || !entry_find((unsigned)copy, true))
		return;
	atomic_fetch_add_explicit(&file->refs, 1, memory_order_relaxed);
	entry_replace((unsigned)copy, file);
}

void file_forget(int descriptor)
{
	if (descriptor >= 0)
		entry_replace((unsigned)descriptor, NULL);
}

void file_forget_range(unsigned first, unsigned last)
{
	unsigned long d = first;

	if (last >= CHUNKS * CHUNK_SIZE)
		last = CHUNKS * CHUNK_SIZE - 1;
	while (d <= last) {
		if (!entry_find((unsigned)d, false)) {
			d = (d | (CHUNK_SIZE - 1)) + 1;
			continue;
		}
		entry_replace((unsigned)d++, NULL);
	}
}

void file_fork_child(void)
{
	for (unsigned c = 0; c < CHUNKS; c++) {
		struct chunk *chunk = atomic_load(&chunks[c]);

		for (unsigned i = 0; chunk && i < CHUNK_SIZE; i++) {
			/* The thread that held an entry's lock does not exist here. */
			uintptr_t value = atomic_load(&chunk->entry[i]) & ~ENTRY_BUSY;
			struct file *file = (struct file *)value; // NOLINT: bit 0 is clear

			if (file && file->kind != FILE_SYSTEM)
				file->foreign = true;
			atomic_store(&chunk->entry[i], value);
		}
	}
	atomic_store(&table_owner, (int)SYS0(SYS_getpid));
}

bool file_table_is_ours(void)
{
	int owner = atomic_load_explicit(&table_owner, memory_order_relaxed);

	return owner != 0 && owner == (int)SYS0(SYS_getpid);
}

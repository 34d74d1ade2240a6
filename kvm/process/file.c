/* SPDX-License-Identifier: MIT */
/* The descriptor table: descriptor -> file, in chunks that are made when first needed and never freed. */
#include "kvm/process/file.h"
#include "kvm/process/signals.h"
#include "kvm/process/sys.h"
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CHUNK_SHIFT 10
#define CHUNK_SIZE  (1u << CHUNK_SHIFT)
#define CHUNKS      1024u /* 2^20 descriptors: the kernel's own limit (fs.nr_open) */
#define ENTRY_BUSY  ((uintptr_t)1)

/* An entry is a file pointer. Bit 0 is its spin lock, held for a few instructions. */
struct chunk {
	_Atomic uintptr_t entry[CHUNK_SIZE];
};

static struct chunk *_Atomic chunks[CHUNKS];
static atomic_int table_owner; /* process id; 0 before file_init */
static _Atomic dev_t memfd_device; /* of all memfds; 0 until the first file */

atomic_uint file_stats_count;

static _Atomic uintptr_t *entry_find(unsigned descriptor, bool make)
{
	unsigned index = descriptor >> CHUNK_SHIFT;
	struct chunk *chunk, *expected = NULL;
	long memory;

	if (index >= CHUNKS)
		return NULL;
	/* acquire: pairs with the exchange below, which publishes a zeroed chunk */
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

/*
 * Client handlers are held back while the entry is locked: a handler that asked for the same entry would wait for
 * the thread that it interrupts.
 */
static struct file *entry_lock(_Atomic uintptr_t *entry)
{
	uintptr_t value;

	signals_hold();
	for (;;) {
		value = atomic_load_explicit(entry, memory_order_relaxed);
		if (value & ENTRY_BUSY) {
			raw_rest();
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
	signals_release();
}

/* Put `file` in the entry and drop the file that was there. The entry takes over the reference to `file`. */
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

static const char anonymous[] = "anon_inode:kvm-";

bool file_name_is_kvm(const char *name, size_t length)
{
	return (length == 8 && memcmp(name, "/dev/kvm", 8) == 0) ||
	       (length >= sizeof(anonymous) && memcmp(name, anonymous, sizeof(anonymous) - 1) == 0);
}

long file_memory(const char *name, bool close_on_exec)
{
	return SYS2(SYS_memfd_create, name, MFD_ALLOW_SEALING | (close_on_exec ? MFD_CLOEXEC : 0u));
}

/*
 * Seal the memfd, so that the kernel refuses every call that would change it, also those that we do not see.
 * Files that are mapped for writing, or that we rewrite, stay writable.
 */
static bool seal(int descriptor, enum file_kind kind)
{
	int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW;

	if (kind == FILE_SYSTEM || kind == FILE_VM)
		seals |= F_SEAL_WRITE;
	/* memfd_create makes the file executable */
	return SYS2(SYS_fchmod, descriptor, kind == FILE_SYSTEM ? 0666 : 0600) == 0 &&
	       SYS3(SYS_fcntl, descriptor, F_ADD_SEALS, seals) == 0;
}

struct file *file_install(int descriptor, enum file_kind kind, void *object, void (*release)(struct file *))
{
	struct file *file = calloc(1, sizeof(*file));
	struct stat st;

	if (!file || !entry_find((unsigned)descriptor, true) || SYS2(SYS_fstat, descriptor, &st) != 0 ||
	    !seal(descriptor, kind)) {
		free(file);
		return NULL;
	}
	atomic_store_explicit(&memfd_device, st.st_dev, memory_order_relaxed);
	file->inode = st.st_ino;
	atomic_init(&file->refs, 1);
	file->kind = kind;
	file->object = object;
	file->release = release;
	if (kind == FILE_STATS)
		atomic_fetch_add(&file_stats_count, 1);
	entry_replace((unsigned)descriptor, file);
	return file;
}

struct file *file_get_unverified(int descriptor)
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

static bool is_file(const struct file *file, const struct stat *st)
{
	return st->st_dev == atomic_load_explicit(&memfd_device, memory_order_relaxed) && st->st_ino == file->inode;
}

/* Forget the entry if it holds `file`. */
static void entry_forget(int descriptor, const struct file *file)
{
	_Atomic uintptr_t *entry = entry_find((unsigned)descriptor, false);
	struct file *found = entry_lock(entry);

	entry_unlock(entry, found == file ? NULL : found);
	if (found == file)
		file_put(found);
}

bool file_verify(int descriptor, struct file *file)
{
	struct stat st;
	long error = SYS2(SYS_fstat, descriptor, &st);

	/*
	 * EBADF means that the number is closed. Another error, as from a seccomp filter, says nothing about the
	 * file.
	 */
	if (error == 0 ? is_file(file, &st) : error != -EBADF)
		return true;
	if (file_table_is_ours())
		entry_forget(descriptor, file);
	return false;
}

struct file *file_get(int descriptor)
{
	struct file *file = file_get_unverified(descriptor);

	if (!file || file_verify(descriptor, file))
		return file;
	file_put(file);
	return NULL;
}

struct file *file_get_by_stat(const struct stat *st)
{
	if (st->st_dev != atomic_load_explicit(&memfd_device, memory_order_relaxed) || !S_ISREG(st->st_mode))
		return NULL;
	for (unsigned c = 0; c < CHUNKS; c++) {
		struct chunk *chunk = atomic_load_explicit(&chunks[c], memory_order_acquire);

		for (unsigned i = 0; chunk && i < CHUNK_SIZE; i++) {
			struct file *file = file_get_unverified((int)(c * CHUNK_SIZE + i));

			if (file && is_file(file, st))
				return file;
			if (file)
				file_put(file);
		}
	}
	return NULL;
}

bool file_find(const struct stat *st, enum file_kind *kind)
{
	struct file *file = file_get_by_stat(st);

	if (!file)
		return false;
	*kind = file->kind;
	file_put(file);
	return true;
}

void file_put(struct file *file)
{
	/*
	 * release: our use of the file ends here. acquire: the last thread sees the use of all others before it
	 * releases the object. Both pair with this subtraction in another thread.
	 */
	if (atomic_fetch_sub_explicit(&file->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (file->kind == FILE_STATS)
		atomic_fetch_sub(&file_stats_count, 1);
	/* A foreign object belongs to the parent process. Its threads do not exist here. */
	signals_hold();
	if (file->release && !file->foreign)
		file->release(file);
	free(file);
	signals_release();
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

void file_fork(enum fork_step step)
{
	if (step != FORK_CHILD)
		return;
	for (unsigned c = 0; c < CHUNKS; c++) {
		struct chunk *chunk = atomic_load(&chunks[c]);

		for (unsigned i = 0; chunk && i < CHUNK_SIZE; i++) {
			/* The thread that held the entry's lock does not exist in the child. */
			uintptr_t value = atomic_load(&chunk->entry[i]) & ~ENTRY_BUSY;
			struct file *file = (struct file *)value; // NOLINT: bit 0 is clear

			if (file && file->kind != FILE_SYSTEM)
				file->foreign = true;
			atomic_store(&chunk->entry[i], value);
		}
	}
	atomic_store(&table_owner, (int)SYS0(SYS_getpid));
}

bool file_table_may_change(void)
{
	int owner = atomic_load_explicit(&table_owner, memory_order_relaxed);

	return owner == 0 || owner == (int)SYS0(SYS_getpid);
}

bool file_table_is_ours(void)
{
	return atomic_load_explicit(&memfd_device, memory_order_relaxed) != 0 && file_table_may_change();
}

void file_init(void)
{
	atomic_store(&table_owner, (int)SYS0(SYS_getpid));
}

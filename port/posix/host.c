/* SPDX-License-Identifier: MIT */
/* vmmu_host for a POSIX process: memory from mmap and malloc, pages by touching them. */
#include <stdlib.h>
#include <string.h>

#include <vmmu/host.h>

#include "port/contract/port.h"
#include "port/posix/hint.h"
#include "port/posix/probe.h"
#include "port/posix/raw.h"

static void *chunk_alloc(void *state)
{
	char *raw = raw_mmap(2 * VMMU_CHUNK_BYTES), *chunk;

	(void)state;
	if (!raw)
		return NULL;
	chunk = (char *)(((uintptr_t)raw + VMMU_CHUNK_BYTES - 1) & ~(VMMU_CHUNK_BYTES - 1));
	raw_munmap(raw, chunk - raw);
	raw_munmap(chunk + VMMU_CHUNK_BYTES, raw + VMMU_CHUNK_BYTES - chunk);
	return chunk;
}

static void chunk_free(void *state, void *chunk)
{
	(void)state;
	raw_munmap(chunk, VMMU_CHUNK_BYTES);
}

/*
 * From this size on memory gets its own mapping. Tables by number and dirty bitmaps are touched sparsely, and go back
 * to the kernel at once.
 */
#define LARGE (16u << 10)

static void *host_alloc(void *state, size_t bytes)
{
	void *memory;

	(void)state;
	if (bytes >= LARGE)
		return raw_mmap(bytes);
	memory = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
	return memory ? memset(memory, 0, bytes) : NULL;
}

static void host_free(void *state, void *memory, size_t bytes)
{
	(void)state;
	if (bytes >= LARGE)
		raw_munmap(memory, bytes);
	else
		free(memory);
}

/*
 * Touch the page here, outside the guest. Whatever the kernel does to bring it, such as a slow userfaultfd handler or
 * a disk, then happens while nobody waits for this vCPU to leave the guest.
 */
static enum vmmu_status page_get(void *state, struct vmmu_hva hva, unsigned access, struct vmmu_host_page *out)
{
	void *page = (void *)(uintptr_t)hva.v;

	(void)state;
	if (access & VMMU_WRITE ? !posix_probe_write(page) : !posix_probe_read(page))
		return VMMU_EFAULT;
	out->pfn.v = hva.v >> VMMU_PAGE_SHIFT;
	/*
	 * Write permission and copy-on-write are the kernel's business: a write that it refuses faults at the access.
	 */
	out->writable = true;
	out->max_level = posix_hint_get(hva.v, &out->neighbours);
	return VMMU_OK;
}

const struct vmmu_host vmmu_host_posix = {
	.chunk_alloc = chunk_alloc,
	.chunk_free = chunk_free,
	.alloc = host_alloc,
	.free = host_free,
	.page_get = page_get,
};

bool port_copy_from_host(void *to, uint64_t hva, size_t bytes)
{
	return posix_probe_copy(to, (const void *)(uintptr_t)hva, bytes);
}

bool port_copy_to_host(uint64_t hva, const void *from, size_t bytes)
{
	return posix_probe_copy((void *)(uintptr_t)hva, from, bytes);
}

bool port_load_from_host(uint64_t hva, unsigned bytes, uint64_t *value)
{
	return posix_probe_load((const void *)(uintptr_t)hva, bytes, value);
}

bool port_cas_in_host(uint64_t hva, unsigned bytes, uint64_t old, uint64_t new, bool *swapped)
{
	return posix_probe_cas((void *)(uintptr_t)hva, bytes, old, new, swapped);
}

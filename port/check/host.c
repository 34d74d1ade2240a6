/* SPDX-License-Identifier: MIT */
/* The fake host, and the library's way to its memory. The checker watches this file: guests race with it. */
#include "port/check/host.h"

#include <string.h>

#include "check/check.h"
#include "port/contract/port.h"

struct host host;

void host_init(void)
{
	for (unsigned page = 0; page < HOST_PAGES; page++)
		host.frame_of[page] = page;
	host.max_level = VMMU_LEVEL_4K;
}

unsigned host_frame_of(uint64_t hva)
{
	uint64_t page = (hva - HOST_HVA) / VMMU_PAGE_SIZE;

	check_assert(page < HOST_PAGES);
	/* acquire: a kernel would look this up under the lock of the page table. Pairs with host_move. */
	return __atomic_load_n(&host.frame_of[page], __ATOMIC_ACQUIRE);
}

struct host_frame *host_frame_at(uint64_t pfn)
{
	check_assert(pfn - HOST_PFN < HOST_FRAMES);
	return &host.frame[pfn - HOST_PFN];
}

void host_move(unsigned page, unsigned frame)
{
	__atomic_store_n(&host.frame_of[page], frame, __ATOMIC_RELEASE); /* pairs with host_frame_of */
}

/* --- struct vmmu_host --- */

/* A scenario's VM needs one chunk. Two are asked for when two threads find no free table at the same time. */
static struct chunk {
	char memory[VMMU_CHUNK_BYTES];
} chunk[2] __attribute__((aligned(VMMU_CHUNK_BYTES)));
static uint32_t chunks_taken;

static void *chunk_alloc(void *state)
{
	unsigned n = __atomic_fetch_add(&chunks_taken, 1, __ATOMIC_RELAXED);

	(void)state;
	check_assert(n < sizeof(chunk) / sizeof(chunk[0]));
	return &chunk[n];
}

static void *host_alloc(void *state, size_t bytes)
{
	(void)state;
	return check_alloc(bytes, 64);
}

static void chunk_free(void *state, void *memory)
{
	(void)state;
	(void)memory;
}

static void host_free(void *state, void *memory, size_t bytes)
{
	(void)state;
	(void)bytes;
	check_free(memory);
}

static enum vmmu_status page_get(void *state, struct vmmu_hva hva, unsigned access, struct vmmu_host_page *out)
{
	bool read_only = host.read_only[(hva.v - HOST_HVA) / VMMU_PAGE_SIZE];

	(void)state;
	if ((access & VMMU_WRITE) && read_only)
		return VMMU_EFAULT;
	*out = (struct vmmu_host_page){
		.pfn = { HOST_PFN + host_frame_of(hva.v) },
		.writable = !read_only,
		.max_level = __atomic_load_n(&host.max_level, __ATOMIC_RELAXED),
		.neighbours = host.neighbours,
	};
	if (host.small[(hva.v - HOST_HVA) / VMMU_PAGE_SIZE]) {
		out->max_level = VMMU_LEVEL_4K;
		out->neighbours = false;
	}
	return VMMU_OK;
}

/* There is no kick: the CPU polls. */
const struct vmmu_host host_ops = {
	.chunk_alloc = chunk_alloc,
	.chunk_free = chunk_free,
	.alloc = host_alloc,
	.free = host_free,
	.page_get = page_get,
};

/* --- the port's copies: words of a guest's tables, or of its data --- */

/* The word at a host address, or, for the audit, at the address of a frame: as in a process, frames have addresses. */
static uint64_t *word_at(uint64_t address)
{
	uint64_t offset = address % VMMU_PAGE_SIZE, pfn = address / VMMU_PAGE_SIZE;

	check_assert(offset % 8 == 0 && offset / 8 < HOST_WORDS);
	if (pfn - HOST_PFN < HOST_FRAMES)
		return &host.frame[pfn - HOST_PFN].word[offset / 8];
	return &host.frame[host_frame_of(address)].word[offset / 8];
}

/* Is this the client's own memory (a dirty bitmap), which is no part of the guest's? */
static bool is_clients(uint64_t address)
{
	return address - HOST_HVA >= HOST_PAGES * VMMU_PAGE_SIZE && address / VMMU_PAGE_SIZE - HOST_PFN >= HOST_FRAMES;
}

bool port_copy_from_host(void *to, uint64_t hva, size_t bytes)
{
	if (is_clients(hva)) {
		memcpy(to, (const void *)(uintptr_t)hva, bytes);
		return true;
	}
	check_assert(bytes == 8);
	*(uint64_t *)to = __atomic_load_n(word_at(hva), __ATOMIC_RELAXED);
	return true;
}

bool port_copy_to_host(uint64_t hva, const void *from, size_t bytes)
{
	if (is_clients(hva)) {
		memcpy((void *)(uintptr_t)hva, from, bytes);
		return true;
	}
	check_assert(bytes == 8);
	__atomic_store_n(word_at(hva), *(const uint64_t *)from, __ATOMIC_RELAXED);
	return true;
}

bool port_load_from_host(uint64_t hva, unsigned bytes, uint64_t *value)
{
	return port_copy_from_host(value, hva, bytes);
}

bool port_cas_in_host(uint64_t hva, unsigned bytes, uint64_t old, uint64_t new, bool *swapped)
{
	check_assert(bytes == 8);
	*swapped = __atomic_compare_exchange_n(word_at(hva), &old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	return true;
}

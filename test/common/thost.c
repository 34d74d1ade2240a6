/* SPDX-License-Identifier: MIT */
#include "test/common/thost.h"

#include <stdio.h>
#include <unistd.h>

#define count(p, n) __atomic_add_fetch(p, n, __ATOMIC_RELAXED)
#define read_relaxed(p) __atomic_load_n(p, __ATOMIC_RELAXED)

static bool must_fail(int64_t *countdown, bool sticky)
{
	int64_t left = read_relaxed(countdown);

	if (left <= 0)
		return left < 0; /* if sticky, it stays below 0 */
	left = count(countdown, -1);
	if (left == 0 && sticky)
		__atomic_store_n(countdown, -1, __ATOMIC_RELAXED);
	return left == 0;
}

static void *chunk_alloc(void *state)
{
	struct thost *host = state;
	void *chunk;

	count(&host->alloc_calls, 1);
	if (must_fail(&host->alloc_fail, read_relaxed(&host->sticky)))
		return NULL;
	chunk = vmmu_host_posix.chunk_alloc(NULL);
	if (chunk)
		count(&host->chunks, 1);
	return chunk;
}

static void chunk_free(void *state, void *chunk)
{
	struct thost *host = state;

	count(&host->chunks, -1);
	vmmu_host_posix.chunk_free(NULL, chunk);
}

static void *host_alloc(void *state, size_t bytes)
{
	struct thost *host = state;
	void *memory;

	count(&host->alloc_calls, 1);
	if (must_fail(&host->alloc_fail, read_relaxed(&host->sticky)) || (host->alloc_max && bytes > host->alloc_max))
		return NULL;
	memory = vmmu_host_posix.alloc(NULL, bytes);
	if (memory) {
		count(&host->allocs, 1);
		count(&host->alloc_bytes, bytes);
	}
	return memory;
}

static void host_free(void *state, void *memory, size_t bytes)
{
	struct thost *host = state;

	count(&host->allocs, -1);
	count(&host->alloc_bytes, -bytes);
	vmmu_host_posix.free(NULL, memory, bytes);
}

/* Called before the look-up and after it. A change during the delay after it is what a retry must catch (P5). */
static void delay(struct thost *host, uint64_t salt)
{
	unsigned us = read_relaxed(&host->page_delay_us);

	salt *= 0x9e3779b97f4a7c15;
	if (us && (salt >> 60) < 3)
		usleep((salt >> 32) % us);
}

static bool moves(const struct thost *host, uint64_t hva)
{
	return hva - host->frames_at < host->frames_count << 12;
}

uint64_t thost_frame(const struct thost *host, uint64_t hva)
{
	return moves(host, hva) ? __atomic_load_n(&host->frames[(hva - host->frames_at) >> 12], __ATOMIC_ACQUIRE) >> 12
	                        : hva >> 12;
}

static enum vmmu_status look_up(struct thost *host, struct vmmu_hva hva, unsigned access, struct vmmu_host_page *out)
{
	if (!moves(host, hva.v))
		return vmmu_host_posix.page_get(NULL, hva, access, out);
	*out = (struct vmmu_host_page){ .pfn = { thost_frame(host, hva.v) }, .writable = true,
	                                .max_level = VMMU_LEVEL_4K };
	return VMMU_OK;
}

static enum vmmu_status page_get(void *state, struct vmmu_hva hva, unsigned access, struct vmmu_host_page *out)
{
	struct thost *host = state;
	uint64_t call = count(&host->page_calls, 1);
	enum vmmu_level max_level = read_relaxed(&host->max_level);
	enum vmmu_status status;

	if (must_fail(&host->page_fail, read_relaxed(&host->sticky)))
		return host->page_fail_with ? host->page_fail_with : VMMU_EFAULT;
	if ((access & VMMU_NOWAIT) && read_relaxed(&host->busy))
		return VMMU_EBUSY;
	delay(host, call * 2);
	status = look_up(host, hva, access, out);
	if (status == VMMU_OK && max_level && out->max_level > max_level)
		out->max_level = max_level;
	if (status == VMMU_OK && !(access & VMMU_WRITE) && read_relaxed(&host->read_only_reads) &&
	    (hva.v >> 12) * 0x9e3779b97f4a7c15 >> 62 == 0)
		out->writable = false;
	delay(host, call * 2 + 1);
	return status;
}

static void kick(void *state, void *cookie)
{
	struct thost *host = state;

	if (host->kick)
		host->kick(cookie);
}

const struct vmmu_host thost_ops = {
	.chunk_alloc = chunk_alloc,
	.chunk_free = chunk_free,
	.alloc = host_alloc,
	.free = host_free,
	.page_get = page_get,
	.kick = kick,
};

bool thost_is_empty(const struct thost *host)
{
	if (!host->allocs && !host->chunks && !host->alloc_bytes)
		return true;
	fprintf(stderr, "leaked: %llu allocations of %lld bytes, %llu chunks\n", (unsigned long long)host->allocs,
	        (long long)host->alloc_bytes, (unsigned long long)host->chunks);
	return false;
}

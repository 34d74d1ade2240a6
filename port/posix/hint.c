/* SPDX-License-Identifier: MIT */
/*
 * The ranges with a hint, in an immutable sorted array behind an RCU pointer: page faults read it, hints replace it.
 */
#include "port/posix/hint.h"

#include <pthread.h>

#include "port/contract/port.h"
#include "port/posix/raw.h"

struct range {
	uint64_t start, end;
	enum posix_hint hint;
};

struct hints {
	struct port_rcu_head rcu; /* first */
	size_t bytes;
	size_t count;
	struct range range[];
};

static struct hints *current;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Mapped, not allocated: the caller may be the program's own allocator, giving memory back. */
static struct hints *hints_alloc(size_t ranges)
{
	size_t bytes = sizeof(struct hints) + ranges * sizeof(struct range);
	struct hints *hints = raw_mmap(bytes);

	if (hints)
		hints->bytes = bytes;
	return hints;
}

static void hints_free(struct port_rcu_head *head)
{
	struct hints *hints = (struct hints *)head;

	raw_munmap(hints, hints->bytes);
}

static bool hints_overlap(uint64_t start, uint64_t end)
{
	const struct hints *hints;
	bool overlap = false;

	port_rcu_read_lock();
	hints = __atomic_load_n(&current, __ATOMIC_ACQUIRE);
	for (size_t i = 0; hints && i < hints->count; i++)
		overlap |= hints->range[i].start < end && start < hints->range[i].end;
	port_rcu_read_unlock();
	return overlap;
}

static void range_append(struct hints *hints, uint64_t start, uint64_t end, enum posix_hint hint)
{
	struct range *last = hints->count ? &hints->range[hints->count - 1] : NULL;

	if (start >= end || hint == POSIX_HINT_NONE)
		return;
	if (last && last->end == start && last->hint == hint)
		last->end = end;
	else
		hints->range[hints->count++] = (struct range){ start, end, hint };
}

bool posix_hint_set(uint64_t start, uint64_t end, enum posix_hint hint)
{
	struct hints *old, *new;
	size_t count;
	bool placed = false;

	/* The usual case, for every munmap: nothing was said of it. */
	if (hint == POSIX_HINT_NONE && !hints_overlap(start, end))
		return true;
	pthread_mutex_lock(&lock);
	old = current;
	count = old ? old->count : 0;
	new = hints_alloc(count + 2); /* one may split in two around the new one */
	if (!new) {
		pthread_mutex_unlock(&lock);
		return false;
	}
	new->count = 0;
	for (size_t i = 0; i < count; i++) {
		const struct range *r = &old->range[i];

		range_append(new, r->start, r->end < start ? r->end : start, r->hint);
		if (!placed && r->end > start) {
			range_append(new, start, end, hint);
			placed = true;
		}
		range_append(new, r->start > end ? r->start : end, r->end, r->hint);
	}
	if (!placed)
		range_append(new, start, end, hint);
	__atomic_store_n(&current, new, __ATOMIC_RELEASE); /* pairs with the acquires of readers */
	pthread_mutex_unlock(&lock);
	if (old)
		port_rcu_call(&old->rcu, hints_free);
	return true;
}

/* The first range that ends after `address`. */
static size_t hints_after(const struct hints *hints, uint64_t address)
{
	size_t low = 0, high = hints->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (hints->range[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The largest naturally aligned block around hva that nothing was said about. */
static enum vmmu_level hints_level(const struct hints *hints, uint64_t hva)
{
	for (int level = VMMU_LEVEL_1G; level > VMMU_LEVEL_4K; level--) {
		uint64_t bytes = VMMU_PAGE_SIZE << (9 * (level - 1)), start = hva & ~(bytes - 1);
		size_t at = hints_after(hints, start);

		if (at == hints->count || hints->range[at].start >= start + bytes)
			return level;
	}
	return VMMU_LEVEL_4K;
}

/* How far `neighbours` reaches. */
#define BEFORE (7 * VMMU_PAGE_SIZE)
#define AFTER  (8 * VMMU_PAGE_SIZE)

static enum vmmu_level hints_ask(const struct hints *hints, uint64_t hva, bool *neighbours)
{
	uint64_t first = hva > BEFORE ? hva - BEFORE : 0;
	bool small = false;

	for (size_t i = hints_after(hints, first); i < hints->count && hints->range[i].start < hva + AFTER; i++) {
		const struct range *r = &hints->range[i];

		if (r->hint == POSIX_HINT_ALONE)
			*neighbours = false;
		small |= r->start <= hva && hva < r->end;
	}
	return small ? VMMU_LEVEL_4K : hints_level(hints, hva);
}

enum vmmu_level posix_hint_get(uint64_t hva, bool *neighbours)
{
	enum vmmu_level level = VMMU_LEVEL_1G;
	const struct hints *hints;

	*neighbours = true;
	port_rcu_read_lock();
	hints = __atomic_load_n(&current, __ATOMIC_ACQUIRE);
	if (hints && hints->count)
		level = hints_ask(hints, hva, neighbours);
	port_rcu_read_unlock();
	return level;
}

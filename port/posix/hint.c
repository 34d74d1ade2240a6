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
	unsigned hints; /* not 0 */
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

bool posix_hint_any(uint64_t start, uint64_t end)
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

static void range_append(struct hints *hints, uint64_t start, uint64_t end, unsigned set)
{
	struct range *last = hints->count ? &hints->range[hints->count - 1] : NULL;

	if (start >= end || !set)
		return;
	if (last && last->end == start && last->hints == set)
		last->end = end;
	else
		hints->range[hints->count++] = (struct range){ start, end, set };
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static void hints_copy(struct hints *new, const struct hints *old, uint64_t start, uint64_t end, unsigned set, unsigned clear)
{
	uint64_t at = start; /* [start, at) has been dealt with */

	for (size_t i = 0; old && i < old->count; i++) {
		const struct range *r = &old->range[i];

		range_append(new, r->start, least(r->end, start), r->hints);
		range_append(new, at, least(r->start, end), set);
		range_append(new, most(r->start, start), least(r->end, end), (r->hints & ~clear) | set);
		range_append(new, most(r->start, end), r->end, r->hints);
		at = most(at, least(r->end, end));
	}
	range_append(new, at, end, set);
}

static bool hints_change(uint64_t start, uint64_t end, unsigned set, unsigned clear)
{
	struct hints *old, *new;

	pthread_mutex_lock(&lock);
	old = current;
	/* Each old range may be cut at `start` and at `end`, and have a gap before it. */
	new = hints_alloc(2 * (old ? old->count : 0) + 3);
	if (!new) {
		pthread_mutex_unlock(&lock);
		return false;
	}
	new->count = 0;
	hints_copy(new, old, start, end, set, clear);
	__atomic_store_n(&current, new, __ATOMIC_RELEASE); /* pairs with the acquires of readers */
	pthread_mutex_unlock(&lock);
	if (old)
		port_rcu_call(&old->rcu, hints_free);
	return true;
}

bool posix_hint_set(uint64_t start, uint64_t end, unsigned hints)
{
	return hints_change(start, end, hints, 0);
}

bool posix_hint_clear(uint64_t start, uint64_t end, unsigned hints)
{
	/* The usual case, for every munmap: nothing was said of it. */
	return !posix_hint_any(start, end) || hints_change(start, end, 0, hints);
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

		if (r->hints & POSIX_HINT_ALONE)
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

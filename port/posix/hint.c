/* SPDX-License-Identifier: MIT */
/*
 * The ranges with a hint, sorted. Page faults read them without a lock, and so does every munmap. Hints rarely change.
 *
 * There are two copies, and the low bit of `version` says which one to read. A change writes the other copy and then
 * raises `version`. If a reader finds the version unchanged at its end, nobody wrote the copy that it read. Otherwise
 * it reads again.
 *
 * RCU and an allocator cannot be used here, because the caller may be one of these. liburcu unmaps memory, and so do
 * allocators, with their own locks held.
 */
#include "port/posix/hint.h"

#include "port/posix/fork.h"
#include "port/posix/lock.h"
#include "port/posix/raw.h"

/* All fields are read and written by relaxed atomics: a reader may see them change, and then reads again. */
struct range {
	uint64_t start, end;
	uint64_t hints; /* not 0 */
};

/* As many as a process may have mappings (vm.max_map_count); each may have other hints. */
#define RANGES 65536u

struct hints {
	bool full;    /* lock: there was no room for a range, so this copy is never read */
	size_t count; /* at most RANGES at any time */
	struct range range[RANGES];
};

/*
 * Static, not mapped on demand. The caller may be about to unmap a range with holes, and the kernel might place a new
 * mapping in such a hole. Memory that is never touched costs nothing.
 */
static struct hints copies[2];
static struct posix_lock lock = POSIX_LOCK_INIT;
static uint64_t version;

#define GET(field)        __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define SET(field, value) __atomic_store_n(&(field), value, __ATOMIC_RELAXED)

static const struct hints *read_begin(uint64_t *seen)
{
	*seen = __atomic_load_n(&version, __ATOMIC_ACQUIRE); /* acquire: pairs with hints_publish */
	return &copies[*seen & 1];
}

static bool read_again(uint64_t seen)
{
	/*
	 * acquire: a reader that saw a field of a later change also sees the version before that change. Pairs with
	 * the fence in hints_publish.
	 */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return GET(version) != seen;
}

/* Holds: lock. */
static void hints_publish(void)
{
	__atomic_store_n(&version, version + 1, __ATOMIC_RELEASE); /* release: pairs with read_begin */
	/*
	 * release: the next change writes the copy that readers of the version before are in. Pairs with the fence in
	 * read_again.
	 */
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

bool posix_hint_any(uint64_t start, uint64_t end)
{
	const struct hints *hints;
	bool overlap;
	uint64_t seen;

	do {
		hints = read_begin(&seen);
		overlap = false;
		for (size_t i = 0; i < GET(hints->count); i++)
			overlap |= GET(hints->range[i].start) < end && start < GET(hints->range[i].end);
	} while (read_again(seen));
	return overlap;
}

/* Holds: lock. */
static void range_append(struct hints *hints, uint64_t start, uint64_t end, uint64_t set)
{
	size_t count = hints->count;
	struct range *last = count ? &hints->range[count - 1] : NULL;

	if (start >= end || !set)
		return;
	if (last && last->end == start && last->hints == set) {
		SET(last->end, end);
		return;
	}
	if (count == RANGES) {
		hints->full = true;
		return;
	}
	SET(hints->range[count].start, start);
	SET(hints->range[count].end, end);
	SET(hints->range[count].hints, set);
	SET(hints->count, count + 1);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Holds: lock. */
static void hints_copy(struct hints *new, const struct hints *old, uint64_t start, uint64_t end, uint64_t set,
                       uint64_t clear)
{
	uint64_t at = start; /* [start, at) is done */

	new->full = false;
	SET(new->count, 0);
	for (size_t i = 0; i < old->count; i++) {
		const struct range *r = &old->range[i];

		range_append(new, r->start, least(r->end, start), r->hints);
		range_append(new, at, least(r->start, end), set);
		range_append(new, most(r->start, start), least(r->end, end), (r->hints & ~clear) | set);
		range_append(new, most(r->start, end), r->end, r->hints);
		at = most(at, least(r->end, end));
	}
	range_append(new, at, end, set);
}

static bool hints_change(uint64_t start, uint64_t end, uint64_t set, uint64_t clear)
{
	struct hints *new;
	bool full;

	posix_lock(&lock);
	new = &copies[(version + 1) & 1];
	hints_copy(new, &copies[version & 1], start, end, set, clear);
	full = new->full;
	if (!full)
		hints_publish();
	posix_unlock(&lock);
	return !full;
}

bool posix_hint_set(uint64_t start, uint64_t end, unsigned hints)
{
	return hints_change(start, end, hints, 0);
}

bool posix_hint_clear(uint64_t start, uint64_t end, unsigned hints)
{
	/* Usually, as in almost every munmap, the range has no hints. */
	return !posix_hint_any(start, end) || hints_change(start, end, 0, hints);
}

void hint_fork(enum fork_step step)
{
	if (step == FORK_PREPARE)
		posix_lock(&lock);
	else
		posix_unlock(&lock);
}

/* The first range that ends after `address`. */
static size_t hints_after(const struct hints *hints, size_t count, uint64_t address)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (GET(hints->range[middle].end) <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The largest naturally aligned block around hva that has no hint. */
static enum vmmu_level hints_level(const struct hints *hints, size_t count, uint64_t hva)
{
	for (int level = VMMU_LEVEL_1G; level > VMMU_LEVEL_4K; level--) {
		uint64_t bytes = VMMU_PAGE_SIZE << (9 * (level - 1)), start = hva & ~(bytes - 1);
		size_t at = hints_after(hints, count, start);

		if (at == count || GET(hints->range[at].start) >= start + bytes)
			return level;
	}
	return VMMU_LEVEL_4K;
}

/* How far `neighbours` reaches. */
#define BEFORE (7 * VMMU_PAGE_SIZE)
#define AFTER  (8 * VMMU_PAGE_SIZE)

static enum vmmu_level hints_ask(const struct hints *hints, size_t count, uint64_t hva, bool *neighbours)
{
	uint64_t first = hva > BEFORE ? hva - BEFORE : 0;
	bool small = false;

	for (size_t i = hints_after(hints, count, first); i < count && GET(hints->range[i].start) < hva + AFTER; i++) {
		const struct range *r = &hints->range[i];

		if (GET(r->hints) & POSIX_HINT_ALONE)
			*neighbours = false;
		small |= GET(r->start) <= hva && hva < GET(r->end);
	}
	return small ? VMMU_LEVEL_4K : hints_level(hints, count, hva);
}

enum vmmu_level posix_hint_get(uint64_t hva, bool *neighbours)
{
	const struct hints *hints;
	enum vmmu_level level;
	uint64_t seen;

	do {
		size_t count;

		hints = read_begin(&seen);
		count = GET(hints->count);
		level = VMMU_LEVEL_1G;
		*neighbours = true;
		if (count)
			level = hints_ask(hints, count, hva, neighbours);
	} while (read_again(seen));
	return level;
}

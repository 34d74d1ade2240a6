/* SPDX-License-Identifier: MIT */
/* Which memory is managed. */
#include "port/posix/hostmem_int.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>

#include "port/posix/hint.h"

struct range *range_of(struct hostmem *hostmem, uint64_t address)
{
	for (struct range *range = hostmem->ranges; range; range = range->next)
		if (address >= range->start && address < range->end)
			return range;
	return NULL;
}

/* Count the pages that are there already. */
static void range_count(struct hostmem *hostmem, struct range *range)
{
	uint64_t pages = (range->end - range->start) / PAGE;
	unsigned char *present = malloc(pages);

	/* If the kernel cannot say, pages that are there stay uncounted and in place: over the budget, but right. */
	if (present && raw(SYS_mincore, (long)range->start, (long)(range->end - range->start),
	                   (long)(uintptr_t)present, 0, 0) == 0)
		for (uint64_t i = 0; i < pages; i++)
			if (present[i] & 1) {
				range->page[i] = RESIDENT;
				resident_add(hostmem);
			}
	free(present);
}

static bool is_private_anonymous(uint64_t start, uint64_t end)
{
	/* mremap with DONTUNMAP must be able to leave a hole, and files have other owners. /proc says what it is. */
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long from, to, inode;
	char line[512], flags[8];
	bool fine = false;

	while (maps && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %7s %*x %*s %lu", &from, &to, flags, &inode) != 4 || to <= start)
			continue;
		if (from > start || flags[3] != 'p' || inode != 0)
			break;
		start = to;
		if (start >= end) {
			fine = true;
			break;
		}
	}
	if (maps)
		fclose(maps);
	return fine;
}

bool ranges_overlap(const struct hostmem *hostmem, uint64_t start, uint64_t end)
{
	for (const struct range *range = hostmem->ranges; range; range = range->next)
		if (range->start < end && start < range->end)
			return true;
	return false;
}

/*
 * Map the range; do not allocate it. A range is cut inside the program's munmap, and the caller of munmap may be the
 * program's allocator, with its locks held.
 */
static struct range *range_make(struct states *states, uint64_t *page, uint64_t start, uint64_t end)
{
	struct range *range = raw_mmap(sizeof(*range));

	if (!range)
		return NULL;
	*range = (struct range){ .start = start, .end = end, .hand = start, .page = page, .states = states };
	states->ranges++;
	return range;
}

void range_free(struct hostmem *hostmem, struct range *range)
{
	struct states *states = range->states;

	hostmem->stats.managed -= range->end - range->start;
	if (--states->ranges == 0)
		raw_munmap(states, states->bytes);
	raw_munmap(range, sizeof(*range));
}

/* No part of it is managed yet. Holds: lock. */
static bool range_add(struct hostmem *hostmem, uint64_t start, uint64_t end)
{
	struct uffdio_register reg = { .range = { start, end - start }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	size_t bytes = sizeof(struct states) + (end - start) / PAGE * sizeof(uint64_t);
	struct states *states = raw_mmap(bytes);
	struct range *range;

	if (!states)
		return false;
	states->bytes = bytes;
	range = range_make(states, states->page, start, end);
	if (!range || uffd_call(hostmem, UFFDIO_REGISTER, &reg) < 0) {
		raw_munmap(states, bytes);
		if (range)
			raw_munmap(range, sizeof(*range));
		return false;
	}
	/* Page by page: a vCPU must wait outside the guest for a page that is not in memory. */
	posix_hint_set(start, end, POSIX_HINT_ALONE);
	range_count(hostmem, range);
	range->next = hostmem->ranges;
	hostmem->ranges = range;
	hostmem->stats.managed += end - start;
	return true;
}

bool hostmem_add(struct hostmem *hostmem, uint64_t start, uint64_t end)
{
	bool added = false;

	if (start >= end || !is_private_anonymous(start, end))
		return false;
	pthread_mutex_lock(&hostmem->lock);
	for (uint64_t at = start, next; at < end; at = next) {
		struct range *managed = range_of(hostmem, at);

		next = managed ? managed->end : end;
		for (struct range *range = hostmem->ranges; !managed && range; range = range->next)
			if (range->start > at && range->start < next)
				next = range->start;
		added |= !managed && range_add(hostmem, at, next);
	}
	pthread_mutex_unlock(&hostmem->lock);
	return added;
}

static bool range_cut(struct hostmem *hostmem, uint64_t at)
{
	struct range *range = range_of(hostmem, at), *rest;

	if (!range || range->start == at)
		return true;
	rest = range_make(range->states, page_of(range, at), at, range->end);
	if (!rest)
		return false;
	rest->next = range->next;
	range->next = rest;
	range->end = at;
	range->hand = range->start;
	return true;
}

bool ranges_cut(struct hostmem *hostmem, uint64_t start, uint64_t end)
{
	while (hostmem->busy && hostmem->busy->start < end && start < hostmem->busy->end)
		pthread_cond_wait(&hostmem->idle, &hostmem->lock);
	return range_cut(hostmem, start) && range_cut(hostmem, end);
}

/* Give the memory back to the program as if it had never been managed. Holds: lock. */
static void range_give_up(struct hostmem *hostmem, struct range *range)
{
	struct uffdio_range whole = { range->start, range->end - range->start };

	for (uint64_t address = range->start; address < range->end; address += PAGE) {
		uint64_t *page = page_of(range, address);
		long result = is_stored(*page) ? page_return(hostmem, page, address) : 0;

		if (result && is_stored(*page) && result != -ENOENT) {
			store_drop(hostmem->store, *page);
			page_lose(hostmem, page, address, "the kernel has no memory to put it back");
		}
		page_drop(hostmem, page); /* out of the account; or it was unmapped, and nobody misses it */
	}
	uffd_call(hostmem, UFFDIO_UNREGISTER, &whole);
	range_free(hostmem, range);
}

void hostmem_remove(struct hostmem *hostmem, uint64_t start, uint64_t end)
{
	pthread_mutex_lock(&hostmem->lock);
	/* Without memory to cut the ranges, more than was asked for is given up: right, but perhaps over the budget. */
	ranges_cut(hostmem, start, end);
	for (struct range **at = &hostmem->ranges; *at;) {
		struct range *range = *at;

		if (range->start >= end || start >= range->end) {
			at = &range->next;
			continue;
		}
		*at = range->next;
		range_give_up(hostmem, range);
	}
	pthread_mutex_unlock(&hostmem->lock);
}

void hostmem_hold(struct hostmem *hostmem)
{
	pthread_mutex_lock(&hostmem->lock);
	while (hostmem->busy)
		pthread_cond_wait(&hostmem->idle, &hostmem->lock);
	for (struct range *range = hostmem->ranges; range; range = range->next)
		for (uint64_t address = range->start; address < range->end; address += PAGE)
			if (is_stored(*page_of(range, address)))
				page_return(hostmem, page_of(range, address), address);
}

void hostmem_release(struct hostmem *hostmem)
{
	pthread_mutex_unlock(&hostmem->lock);
}

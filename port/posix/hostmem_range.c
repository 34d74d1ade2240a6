/* SPDX-License-Identifier: MIT */
/* Which memory is managed. */
#include "port/posix/hostmem_int.h"

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

/* What is there already counts from the start. */
static void range_count(struct hostmem *hostmem, struct range *range)
{
	uint64_t pages = (range->end - range->start) / PAGE;
	unsigned char *present = malloc(pages);

	/* If it cannot be known, pages that are there stay out of the account and out of reach: more than the budget, but right. */
	if (present && raw(SYS_mincore, (long)range->start, (long)(range->end - range->start), (long)(uintptr_t)present, 0, 0) == 0)
		for (uint64_t i = 0; i < pages; i++)
			if (present[i] & 1) {
				range->page[i] = RESIDENT;
				resident_add(hostmem);
			}
	free(present);
}

static bool is_private_anonymous(uint64_t start, uint64_t end)
{
	/* mremap with DONTUNMAP takes only memory that it can leave a hole in; files have other owners. /proc tells which it is. */
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

bool hostmem_add(struct hostmem *hostmem, uint64_t start, uint64_t end)
{
	struct uffdio_register reg = { .range = { start, end - start }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct range *range;

	if (start >= end || !is_private_anonymous(start, end))
		return false;
	range = calloc(1, sizeof(*range));
	if (!range)
		return false;
	*range = (struct range){ .start = start, .end = end, .hand = start, .page = calloc((end - start) / PAGE, sizeof(uint64_t)) };
	pthread_mutex_lock(&hostmem->lock);
	for (struct range *other = hostmem->ranges; other; other = other->next)
		if (other->start < end && start < other->end)
			start = end; /* overlaps one that is managed: that one stays */
	if (!range->page || start == end || uffd_call(hostmem, UFFDIO_REGISTER, &reg) < 0) {
		pthread_mutex_unlock(&hostmem->lock);
		free(range->page);
		free(range);
		return false;
	}
	/* Page by page: what is outside memory must be waited for outside the guest. */
	posix_hint_set(start, end, POSIX_HINT_ALONE);
	range_count(hostmem, range);
	range->next = hostmem->ranges;
	hostmem->ranges = range;
	hostmem->stats.managed += end - start;
	pthread_mutex_unlock(&hostmem->lock);
	return true;
}

/* Holds: lock. */
static void range_give_up(struct hostmem *hostmem, struct range *range)
{
	struct uffdio_range whole = { range->start, range->end - range->start };

	for (uint64_t address = range->start; address < range->end; address += PAGE) {
		uint64_t *page = page_of(range, address);

		if (is_stored(*page))
			page_return(hostmem, page, address);
		if (is_stored(*page))
			store_drop(hostmem->store, *page); /* unmapped already: nobody misses it */
		if (*page == RESIDENT)
			hostmem->stats.resident -= PAGE;
	}
	uffd_call(hostmem, UFFDIO_UNREGISTER, &whole);
	hostmem->stats.managed -= range->end - range->start;
	free(range->page);
	free(range);
}

void hostmem_remove(struct hostmem *hostmem, uint64_t start, uint64_t end)
{
	struct range **at;

	pthread_mutex_lock(&hostmem->lock);
	for (at = &hostmem->ranges; *at;) {
		struct range *range = *at;

		if (range->start >= end || start >= range->end) {
			at = &range->next;
			continue;
		}
		if (hostmem->busy == range) {
			pthread_cond_wait(&hostmem->idle, &hostmem->lock);
			at = &hostmem->ranges; /* the list may be another */
			continue;
		}
		/* All of it: a range that is partly gone is no longer ours to judge. */
		*at = range->next;
		range_give_up(hostmem, range);
	}
	pthread_mutex_unlock(&hostmem->lock);
}

void hostmem_discard(struct hostmem *hostmem, uint64_t start, uint64_t end)
{
	pthread_mutex_lock(&hostmem->lock);
	for (uint64_t address = start; address < end; address += PAGE) {
		struct range *range = range_of(hostmem, address);
		uint64_t *page = range ? page_of(range, address) : NULL;

		if (page && is_stored(*page))
			store_drop(hostmem->store, *page);
		if (page && *page == RESIDENT)
			hostmem->stats.resident -= PAGE;
		if (page && *page != LOST)
			*page = ABSENT;
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

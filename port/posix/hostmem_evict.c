/* SPDX-License-Identifier: MIT */
/* The thread that makes room. */
#include "port/posix/hostmem_int.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <time.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

/*
 * Is [start, start + count pages) one mapping that our userfaultfd watches? The program may have unmapped it where
 * nobody sees it, in libc's free. What is mapped there now would lose its contents to a hole that nobody fills. So ask
 * the kernel; the question does not overwrite a page that is there (EEXIST).
 */
static bool batch_is_ours(struct hostmem *hostmem, uint64_t start, unsigned count)
{
	struct uffdio_zeropage zeropage = { .range = { start, count * PAGE }, .mode = UFFDIO_ZEROPAGE_MODE_DONTWAKE };
	long result;

	do
		result = uffd_call(hostmem, UFFDIO_ZEROPAGE, &zeropage);
	while (result == -EAGAIN && zeropage.zeropage == -EAGAIN);
	return result != -ENOENT && result != -EINVAL;
}

/* The staging place got the rights and the key of what was moved there. Make it readable for us. */
static bool staging_open(struct hostmem *hostmem, uint64_t bytes)
{
	long staging = (long)(uintptr_t)hostmem->staging, rights = PROT_READ | PROT_WRITE;

	return raw(SYS_pkey_mprotect, staging, (long)bytes, rights, 0, 0) == 0 ||
	       raw(SYS_mprotect, staging, (long)bytes, rights, 0, 0) == 0;
}

/* Move [start, start + count pages) to the staging place. Returns: false if the kernel refused; then nothing moved. */
static bool batch_move(struct hostmem *hostmem, uint64_t start, unsigned count)
{
	long staging = (long)(uintptr_t)hostmem->staging, bytes = (long)(count * PAGE);
	const long flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;

	if (raw(SYS_mremap, (long)start, bytes, bytes, flags, staging) != staging)
		return false;
	if (staging_open(hostmem, bytes))
		return true;
	raw(SYS_mremap, staging, bytes, bytes, flags, (long)start);
	return false;
}

/* Store the pages of the staging place, which nobody else sees. Holds: lock. */
static void batch_store(struct hostmem *hostmem, const struct range *range, uint64_t start, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t address = start + i * PAGE, *page = page_of(range, address);
		const char *why, *contents = hostmem->staging + i * PAGE;

		if (*page != RESIDENT)
			continue;
		*page = store_put(hostmem->store, contents, &why);
		if (*page) {
			hostmem->stats.evicted++;
			hostmem->stats.resident -= PAGE;
			continue;
		}
		/* There is no room anywhere: put the page back where it was. */
		*page = RESIDENT;
		if (!hostmem->full_said)
			say(hostmem, why, address);
		hostmem->full_said = true;
		if (page_fill(hostmem, address, contents) == 0) {
			hostmem->stats.kept++;
			continue;
		}
		hostmem->stats.resident -= PAGE;
		page_lose(hostmem, page, address, "could not be put back");
	}
	raw(SYS_madvise, (long)(uintptr_t)hostmem->staging, (long)(count * PAGE), MADV_DONTNEED, 0, 0);
}

/* Take a batch away. No guest reaches its pages. Holds: lock. */
static void batch_take(struct hostmem *hostmem, struct range *range, uint64_t start, unsigned count)
{
	if (count > 1 && !batch_is_ours(hostmem, start, count)) {
		/* These are several mappings, or one that is not ours any more: go page by page. */
		for (unsigned i = 0; i < count; i++)
			batch_take(hostmem, range, start + i * PAGE, 1);
		return;
	}
	if (count == 1 && !batch_is_ours(hostmem, start, 1))
		page_drop(hostmem, page_of(range, start));
	else if (batch_move(hostmem, start, count))
		batch_store(hostmem, range, start, count);
}

/*
 * Take one batch: a run of resident pages that nobody used since the hand last passed. Holds: lock, released around
 * the VMs' callbacks, because faults must be answered meanwhile. Returns: pages looked at; 0 if there is no range.
 */
static unsigned batch_evict(struct hostmem *hostmem, struct range *range)
{
	const struct hostmem_users *users = &hostmem->config.users;
	uint64_t start = range->hand, address = start, end = range->end;
	unsigned count = 0;
	bool young;

	while (address < end && count < BATCH && *page_of(range, address) == RESIDENT)
		count++, address += PAGE;
	range->hand = address + (count ? 0 : PAGE) >= end ? range->start : address + (count ? 0 : PAGE);
	if (!count)
		return 1;
	hostmem->busy = range;
	pthread_mutex_unlock(&hostmem->lock);
	young = users->age && users->age(users->arg, start, address);
	if (!young && users->invalidate_begin)
		users->invalidate_begin(users->arg, start, address);
	pthread_mutex_lock(&hostmem->lock);
	if (young) {
		hostmem->stats.young += count;
	} else {
		batch_take(hostmem, range, start, count);
		pthread_mutex_unlock(&hostmem->lock);
		if (users->invalidate_end)
			users->invalidate_end(users->arg, start, address);
		pthread_mutex_lock(&hostmem->lock);
	}
	hostmem->busy = NULL;
	pthread_cond_broadcast(&hostmem->idle);
	return count;
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Move the first range to the end: it is the next one's turn. */
static void ranges_turn(struct hostmem *hostmem)
{
	struct range *first = hostmem->ranges, **last = &hostmem->ranges;

	if (!first || !first->next)
		return;
	hostmem->ranges = first->next;
	while (*last)
		last = &(*last)->next;
	*last = first;
	first->next = NULL;
}

#define TURN 64 /* batches of one range before the next one's turn */

/*
 * Pages that one round may put back for want of a place. Each is moved, compressed and filled in again, and vCPUs that
 * use it wait meanwhile: a full store must not stop the guest. The hand goes on from there in the next round, so that
 * pages that compress better are found in time.
 */
#define KEPT_MOST 1024

/*
 * Down to 1/16 below the budget, or until two rounds found nothing: all is in use, or there is no place to put it.
 * Returns: whether the store is full: pages were put back, and none found a place. Holds: lock, released for a while.
 */
static bool make_room(struct hostmem *hostmem)
{
	uint64_t target = hostmem->config.budget - hostmem->config.budget / 16, begun = now_us();
	uint64_t evicted = hostmem->stats.evicted, kept = hostmem->stats.kept;
	bool found = false;
	uint64_t looked = 0, most = 2 * hostmem->stats.managed / PAGE + 2;

	for (unsigned turn = 0; hostmem->ranges && hostmem->stats.resident > target && !hostmem->stop; turn++) {
		if (looked >= most || hostmem->stats.kept - kept >= KEPT_MOST)
			break;
		/* The list may have changed while the lock was free: begin with the list as it is now. */
		looked += batch_evict(hostmem, hostmem->ranges);
		if (turn % TURN == TURN - 1)
			ranges_turn(hostmem);
		if (hostmem->stats.evicted != evicted) {
			evicted = hostmem->stats.evicted;
			kept = hostmem->stats.kept;
			looked = 0;
			found = true;
		}
	}
	hostmem->stats.pressure_us += now_us() - begun;
	return !found && hostmem->stats.kept != kept;
}

/* Wait for that long, or until stop; unless `full`, also until a page more is in place. Holds: lock, released. */
static void pause_ms(struct hostmem *hostmem, unsigned ms, bool full)
{
	struct timespec until;
	int error;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += (long)ms * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	do
		error = pthread_cond_timedwait(&hostmem->pressure, &hostmem->lock, &until);
	while (full && !error && !hostmem->stop);
}

#define PAUSE_MIN 20  /* ms */
#define PAUSE_MAX 160

void *evict_main(void *arg)
{
	struct hostmem *hostmem = arg;
	unsigned pause = PAUSE_MIN;

	pthread_mutex_lock(&hostmem->lock);
	while (!hostmem->stop) {
		bool full;

		if (hostmem->stats.resident <= hostmem->config.budget) {
			pthread_cond_wait(&hostmem->pressure, &hostmem->lock);
			continue;
		}
		full = make_room(hostmem);
		if (!full)
			pause = PAUSE_MIN;
		/* All is in use, or nothing can be stored: look again in a while, ever more seldom if it is full. */
		if (hostmem->stats.resident > hostmem->config.budget && !hostmem->stop)
			pause_ms(hostmem, pause, full);
		if (full && pause < PAUSE_MAX)
			pause *= 2;
	}
	pthread_mutex_unlock(&hostmem->lock);
	return NULL;
}

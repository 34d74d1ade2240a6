/* SPDX-License-Identifier: MIT */
/*
 * Two threads and a lock. A page of a managed range is
 *
 *     absent     never touched, or discarded: its next use is answered with zeros
 *     resident   in place; counted against the budget
 *     stored     in the store; its next use is answered with its contents
 *     lost       could not be brought back: protected, so that its use is a fault that a vCPU reports as -EFAULT
 *
 * Taking a page away is atomic for everyone who looks, also for the program's own threads: mremap with MREMAP_DONTUNMAP moves it, contents and all, to a
 * place of ours, and leaves a hole that the userfaultfd watches. There is no moment at which a store could be lost.
 *
 * Lock order: the VM's locks are taken (invalidate_begin) with `lock` free; a thread that waits for a page holds none of ours, and who answers holds only
 * `lock`, for which nobody waits inside an invalidation's locks.
 */
#include "port/posix/hostmem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "port/posix/hint.h"
#include "port/posix/raw.h"
#include "port/posix/store.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#define PAGE  4096ull
#define BATCH 16 /* pages taken away in one invalidation */

/* page state: a store_handle, or one of these (handles are addresses: never this small) */
#define ABSENT   0ull
#define RESIDENT 1ull
#define LOST     2ull

struct range {
	uint64_t start, end;
	uint64_t hand; /* where the eviction scan goes on */
	uint64_t *page; /* state of each */
	struct range *next;
};

struct hostmem {
	struct hostmem_config config;
	int uffd, wake;      /* wake: eventfd that ends the fault thread */
	pthread_t fault_thread, evict_thread;
	pthread_mutex_t lock; /* all below */
	pthread_cond_t pressure; /* resident went over the budget, or stop */
	struct range *ranges;
	struct range *busy;  /* the eviction thread works on it with the lock let go: it may not be freed */
	pthread_cond_t idle; /* busy was cleared */
	struct store *store;
	struct hostmem_stats stats;
	char *staging;       /* BATCH pages: where pages are moved to */
	bool stop;
	bool full_said;      /* the log has been told that there is no room */
};

/* Our own mapping calls are no changes of the program's. */
static long raw(long number, long a, long b, long c, long d, long e)
{
	return raw_syscall(number, a, b, c, d, e, 0);
}

/* Returns: 0 or -errno. */
static long uffd_call(const struct hostmem *hostmem, unsigned long request, void *argument)
{
	return raw(SYS_ioctl, hostmem->uffd, (long)request, (long)(uintptr_t)argument, 0, 0);
}

static void say(struct hostmem *hostmem, const char *what, uint64_t address)
{
	char line[160];

	snprintf(line, sizeof(line), "host memory: page at %#llx: %s", (unsigned long long)address, what);
	if (hostmem->config.users.log)
		hostmem->config.users.log(hostmem->config.users.arg, line);
}

static struct range *range_of(struct hostmem *hostmem, uint64_t address)
{
	for (struct range *range = hostmem->ranges; range; range = range->next)
		if (address >= range->start && address < range->end)
			return range;
	return NULL;
}

static uint64_t *page_of(const struct range *range, uint64_t address)
{
	return &range->page[(address - range->start) / PAGE];
}

/* --- faults --- */

static bool is_stored(uint64_t page)
{
	return page > LOST;
}

static void resident_add(struct hostmem *hostmem)
{
	hostmem->stats.resident += PAGE;
	if (hostmem->stats.resident > hostmem->stats.peak)
		hostmem->stats.peak = hostmem->stats.resident;
	if (hostmem->stats.resident > hostmem->config.budget)
		pthread_cond_signal(&hostmem->pressure);
}

/* The page cannot come back: its use must fail, once and for all, for whoever waits and whoever comes. */
static void page_lose(struct hostmem *hostmem, uint64_t *page, uint64_t address, const char *why)
{
	struct uffdio_range wake = { address, PAGE };

	say(hostmem, why, address);
	hostmem->stats.lost++;
	*page = LOST;
	raw(SYS_mprotect, (long)address, PAGE, PROT_NONE, 0, 0);
	uffd_call(hostmem, UFFDIO_WAKE, &wake);
}

/* Fill the hole. EEXIST: somebody else's answer was faster (two threads fault on one page). */
static bool page_fill(struct hostmem *hostmem, uint64_t address, const void *contents)
{
	struct uffdio_copy copy = { .dst = address, .src = (uintptr_t)contents, .len = PAGE };
	struct uffdio_range wake = { address, PAGE };

	long result;

	do
		result = uffd_call(hostmem, UFFDIO_COPY, &copy);
	while (result == -EAGAIN);
	if (result == -EEXIST)
		result = uffd_call(hostmem, UFFDIO_WAKE, &wake);
	return result == 0;
}

/* Holds: lock. Returns: false when the page was lost, or could not be put in place. */
static bool page_return(struct hostmem *hostmem, uint64_t *page, uint64_t address)
{
	static const char zeros[PAGE];
	char contents[PAGE];
	const char *why;

	if (is_stored(*page)) {
		if (!store_get(hostmem->store, *page, contents, &why)) {
			store_drop(hostmem->store, *page);
			page_lose(hostmem, page, address, why);
			return false;
		}
		if (!page_fill(hostmem, address, contents))
			return false;
		store_drop(hostmem->store, *page);
		hostmem->stats.returned++;
	} else if (!page_fill(hostmem, address, zeros)) {
		return false;
	}
	*page = RESIDENT;
	resident_add(hostmem);
	return true;
}

static void fault_answer(struct hostmem *hostmem, uint64_t address)
{
	struct uffdio_range wake = { address, PAGE };
	struct range *range;
	uint64_t *page;

	pthread_mutex_lock(&hostmem->lock);
	range = range_of(hostmem, address);
	page = range ? page_of(range, address) : NULL;
	if (!page || *page == LOST)
		uffd_call(hostmem, UFFDIO_WAKE, &wake);
	else if (*page == RESIDENT)
		page_fill(hostmem, address, (const char[PAGE]){ 0 }); /* discarded behind our back: empty, and counted already */
	else
		page_return(hostmem, page, address);
	pthread_mutex_unlock(&hostmem->lock);
}

static void *fault_main(void *arg)
{
	struct hostmem *hostmem = arg;
	struct pollfd poll_fds[2] = { { .fd = hostmem->uffd, .events = POLLIN }, { .fd = hostmem->wake, .events = POLLIN } };
	struct uffd_msg message;

	while (poll(poll_fds, 2, -1) >= 0 || errno == EINTR) {
		if (poll_fds[1].revents)
			break;
		while (read(hostmem->uffd, &message, sizeof(message)) == (ssize_t)sizeof(message))
			if (message.event == UFFD_EVENT_PAGEFAULT)
				fault_answer(hostmem, message.arg.pagefault.address & ~(PAGE - 1));
	}
	return NULL;
}

/* --- making room --- */

/* Move [start, start + count pages) to the staging place. Returns: false when the kernel would not: then nothing moved. */
static bool batch_move(struct hostmem *hostmem, uint64_t start, unsigned count)
{
	long moved = raw(SYS_mremap, (long)start, (long)(count * PAGE), (long)(count * PAGE), MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
	                 (long)(uintptr_t)hostmem->staging);

	return moved == (long)(uintptr_t)hostmem->staging;
}

/* Holds: lock; the pages are in the staging place, and nobody else sees them. */
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
		/* No room anywhere: it goes back where it was. */
		*page = RESIDENT;
		if (!hostmem->full_said)
			say(hostmem, why, address);
		hostmem->full_said = true;
		if (page_fill(hostmem, address, contents)) {
			hostmem->stats.kept++;
			continue;
		}
		hostmem->stats.resident -= PAGE;
		page_lose(hostmem, page, address, "could not be put back");
	}
	raw(SYS_madvise, (long)(uintptr_t)hostmem->staging, (long)(count * PAGE), MADV_DONTNEED, 0, 0);
}

/*
 * One batch: a run of resident pages that nobody used since the hand came by last. Holds: lock, which is let go around the VMs' callbacks, as faults
 * must be answered meanwhile. Returns: pages looked at; 0 when there is no range.
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
		if (batch_move(hostmem, start, count))
			batch_store(hostmem, range, start, count);
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

/* The first range goes to the end: the next one's turn. */
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

/* Down to 1/16 below the budget, or until two rounds found nothing: then all of it is in use, or there is no place to put it. */
static void make_room(struct hostmem *hostmem)
{
	uint64_t target = hostmem->config.budget - hostmem->config.budget / 16, begun = now_us(), evicted = hostmem->stats.evicted;
	uint64_t looked = 0, most = 2 * hostmem->stats.managed / PAGE + 2;

	for (unsigned turn = 0; hostmem->ranges && hostmem->stats.resident > target && !hostmem->stop && looked < most; turn++) {
		/* Whatever happened while the lock was let go: begin with the list as it is now. */
		looked += batch_evict(hostmem, hostmem->ranges);
		if (turn % TURN == TURN - 1)
			ranges_turn(hostmem);
		if (hostmem->stats.evicted != evicted) {
			evicted = hostmem->stats.evicted;
			looked = 0;
		}
	}
	hostmem->stats.pressure_us += now_us() - begun;
}

static void *evict_main(void *arg)
{
	struct hostmem *hostmem = arg;

	pthread_mutex_lock(&hostmem->lock);
	while (!hostmem->stop) {
		if (hostmem->stats.resident <= hostmem->config.budget) {
			pthread_cond_wait(&hostmem->pressure, &hostmem->lock);
			continue;
		}
		make_room(hostmem);
		if (hostmem->stats.resident > hostmem->config.budget && !hostmem->stop) {
			/* Everything is in use, or nothing can be stored: look again in a while, not all the time. */
			struct timespec until;

			clock_gettime(CLOCK_REALTIME, &until);
			until.tv_nsec += 20 * 1000000;
			until.tv_sec += until.tv_nsec / 1000000000;
			until.tv_nsec %= 1000000000;
			pthread_cond_timedwait(&hostmem->pressure, &hostmem->lock, &until);
		}
	}
	pthread_mutex_unlock(&hostmem->lock);
	return NULL;
}

/* --- ranges --- */

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

/* --- birth and death --- */

static int uffd_open(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = (int)raw(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK, 0, 0, 0, 0);

	long error = fd < 0 ? fd : raw(SYS_ioctl, fd, UFFDIO_API, (long)(uintptr_t)&api, 0, 0);

	if (error < 0) {
		if (fd >= 0)
			raw(SYS_close, fd, 0, 0, 0, 0);
		errno = (int)-error;
		return -1;
	}
	return fd;
}

static bool resources_make(struct hostmem *hostmem)
{
	const struct hostmem_config *config = &hostmem->config;

	hostmem->uffd = uffd_open();
	if (hostmem->uffd < 0)
		return false;
	hostmem->wake = eventfd(0, EFD_CLOEXEC);
	hostmem->staging = raw_mmap(BATCH * PAGE);
	hostmem->store = store_create(config->pool_limit ? config->pool_limit : config->budget / 4, config->swap_path, config->swap_bytes);
	return hostmem->wake >= 0 && hostmem->staging && hostmem->store;
}

static void resources_free(struct hostmem *hostmem)
{
	int error = errno;

	if (hostmem->uffd >= 0)
		close(hostmem->uffd);
	if (hostmem->wake >= 0)
		close(hostmem->wake);
	if (hostmem->staging)
		raw_munmap(hostmem->staging, BATCH * PAGE);
	if (hostmem->store)
		store_destroy(hostmem->store);
	free(hostmem);
	errno = error;
}

/* The process's signals are for its own threads. */
static bool threads_make(struct hostmem *hostmem)
{
	uint64_t mask = raw_signals_block();
	bool made = pthread_create(&hostmem->fault_thread, NULL, fault_main, hostmem) == 0;

	if (made && pthread_create(&hostmem->evict_thread, NULL, evict_main, hostmem)) {
		eventfd_write(hostmem->wake, 1);
		pthread_join(hostmem->fault_thread, NULL);
		made = false;
	}
	raw_signals_restore(mask);
	return made;
}

struct hostmem *hostmem_create(const struct hostmem_config *config)
{
	struct hostmem *hostmem = calloc(1, sizeof(*hostmem));

	if (!hostmem)
		return NULL;
	hostmem->config = *config;
	hostmem->stats.budget = config->budget;
	hostmem->wake = -1;
	pthread_mutex_init(&hostmem->lock, NULL);
	pthread_cond_init(&hostmem->pressure, NULL);
	pthread_cond_init(&hostmem->idle, NULL);
	if (!resources_make(hostmem)) {
		resources_free(hostmem);
		return NULL;
	}
	if (!threads_make(hostmem)) {
		resources_free(hostmem);
		errno = EAGAIN;
		return NULL;
	}
	return hostmem;
}

void hostmem_destroy(struct hostmem *hostmem)
{
	pthread_mutex_lock(&hostmem->lock);
	hostmem->stop = true;
	pthread_cond_signal(&hostmem->pressure);
	pthread_mutex_unlock(&hostmem->lock);
	pthread_join(hostmem->evict_thread, NULL);
	hostmem_remove(hostmem, 0, ~0ull);
	eventfd_write(hostmem->wake, 1);
	pthread_join(hostmem->fault_thread, NULL);
	resources_free(hostmem);
}

void hostmem_stats_get(struct hostmem *hostmem, struct hostmem_stats *stats)
{
	struct store_stats store;

	pthread_mutex_lock(&hostmem->lock);
	*stats = hostmem->stats;
	store_stats_get(hostmem->store, &store);
	pthread_mutex_unlock(&hostmem->lock);
	stats->pool_pages = store.pool_pages;
	stats->pool_bytes = store.pool_bytes;
	stats->same_pages = store.same_pages;
	stats->swap_pages = store.swap_pages;
}

/* SPDX-License-Identifier: MIT */
/*
 * The inside of the host memory manager: three threads and a lock. A page of a managed range is
 *
 *     absent     never touched, or discarded: its next use is answered with zeros
 *     resident   in place; counted against the budget
 *     stored     in the store; its next use is answered with its contents
 *     lost       could not be brought back: protected, so that its use is a fault that a vCPU reports as -EFAULT
 *
 * A page is taken away atomically for everyone who looks, the program's own threads too. mremap with MREMAP_DONTUNMAP
 * moves the page, contents and all, to a place of ours, and leaves a hole that the userfaultfd watches. At no moment
 * could a store be lost.
 *
 * Lock order. Nobody holds `lock` while the VM's locks are taken (invalidate_begin). A thread that waits for a page
 * holds none of our locks. The thread that answers a fault holds only `lock`, and nobody waits for `lock` inside an
 * invalidation's locks.
 */
#ifndef PORT_POSIX_HOSTMEM_INT_H
#define PORT_POSIX_HOSTMEM_INT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>

#include "port/posix/hostmem.h"
#include "port/posix/raw.h"
#include "port/posix/store.h"

#define PAGE  4096ull
#define BATCH 16 /* pages taken away in one invalidation */

/* The state of a page: a store_handle, or one of these. A handle is an address, so it is never this small. */
#define ABSENT   0ull
#define RESIDENT 1ull
#define LOST     2ull

/* The states of the pages of memory that was added in one call. The ranges that it is cut into share them. */
struct states {
	size_t bytes;    /* of this mapping */
	unsigned ranges; /* that use this mapping */
	uint64_t page[];
};

struct range {
	uint64_t start, end;
	uint64_t hand;  /* where the eviction scan continues */
	uint64_t *page; /* state of each, in `states` */
	struct states *states;
	struct range *next;
};

struct hostmem {
	struct hostmem_config config;
	int uffd, wake;      /* wake: the eventfd that ends the fault thread */
	pthread_t fault_thread, evict_thread, fetch_thread;
	pthread_mutex_t lock; /* for all fields below */
	pthread_cond_t pressure; /* resident went over the budget, or stop */
	struct range *ranges;
	/* The range that the eviction thread works on without the lock. It may be neither freed nor cut. */
	struct range *busy;
	pthread_cond_t idle; /* busy was cleared */
	struct hostmem_fetch *fetches;  /* wanted, in order */
	struct hostmem_fetch *fetching; /* its page is being brought, or its `done` runs */
	pthread_cond_t fetch_wanted, fetched; /* fetches is not empty, or stop; fetching was cleared */
	struct store *store;
	struct hostmem_stats stats;
	char *staging;       /* BATCH pages: where pages are moved to */
	bool stop;
	bool full_said;      /* the log says already that there is no room */
};

static inline bool is_stored(uint64_t page)
{
	return page > LOST;
}

/* A system call of our own. Our mapping calls must not count as the program's. */
static inline long raw(long number, long a, long b, long c, long d, long e)
{
	return raw_syscall(number, a, b, c, d, e, 0);
}

/* Returns: 0 or -errno. */
static inline long uffd_call(const struct hostmem *hostmem, unsigned long request, void *argument)
{
	return raw(SYS_ioctl, hostmem->uffd, (long)request, (long)(uintptr_t)argument, 0, 0);
}

/* The state of a page of the range. */
static inline uint64_t *page_of(const struct range *range, uint64_t address)
{
	return &range->page[(address - range->start) / PAGE];
}

/* The managed range that `address` lies in, or NULL. Holds: lock. */
struct range *range_of(struct hostmem *hostmem, uint64_t address);

/* One line for the log. */
void say(struct hostmem *hostmem, const char *what, uint64_t address);

/* Count a page that is in place now. Holds: lock. */
void resident_add(struct hostmem *hostmem);

/* The page cannot come back: its use must fail for good, for present waiters and all later ones. Holds: lock. */
void page_lose(struct hostmem *hostmem, uint64_t *page, uint64_t address, const char *why);

/*
 * Fill the hole. A page that is there already is left as it is.
 * Returns: 0; -ENOENT if the memory is not registered with us; another -errno.
 */
long page_fill(struct hostmem *hostmem, uint64_t address, const void *contents);

/* Put a page in place that is stored or absent. Holds: lock. Returns: as page_fill; -EIO if the page was lost. */
long page_return(struct hostmem *hostmem, uint64_t *page, uint64_t address);

/* Nobody needs the page's contents any more: forget them, here and in the store. Holds: lock. */
void page_drop(struct hostmem *hostmem, uint64_t *page);

/* Take the range out of the account; its memory is left alone. Holds: lock; the range is on no list. */
void range_free(struct hostmem *hostmem, struct range *range);

/*
 * Cut ranges so that none reaches over `start` or `end`. Holds: lock, which the call may release for a while.
 * Returns: false without memory for it.
 */
bool ranges_cut(struct hostmem *hostmem, uint64_t start, uint64_t end);

/* Is a part of [start, end) managed? Holds: lock. */
bool ranges_overlap(const struct hostmem *hostmem, uint64_t start, uint64_t end);

/* The threads. */
void *fault_main(void *hostmem);
void *evict_main(void *hostmem);
void *fetch_main(void *hostmem);

#endif

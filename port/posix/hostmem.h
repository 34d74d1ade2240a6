/* SPDX-License-Identifier: MIT */
/*
 * A host memory manager: keeps the memory of guests within a budget, as a host kernel under pressure does.
 *
 *     lockless aging finds cold pages
 *       -> an invalidation takes them from the guest
 *       -> they move to a compressed pool, then to a swap file
 *       -> the next user (a guest's fault, the program, a system call) waits on a userfaultfd until they are back
 *
 * It manages private anonymous memory that it was given, and leaves everything else alone. One thread answers faults,
 * one makes room, one brings back what is wanted before it is used.
 */
#ifndef PORT_POSIX_HOSTMEM_H
#define PORT_POSIX_HOSTMEM_H

#include <stdbool.h>
#include <stdint.h>

struct hostmem;

/* How the manager reaches the VMs whose memory it manages. Called on the manager's own thread, without its locks. */
struct hostmem_users {
	void (*invalidate_begin)(void *arg, uint64_t start, uint64_t end);
	void (*invalidate_end)(void *arg, uint64_t start, uint64_t end);
	bool (*age)(void *arg, uint64_t start, uint64_t end); /* used since the last call? makes it old */
	void (*log)(void *arg, const char *message);          /* one line, no newline */
	void *arg;
};

struct hostmem_config {
	uint64_t budget;       /* bytes that may be resident; at least 1 MiB */
	uint64_t pool_limit;   /* bytes for compressed pages; 0: a quarter of the budget */
	const char *swap_path; /* NULL: no swap file */
	uint64_t swap_bytes;
	struct hostmem_users users;
};

struct hostmem_stats {
	uint64_t budget, resident, peak;       /* bytes */
	uint64_t managed;                      /* bytes of the ranges it was given */
	/* Pages taken away, brought back, and spared because they were in use. */
	uint64_t evicted, returned, young;
	uint64_t fetched;                      /* of those returned: by hostmem_fetch_start */
	/* Pages that stayed because there was no room for them elsewhere, counted each time. Harmless. */
	uint64_t kept;
	/* Pages whose contents are gone: unreadable, or corrupt. Each was logged. */
	uint64_t lost;
	uint64_t pool_pages, pool_bytes, same_pages, swap_pages;
	uint64_t pressure_us;                  /* time spent making room */
};

/** Start a manager. Returns: NULL with errno set (no userfaultfd, no memory, the swap file). */
struct hostmem *hostmem_create(const struct hostmem_config *config);
/** Bring back what was taken, give up all ranges, and end the manager. */
void hostmem_destroy(struct hostmem *hostmem);

/**
 * Manage the parts of [start, end), page-aligned, that are not managed yet.
 * Returns: false if nothing was added. Either all of it is managed already, or the memory is of another kind or has a
 * userfaultfd of the program's own, and is left alone.
 */
bool hostmem_add(struct hostmem *hostmem, uint64_t start, uint64_t end);

/**
 * Give up [start, end). What was taken comes back first, over the budget if need be. Call it before the program moves
 * the memory, registers its own userfaultfd, or does something that the manager does not know.
 */
void hostmem_remove(struct hostmem *hostmem, uint64_t start, uint64_t end);

/**
 * Make the program's madvise(start, end - start, advice), an advice that throws contents away. `lazily`: later, if at
 * all (MADV_FREE). Copies of what was thrown away are dropped. Page-aligned. Returns: as the kernel, 0 or -errno.
 */
long hostmem_discard(struct hostmem *hostmem, uint64_t start, uint64_t end, int advice, bool lazily);

/**
 * Make a system call of the program's that unmaps [start, end) or maps something else there. If it succeeds, the range
 * is given up and its contents do not come back.
 * Returns: as the kernel; -ENOMEM, and no call was made.
 */
long hostmem_unmap(struct hostmem *hostmem, uint64_t start, uint64_t end, long number, const long a[6]);

/**
 * Make a system call of the program's that changes the rights to [start, end). Contents stay where they are.
 * Returns: as the kernel.
 */
long hostmem_protect(struct hostmem *hostmem, uint64_t start, uint64_t end, long number, const long a[6]);

/** Would a use of the page wait until it has been brought back? It may be otherwise at once. Sleeps for a moment. */
bool hostmem_is_away(struct hostmem *hostmem, uint64_t address);

/* A page that is wanted back, by somebody who does not wait for it. The owner's memory. */
struct hostmem_fetch {
	uint64_t address;
	/*
	 * The page is there, or cannot be brought back: an access says which. On the manager's thread, without its
	 * locks; must not call the manager. The owner may start the fetch again from here on.
	 */
	void (*done)(struct hostmem_fetch *fetch);
	struct hostmem_fetch *next; /* the manager's */
};

/** Bring the page back, in the order in which these calls come. Makes no system call but futex. */
void hostmem_fetch_start(struct hostmem *hostmem, struct hostmem_fetch *fetch);

/** After: `done` is not under way, and will not be called. Harmless for a fetch that is over, or was never started. */
void hostmem_fetch_cancel(struct hostmem *hostmem, struct hostmem_fetch *fetch);

/**
 * Before fork: bring everything back, and do nothing until hostmem_release, in the parent. The child has its memory
 * and no manager.
 */
void hostmem_hold(struct hostmem *hostmem);
void hostmem_release(struct hostmem *hostmem);

void hostmem_stats_get(struct hostmem *hostmem, struct hostmem_stats *stats);

#endif

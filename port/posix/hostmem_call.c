/* SPDX-License-Identifier: MIT */
/*
 * The program's own system calls on managed memory. Each call is made here, under the lock, and noted after it was
 * done. If the kernel refuses a call, nothing changes. If the kernel stops half way, what it did counts. No fault is
 * answered in between, so nobody sees what a page held before a call that has thrown it away.
 *
 * Under the lock no call may wait for a page of managed memory. The calls made here touch none.
 */
#include "port/posix/hostmem_int.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <sys/mman.h>

static bool failed(long result)
{
	return result < 0 && result >= -4095;
}

/* --- contents --- */

static void pages_discarded(struct hostmem *hostmem, const struct range *range, uint64_t start, uint64_t end,
                            bool lazily)
{
	for (uint64_t address = start; address < end; address += PAGE) {
		uint64_t *page = page_of(range, address);

		/* MADV_FREE leaves a page where it is until the kernel wants it. */
		if (!lazily || *page != RESIDENT)
			page_drop(hostmem, page);
	}
}

static long advise(uint64_t start, uint64_t end, int advice)
{
	return raw(SYS_madvise, (long)start, (long)(end - start), advice, 0, 0);
}

/* [start, end) lies in the range. */
static long range_advise(struct hostmem *hostmem, const struct range *range, uint64_t start, uint64_t end, int advice,
                         bool lazily)
{
	long result = advise(start, end, advice);

	if (result == 0) {
		pages_discarded(hostmem, range, start, end, lazily);
		return 0;
	}
	/* The kernel may have stopped at any mapping, or left out some. Page by page it says which. */
	result = 0;
	for (uint64_t address = start; address < end; address += PAGE) {
		long one = advise(address, address + PAGE, advice);

		if (one == 0)
			pages_discarded(hostmem, range, address, address + PAGE, lazily);
		else if (one != -ENOMEM)
			return one;
		else
			result = one;
	}
	return result;
}

/* Where the next managed range begins, or `end`. */
static uint64_t ranges_next(const struct hostmem *hostmem, uint64_t after, uint64_t end)
{
	for (const struct range *range = hostmem->ranges; range; range = range->next)
		if (range->start > after && range->start < end)
			end = range->start;
	return end;
}

long hostmem_discard(struct hostmem *hostmem, uint64_t start, uint64_t end, int advice, bool lazily)
{
	long result = 0;

	pthread_mutex_lock(&hostmem->lock);
	for (uint64_t at = start, next; at < end; at = next) {
		const struct range *range = range_of(hostmem, at);
		long piece;

		next = range && range->end < end ? range->end : range ? end : ranges_next(hostmem, at, end);
		if (range) {
			piece = range_advise(hostmem, range, at, next, advice, lazily);
		} else {
			/*
			 * Memory of others: a userfaultfd of the program's may watch it, and the call may wait for
			 * that.
			 */
			pthread_mutex_unlock(&hostmem->lock);
			piece = advise(at, next, advice);
			pthread_mutex_lock(&hostmem->lock);
		}
		/* As with madvise: unmapped memory is left out and reported at the end; another error ends the call. */
		if (piece)
			result = piece;
		if (piece && piece != -ENOMEM)
			break;
	}
	pthread_mutex_unlock(&hostmem->lock);
	return result;
}

/* --- mappings --- */

static bool is_mapped(uint64_t address)
{
	unsigned char present;

	return raw(SYS_mincore, (long)address, PAGE, (long)(uintptr_t)&present, 0, 0) == 0;
}

/* The call failed, but may have unmapped what was there: mmap and mremap unmap before they check the rest. */
static void range_check(struct hostmem *hostmem, const struct range *range)
{
	for (uint64_t address = range->start; address < range->end; address += PAGE)
		if (*page_of(range, address) != ABSENT && !is_mapped(address))
			page_drop(hostmem, page_of(range, address));
}

/* The memory of the range is gone. Wake the threads that wait for a page of it, so that they find what is there now. */
static void range_gone(struct hostmem *hostmem, struct range *range)
{
	struct uffdio_range wake = { range->start, range->end - range->start };

	for (uint64_t address = range->start; address < range->end; address += PAGE)
		page_drop(hostmem, page_of(range, address));
	uffd_call(hostmem, UFFDIO_WAKE, &wake);
	range_free(hostmem, range);
}

long hostmem_unmap(struct hostmem *hostmem, uint64_t start, uint64_t end, long number, const long a[6])
{
	long result;

	pthread_mutex_lock(&hostmem->lock);
	if (!ranges_overlap(hostmem, start, end)) {
		pthread_mutex_unlock(&hostmem->lock);
		return raw_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	}
	if (!ranges_cut(hostmem, start, end)) {
		pthread_mutex_unlock(&hostmem->lock);
		return -ENOMEM;
	}
	result = raw_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	for (struct range **at = &hostmem->ranges; *at;) {
		struct range *range = *at;

		if (range->start >= end || start >= range->end) {
			at = &range->next;
		} else if (failed(result)) {
			range_check(hostmem, range);
			at = &range->next;
		} else {
			*at = range->next;
			range_gone(hostmem, range);
		}
	}
	pthread_mutex_unlock(&hostmem->lock);
	return result;
}

/* What is lost stays lost: rights that the program gives would turn the page into a hole again. */
static void lost_protect(const struct range *range, uint64_t start, uint64_t end)
{
	for (uint64_t address = range->start; address < range->end; address += PAGE)
		if (address >= start && address < end && *page_of(range, address) == LOST)
			raw(SYS_mprotect, (long)address, PAGE, PROT_NONE, 0, 0);
}

long hostmem_protect(struct hostmem *hostmem, uint64_t start, uint64_t end, long number, const long a[6])
{
	long result;

	pthread_mutex_lock(&hostmem->lock);
	result = raw_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	for (const struct range *range = hostmem->ranges; range && hostmem->stats.lost; range = range->next)
		lost_protect(range, start, end);
	pthread_mutex_unlock(&hostmem->lock);
	return result;
}

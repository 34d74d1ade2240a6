/* SPDX-License-Identifier: MIT */
/* How a page comes back, and the thread that answers faults. */
#include "port/posix/hostmem_int.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

void say(struct hostmem *hostmem, const char *what, uint64_t address)
{
	char line[160];

	snprintf(line, sizeof(line), "host memory: page at %#llx: %s", (unsigned long long)address, what);
	if (hostmem->config.users.log)
		hostmem->config.users.log(hostmem->config.users.arg, line);
}

void resident_add(struct hostmem *hostmem)
{
	hostmem->stats.resident += PAGE;
	if (hostmem->stats.resident > hostmem->stats.peak)
		hostmem->stats.peak = hostmem->stats.resident;
	if (hostmem->stats.resident > hostmem->config.budget)
		pthread_cond_signal(&hostmem->pressure);
}

void page_lose(struct hostmem *hostmem, uint64_t *page, uint64_t address, const char *why)
{
	struct uffdio_range wake = { address, PAGE };

	say(hostmem, why, address);
	hostmem->stats.lost++;
	*page = LOST;
	raw(SYS_mprotect, (long)address, PAGE, PROT_NONE, 0, 0);
	uffd_call(hostmem, UFFDIO_WAKE, &wake);
}

long page_fill(struct hostmem *hostmem, uint64_t address, const void *contents)
{
	struct uffdio_copy copy = { .dst = address, .src = (uintptr_t)contents, .len = PAGE };
	struct uffdio_range wake = { address, PAGE };
	long result;

	do
		result = uffd_call(hostmem, UFFDIO_COPY, &copy);
	while (result == -EAGAIN);
	/* Two threads faulted on one page, and the other one's answer was faster. */
	if (result == -EEXIST)
		result = uffd_call(hostmem, UFFDIO_WAKE, &wake);
	return result;
}

static const char zeros[PAGE];

long page_return(struct hostmem *hostmem, uint64_t *page, uint64_t address)
{
	char contents[PAGE];
	const char *why;
	long result;

	if (is_stored(*page)) {
		if (!store_get(hostmem->store, *page, contents, &why)) {
			store_drop(hostmem->store, *page);
			page_lose(hostmem, page, address, why);
			return -EIO;
		}
		result = page_fill(hostmem, address, contents);
		if (result)
			return result;
		store_drop(hostmem->store, *page);
		hostmem->stats.returned++;
	} else {
		result = page_fill(hostmem, address, zeros);
		if (result)
			return result;
	}
	*page = RESIDENT;
	resident_add(hostmem);
	return 0;
}

void page_drop(struct hostmem *hostmem, uint64_t *page)
{
	if (*page == LOST)
		return; /* a lost page stays protected */
	if (is_stored(*page))
		store_drop(hostmem->store, *page);
	if (*page == RESIDENT)
		hostmem->stats.resident -= PAGE;
	*page = ABSENT;
}

static void fault_answer(struct hostmem *hostmem, uint64_t address)
{
	struct uffdio_range wake = { address, PAGE };
	struct range *range;
	uint64_t *page;
	long result = -ENOENT;

	pthread_mutex_lock(&hostmem->lock);
	range = range_of(hostmem, address);
	page = range ? page_of(range, address) : NULL;
	/*
	 * Either the page is watched but not managed, as in a mapping that grew. Or it was discarded behind our back,
	 * and is counted already. Anonymous memory begins as zeros.
	 */
	if (!page || *page == RESIDENT)
		result = page_fill(hostmem, address, zeros);
	else if (*page != LOST)
		result = page_return(hostmem, page, address);
	/*
	 * The access is tried again. It fails, because the page is protected or unmapped; or it faults again, and the
	 * kernel may have memory then.
	 */
	if (result)
		uffd_call(hostmem, UFFDIO_WAKE, &wake);
	pthread_mutex_unlock(&hostmem->lock);
}

void *fault_main(void *arg)
{
	struct hostmem *hostmem = arg;
	struct pollfd poll_fds[2] = { { .fd = hostmem->uffd, .events = POLLIN },
	                              { .fd = hostmem->wake, .events = POLLIN } };
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

/* SPDX-License-Identifier: MIT */
/* Start and end of the host memory manager. */
#include "port/posix/hostmem_int.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

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
	hostmem->store = store_create(config->pool_limit ? config->pool_limit : config->budget / 4, config->swap_path,
	                              config->swap_bytes);
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

/* End a thread that waits on a condition. */
static void thread_stop(struct hostmem *hostmem, pthread_t thread)
{
	pthread_mutex_lock(&hostmem->lock);
	hostmem->stop = true;
	pthread_cond_signal(&hostmem->pressure);
	pthread_cond_signal(&hostmem->fetch_wanted);
	pthread_mutex_unlock(&hostmem->lock);
	pthread_join(thread, NULL);
}

/* Block all signals in the threads: the process's signals are for its own threads. */
static bool threads_make(struct hostmem *hostmem)
{
	uint64_t mask = raw_signals_block();
	bool fault = pthread_create(&hostmem->fault_thread, NULL, fault_main, hostmem) == 0;
	bool evict = fault && pthread_create(&hostmem->evict_thread, NULL, evict_main, hostmem) == 0;
	bool fetch = evict && pthread_create(&hostmem->fetch_thread, NULL, fetch_main, hostmem) == 0;

	raw_signals_restore(mask);
	if (fetch)
		return true;
	if (evict)
		thread_stop(hostmem, hostmem->evict_thread);
	if (fault) {
		eventfd_write(hostmem->wake, 1);
		pthread_join(hostmem->fault_thread, NULL);
	}
	return false;
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
	pthread_cond_init(&hostmem->fetch_wanted, NULL);
	pthread_cond_init(&hostmem->fetched, NULL);
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
	thread_stop(hostmem, hostmem->evict_thread);
	thread_stop(hostmem, hostmem->fetch_thread);
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

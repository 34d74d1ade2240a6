/* SPDX-License-Identifier: MIT */
/* Pages that somebody wants back without waiting for them, and the thread that brings them. */
#include "port/posix/hostmem_int.h"

bool hostmem_is_away(struct hostmem *hostmem, uint64_t address)
{
	const struct range *range;
	bool away;

	pthread_mutex_lock(&hostmem->lock);
	range = range_of(hostmem, address);
	away = range && is_stored(*page_of(range, address));
	pthread_mutex_unlock(&hostmem->lock);
	return away;
}

void hostmem_fetch_start(struct hostmem *hostmem, struct hostmem_fetch *fetch)
{
	struct hostmem_fetch **last;

	fetch->next = NULL;
	pthread_mutex_lock(&hostmem->lock);
	for (last = &hostmem->fetches; *last; last = &(*last)->next)
		;
	*last = fetch;
	pthread_cond_signal(&hostmem->fetch_wanted);
	pthread_mutex_unlock(&hostmem->lock);
}

void hostmem_fetch_cancel(struct hostmem *hostmem, struct hostmem_fetch *fetch)
{
	pthread_mutex_lock(&hostmem->lock);
	for (struct hostmem_fetch **at = &hostmem->fetches; *at; at = &(*at)->next)
		if (*at == fetch) {
			*at = fetch->next;
			break;
		}
	while (hostmem->fetching == fetch)
		pthread_cond_wait(&hostmem->fetched, &hostmem->lock);
	pthread_mutex_unlock(&hostmem->lock);
}

/*
 * If the page is in the swap file, wait for the disk here, without the lock: nobody else's page, and no vCPU, waits for
 * it. Holds: lock, released meanwhile.
 */
static void disk_await(struct hostmem *hostmem, uint64_t address)
{
	const struct range *range = range_of(hostmem, address);
	uint64_t page = range ? *page_of(range, address) : ABSENT, place;

	if (!is_stored(page) || !store_is_in_file(hostmem->store, page, &place))
		return;
	pthread_mutex_unlock(&hostmem->lock);
	store_await_file(hostmem->store, place);
	pthread_mutex_lock(&hostmem->lock);
}

/* Bring one page back. If that fails, the thread that wanted it finds out by its next access. Holds: lock. */
static void fetch_page(struct hostmem *hostmem, uint64_t address)
{
	const struct range *range = range_of(hostmem, address);
	uint64_t *page = range ? page_of(range, address) : NULL;

	if (page && is_stored(*page) && page_return(hostmem, page, address) == 0)
		hostmem->stats.fetched++;
}

void *fetch_main(void *arg)
{
	struct hostmem *hostmem = arg;

	pthread_mutex_lock(&hostmem->lock);
	while (!hostmem->stop) {
		struct hostmem_fetch *fetch = hostmem->fetches;

		if (!fetch) {
			pthread_cond_wait(&hostmem->fetch_wanted, &hostmem->lock);
			continue;
		}
		hostmem->fetches = fetch->next;
		hostmem->fetching = fetch;
		disk_await(hostmem, fetch->address & ~(PAGE - 1));
		fetch_page(hostmem, fetch->address & ~(PAGE - 1));
		pthread_mutex_unlock(&hostmem->lock);
		/* From here on the owner may start it again. It is not freed before hostmem_fetch_cancel. */
		fetch->done(fetch);
		pthread_mutex_lock(&hostmem->lock);
		hostmem->fetching = NULL;
		pthread_cond_broadcast(&hostmem->fetched);
	}
	pthread_mutex_unlock(&hostmem->lock);
	return NULL;
}

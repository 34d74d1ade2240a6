/* SPDX-License-Identifier: MIT */
/*
 * The host memory manager on real memory: nothing is lost under a budget, and the loss of a page does no other harm.
 * Skipped where there is no userfaultfd.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "port/posix/hostmem.h"
#include "port/posix/probe.h"
#include "test/common/rng.h"

#define PAGE  4096u
#define PAGES 4096u /* the size of the managed range: 16 MiB */

static char last_log[256];

static void log_keep(void *arg, const char *message)
{
	(void)arg;
	snprintf(last_log, sizeof(last_log), "%s", message);
}

static char *memory_make(void)
{
	char *memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(memory != MAP_FAILED);
	return memory;
}

static struct hostmem *manager_make(uint64_t budget, uint64_t pool, uint64_t swap)
{
	char path[64];
	struct hostmem_config config = { .budget = budget, .pool_limit = pool, .users.log = log_keep };
	struct hostmem *hostmem;

	snprintf(path, sizeof(path), "hostmem-swap-%d", getpid());
	if (swap) {
		config.swap_path = path;
		config.swap_bytes = swap;
	}
	hostmem = hostmem_create(&config);
	if (!hostmem && (errno == EPERM || errno == ENOSYS))
		skip();
	assert_non_null(hostmem);
	return hostmem;
}

/* The contents of the pages, in turn: one word repeated, compressible, or noise. */
static uint64_t word_of(uint64_t page, uint64_t word, uint64_t version)
{
	if (page % 3 == 0)
		return page * 0x01010101 + version;
	if (page % 3 == 1)
		return word < 16 ? page + word + version : 0;
	return (page * 512 + word + version * 77777) * 0x9e3779b97f4a7c15;
}

static void page_write(char *memory, uint64_t page, uint64_t version)
{
	for (uint64_t word = 0; word < 512; word++)
		((volatile uint64_t *)(memory + page * PAGE))[word] = word_of(page, word, version);
}

static void page_check(const char *memory, uint64_t page, uint64_t version)
{
	for (uint64_t word = 0; word < 512; word++)
		assert_int_equal(((const volatile uint64_t *)(memory + page * PAGE))[word],
		                 word_of(page, word, version));
}

static void test_hostmem_over_budget_keeps_every_page(void **state)
{
	struct hostmem *hostmem = manager_make(4 << 20, 1 << 20, 32 << 20);
	char *memory = memory_make();
	struct hostmem_stats stats;

	(void)state;
	assert_true(hostmem_add(hostmem, (uintptr_t)memory, (uintptr_t)memory + PAGES * PAGE));
	for (uint64_t page = 0; page < PAGES; page++)
		page_write(memory, page, 1);
	/* Repeat until the manager's threads had their share of the CPU. The noise does not fit in the pool. */
	do {
		for (uint64_t page = 0; page < PAGES; page++)
			page_check(memory, page, 1);
		hostmem_stats_get(hostmem, &stats);
	} while (stats.evicted <= PAGES / 2 || stats.returned <= PAGES / 2 || stats.swap_pages == 0);
	assert_int_equal(stats.kept, 0);
	assert_int_equal(stats.lost, 0);
	/* The budget is an aim, not a hard limit: memory may exceed it for a moment, but not for long. */
	for (int i = 0; i < 200 && stats.resident > stats.budget; i++, hostmem_stats_get(hostmem, &stats))
		usleep(10000);
	assert_true(stats.resident <= stats.budget);
	hostmem_remove(hostmem, (uintptr_t)memory, (uintptr_t)memory + PAGES * PAGE);
	hostmem_stats_get(hostmem, &stats);
	assert_int_equal(stats.pool_pages + stats.same_pages + stats.swap_pages, 0);
	for (uint64_t page = 0; page < PAGES; page++)
		page_check(memory, page, 1);
	hostmem_destroy(hostmem);
	munmap(memory, PAGES * PAGE);
}

static void test_hostmem_discarded_page_reads_zero(void **state)
{
	struct hostmem *hostmem = manager_make(1 << 20, 1 << 20, 32 << 20);
	char *memory = memory_make();

	(void)state;
	assert_true(hostmem_add(hostmem, (uintptr_t)memory, (uintptr_t)memory + PAGES * PAGE));
	for (uint64_t page = 0; page < PAGES; page++)
		page_write(memory, page, 1);
	assert_int_equal(hostmem_discard(hostmem, (uintptr_t)memory, (uintptr_t)memory + PAGES / 2 * PAGE,
	                                 MADV_DONTNEED, false),
	                 0);
	for (uint64_t page = 0; page < PAGES / 2; page++)
		assert_int_equal(*(volatile uint64_t *)(memory + page * PAGE), 0);
	for (uint64_t page = PAGES / 2; page < PAGES; page++)
		page_check(memory, page, 1);
	hostmem_destroy(hostmem);
	munmap(memory, PAGES * PAGE);
}

struct writer {
	char *memory;
	unsigned id;
};

/* Each thread owns every fourth page. It rewrites its pages at random, and checks what it finds. */
static void *writer_main(void *arg)
{
	struct writer *writer = arg;
	static _Thread_local uint64_t version[PAGES];
	struct rng rng;

	rng_seed(&rng, writer->id);
	for (unsigned i = 0; i < 6000; i++) {
		uint64_t page = rng_below(&rng, PAGES / 4) * 4 + writer->id;

		if (version[page])
			page_check(writer->memory, page, version[page]);
		page_write(writer->memory, page, ++version[page]);
	}
	return NULL;
}

static void test_hostmem_threads_lose_no_write(void **state)
{
	struct hostmem *hostmem = manager_make(2 << 20, 1 << 20, 64 << 20);
	char *memory = memory_make();
	pthread_t thread[4];
	struct writer writer[4];

	(void)state;
	assert_true(hostmem_add(hostmem, (uintptr_t)memory, (uintptr_t)memory + PAGES * PAGE));
	for (unsigned i = 0; i < 4; i++) {
		writer[i] = (struct writer){ memory, i };
		assert_int_equal(pthread_create(&thread[i], NULL, writer_main, &writer[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	hostmem_destroy(hostmem);
	munmap(memory, PAGES * PAGE);
}

static void test_hostmem_no_place_left_keeps_pages_in_memory(void **state)
{
	struct hostmem *hostmem = manager_make(1 << 20, 64 << 10, 64 << 10);
	char *memory = memory_make();
	struct hostmem_stats stats;
	struct timespec from, to;
	uint64_t kept, rounds;

	(void)state;
	last_log[0] = 0;
	assert_true(hostmem_add(hostmem, (uintptr_t)memory, (uintptr_t)memory + PAGES * PAGE));
	for (uint64_t page = 0; page < PAGES; page++)
		page_write(memory, page, 1);
	do {
		for (uint64_t page = 0; page < PAGES; page++)
			page_check(memory, page, 1);
		hostmem_stats_get(hostmem, &stats);
	} while (stats.kept == 0);
	/* Nobody uses a page. Each round puts 1024 back at most, and the pauses grow to 160 ms. */
	kept = stats.kept;
	clock_gettime(CLOCK_MONOTONIC, &from);
	usleep(800000);
	hostmem_stats_get(hostmem, &stats);
	clock_gettime(CLOCK_MONOTONIC, &to);
	rounds = 6 + (uint64_t)((to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000) / 160;
	assert_in_range(stats.kept - kept, 0, rounds * (1024 + 16));
	assert_int_equal(stats.lost, 0);
	hostmem_destroy(hostmem); /* ends the threads that write the log */
	assert_non_null(strstr(last_log, "the swap file is full"));
	munmap(memory, PAGES * PAGE);
}

/* Find the unlinked swap file among our descriptors, and overwrite all of it. */
static void swap_spoil(void)
{
	char link[64], target[256], noise[PAGE];
	ssize_t bytes;

	memset(noise, 0x5a, sizeof(noise));
	for (int fd = 0; fd < 256; fd++) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		bytes = readlink(link, target, sizeof(target) - 1);
		if (bytes <= 0)
			continue;
		target[bytes] = 0;
		if (!strstr(target, "hostmem-swap"))
			continue;
		for (off_t at = 0, end = lseek(fd, 0, SEEK_END); at < end; at += PAGE)
			assert_int_equal(pwrite(fd, noise, PAGE, at), PAGE);
	}
}

static void test_hostmem_corrupt_page_is_a_fault_and_the_rest_lives(void **state)
{
	struct hostmem *hostmem = manager_make(1 << 20, 4096, 64 << 20);
	char *memory = memory_make();
	const long rights[6] = { (long)memory, PAGES * PAGE, PROT_READ | PROT_WRITE };
	struct hostmem_stats stats;
	unsigned gone = 0;

	(void)state;
	last_log[0] = 0;
	assert_true(hostmem_add(hostmem, (uintptr_t)memory, (uintptr_t)memory + PAGES * PAGE));
	do {
		for (uint64_t page = 0; page < PAGES; page++)
			page_write(memory, page, 1);
		hostmem_stats_get(hostmem, &stats);
	} while (stats.swap_pages == 0);
	swap_spoil();
	/* Read by a probe, as page_get does for a guest: the probe fails, and the process lives. */
	for (uint64_t page = 0; page < PAGES; page++) {
		if (posix_probe_read(memory + page * PAGE))
			page_check(memory, page, 1);
		else
			gone++;
	}
	assert_true(gone > 0 && gone < PAGES);
	hostmem_stats_get(hostmem, &stats);
	assert_int_equal(stats.kept, 0);
	assert_int_equal(stats.lost, gone);
	/* The program's mprotect succeeds, and lost pages stay inaccessible: it would read zeros that nobody wrote. */
	assert_int_equal(hostmem_protect(hostmem, (uintptr_t)memory, (uintptr_t)memory + PAGES * PAGE, SYS_mprotect,
	                                 rights), 0);
	for (uint64_t page = 0; page < PAGES; page++)
		gone -= !posix_probe_read(memory + page * PAGE);
	assert_int_equal(gone, 0);
	hostmem_destroy(hostmem); /* ends the threads that write the log */
	assert_non_null(strstr(last_log, "corrupt"));
	munmap(memory, PAGES * PAGE);
}

/* Wait until memory is within the budget, and no page is evicted any more. */
static void wait_quiet(struct hostmem *hostmem, struct hostmem_stats *stats)
{
	uint64_t evicted;

	hostmem_stats_get(hostmem, stats);
	do {
		evicted = stats->evicted;
		usleep(30000);
		hostmem_stats_get(hostmem, stats);
	} while (stats->resident > stats->budget || stats->evicted != evicted);
}

/* Pages that are unmapped are not brought back before, and the rest of the range stays managed. */
static void test_hostmem_unmap_brings_nothing_back(void **state)
{
	struct hostmem *hostmem = manager_make(1 << 20, 1 << 20, 32 << 20);
	char *memory = memory_make(), *middle = memory + PAGES / 4 * PAGE;
	const long refused[6] = { (long)middle + 1, PAGES / 2 * PAGE }, good[6] = { (long)middle, PAGES / 2 * PAGE };
	struct hostmem_stats before, after;

	(void)state;
	assert_true(hostmem_add(hostmem, (uintptr_t)memory, (uintptr_t)memory + PAGES * PAGE));
	for (uint64_t page = 0; page < PAGES; page++)
		page_write(memory, page, 1);
	wait_quiet(hostmem, &before);
	assert_int_equal(hostmem_unmap(hostmem, (uintptr_t)middle, (uintptr_t)middle + PAGES / 2 * PAGE, SYS_munmap,
	                               refused), -EINVAL);
	assert_int_equal(hostmem_unmap(hostmem, (uintptr_t)middle, (uintptr_t)middle + PAGES / 2 * PAGE, SYS_munmap,
	                               good), 0);
	hostmem_stats_get(hostmem, &after);
	assert_int_equal(after.returned, before.returned);
	assert_int_equal(after.managed, PAGES / 2 * PAGE);
	assert_true(after.pool_pages + after.same_pages + after.swap_pages < before.pool_pages + before.same_pages +
	            before.swap_pages);
	for (uint64_t page = 0; page < PAGES; page++)
		if (page < PAGES / 4 || page >= PAGES / 4 * 3)
			page_check(memory, page, 1);
	hostmem_destroy(hostmem);
	munmap(memory, PAGES * PAGE);
}

/*
 * MADV_FREE drops pages that are stored. Pages in place are left to the kernel: they stay in the account, and may be
 * evicted later.
 */
static void test_hostmem_lazy_discard_keeps_account(void **state)
{
	struct hostmem *hostmem = manager_make(1 << 20, 1 << 20, 32 << 20);
	char *memory = memory_make();
	struct hostmem_stats before, after;

	(void)state;
	assert_true(hostmem_add(hostmem, (uintptr_t)memory, (uintptr_t)memory + PAGES * PAGE));
	for (uint64_t page = 0; page < PAGES; page++)
		page_write(memory, page, 1);
	wait_quiet(hostmem, &before);
	assert_int_equal(hostmem_discard(hostmem, (uintptr_t)memory, (uintptr_t)memory + PAGES * PAGE, MADV_FREE, true),
	                 0);
	hostmem_stats_get(hostmem, &after);
	assert_int_equal(after.resident, before.resident);
	assert_int_equal(after.pool_pages + after.same_pages + after.swap_pages, 0);
	hostmem_destroy(hostmem);
	munmap(memory, PAGES * PAGE);
}

/* --- pages that are wanted, by somebody who does not wait --- */

struct wish {
	struct hostmem_fetch fetch;
	int done; /* atomic: how often */
};

static void wish_done(struct hostmem_fetch *fetch)
{
	__atomic_fetch_add(&((struct wish *)fetch)->done, 1, __ATOMIC_RELEASE);
}

static void wish_await(const struct wish *wish)
{
	for (unsigned i = 0; i < 20000 && !__atomic_load_n(&wish->done, __ATOMIC_ACQUIRE); i++)
		usleep(1000);
	assert_int_equal(wish->done, 1);
}

static void test_hostmem_wanted_pages_come_back_by_themselves(void **state)
{
	struct hostmem *hostmem = manager_make(4 << 20, 1 << 20, 32 << 20);
	char *memory = memory_make();
	struct hostmem_stats before, after;
	struct wish *wishes = calloc(PAGES, sizeof(*wishes)), nowhere = { { 4096, wish_done, NULL }, 0 };
	unsigned away = 0;

	(void)state;
	assert_true(hostmem_add(hostmem, (uintptr_t)memory, (uintptr_t)memory + PAGES * PAGE));
	assert_false(hostmem_is_away(hostmem, (uintptr_t)memory)); /* it never was there */
	for (uint64_t page = 0; page < PAGES; page++)
		page_write(memory, page, 1);
	wait_quiet(hostmem, &before);
	assert_int_equal(before.fetched, 0);
	for (uint64_t page = 0; page < PAGES; page++) {
		uint64_t address = (uintptr_t)memory + page * PAGE + 8;

		if (away == 64 || !hostmem_is_away(hostmem, address))
			continue;
		wishes[away].fetch = (struct hostmem_fetch){ .address = address, .done = wish_done };
		hostmem_fetch_start(hostmem, &wishes[away++].fetch);
	}
	assert_int_equal(away, 64);
	hostmem_fetch_start(hostmem, &nowhere.fetch); /* not managed: there is nothing to bring */
	wish_await(&nowhere);
	for (unsigned i = 0; i < away; i++)
		wish_await(&wishes[i]);
	hostmem_stats_get(hostmem, &after);
	assert_int_equal(after.fetched, away);
	assert_true(after.returned >= before.returned + away);
	for (uint64_t page = 0; page < PAGES; page++)
		page_check(memory, page, 1);
	hostmem_destroy(hostmem);
	munmap(memory, PAGES * PAGE);
	free(wishes);
}

static void test_hostmem_cancelled_wish_is_quiet(void **state)
{
	struct hostmem *hostmem = manager_make(1 << 20, 1 << 20, 32 << 20);
	char *memory = memory_make();
	struct hostmem_stats stats;
	int quiet = 0;

	(void)state;
	assert_true(hostmem_add(hostmem, (uintptr_t)memory, (uintptr_t)memory + PAGES * PAGE));
	for (uint64_t page = 0; page < PAGES; page++)
		page_write(memory, page, 1);
	wait_quiet(hostmem, &stats);
	for (unsigned round = 0; round < 200; round++) {
		struct wish wishes[8];
		int done[8];

		memset(wishes, 0, sizeof(wishes));
		for (unsigned i = 0; i < 8; i++) {
			wishes[i].fetch.address = (uintptr_t)memory + (round * 8 + i) % PAGES * PAGE;
			wishes[i].fetch.done = wish_done;
			hostmem_fetch_start(hostmem, &wishes[i].fetch);
		}
		for (unsigned i = 8; i-- > 0;) {
			hostmem_fetch_cancel(hostmem, &wishes[i].fetch);
			done[i] = wishes[i].done; /* plain: nobody writes it any more */
			quiet += done[i] == 0;
		}
		if (round % 20 == 0)
			usleep(1000);
		for (unsigned i = 0; i < 8; i++)
			assert_true(wishes[i].done == done[i] && done[i] <= 1);
	}
	assert_true(quiet > 0);
	for (uint64_t page = 0; page < PAGES; page++)
		page_check(memory, page, 1);
	hostmem_destroy(hostmem);
	munmap(memory, PAGES * PAGE);
}

static void test_hostmem_foreign_memory_is_refused(void **state)
{
	struct hostmem *hostmem = manager_make(1 << 20, 0, 0);
	char *shared = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_false(hostmem_add(hostmem, (uintptr_t)shared, (uintptr_t)shared + (1 << 20)));
	assert_false(hostmem_add(hostmem, 4096, 8192)); /* nothing is mapped there */
	hostmem_destroy(hostmem);
	munmap(shared, 1 << 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hostmem_over_budget_keeps_every_page),
		cmocka_unit_test(test_hostmem_discarded_page_reads_zero),
		cmocka_unit_test(test_hostmem_threads_lose_no_write),
		cmocka_unit_test(test_hostmem_no_place_left_keeps_pages_in_memory),
		cmocka_unit_test(test_hostmem_corrupt_page_is_a_fault_and_the_rest_lives),
		cmocka_unit_test(test_hostmem_unmap_brings_nothing_back),
		cmocka_unit_test(test_hostmem_lazy_discard_keeps_account),
		cmocka_unit_test(test_hostmem_wanted_pages_come_back_by_themselves),
		cmocka_unit_test(test_hostmem_cancelled_wish_is_quiet),
		cmocka_unit_test(test_hostmem_foreign_memory_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

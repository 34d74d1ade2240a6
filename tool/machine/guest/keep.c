/* SPDX-License-Identifier: MIT */
/*
 * The guest's memory, kept: a thread on each CPU changes pages at random, and before each change checks every word of
 * the page. So a page that went back to an old state, or that never came over, shows. Each second it says how far it
 * is, and what the clock did.
 */
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE  4096ul
#define WORDS (PAGE / sizeof(uint64_t))
#define MAX   64

static uint64_t latest;             /* the latest time that any thread has seen */
static unsigned long checked[MAX], back[MAX];
static unsigned threads;
static size_t pages;                /* of each thread */

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t word(uint64_t page, uint64_t version, uint64_t i)
{
	return (page << 40 ^ version << 12 ^ i) * UINT64_C(0x9e3779b97f4a7c15);
}

/* A clock that goes back between two threads goes back for whoever waits for an event of another. */
static void clock_check(unsigned self)
{
	uint64_t seen = __atomic_load_n(&latest, __ATOMIC_ACQUIRE), t = now();

	if (t < seen) {
		if (!back[self]++)
			printf("@m WRONG clock: %llu ns back\n", (unsigned long long)(seen - t));
		fflush(stdout);
	}
	while (t > seen && !__atomic_compare_exchange_n(&latest, &seen, t, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		continue;
}

static void *keep(void *argument)
{
	unsigned self = (unsigned)(uintptr_t)argument;
	uint64_t *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t *version = calloc(pages, sizeof(*version)), state = self + 1;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(self, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	if (memory == MAP_FAILED || !version) {
		printf("@m WRONG no memory\n");
		exit(1);
	}
	for (;;) {
		uint64_t page, *at;

		state = state * 6364136223846793005u + 1442695040888963407u;
		page = (state >> 33) % pages;
		at = memory + page * WORDS;
		for (uint64_t i = 0; i < WORDS; i++)
			if (at[i] != (version[page] ? word(page, version[page], i) : 0)) {
				printf("@m WRONG memory: page %llu of thread %u, word %llu: %#llx, version %llu\n",
				       (unsigned long long)page, self, (unsigned long long)i, (unsigned long long)at[i],
				       (unsigned long long)version[page]);
				exit(1);
			}
		version[page]++;
		for (uint64_t i = 0; i < WORDS; i++)
			at[i] = word(page, version[page], i);
		__atomic_fetch_add(&checked[self], 1, __ATOMIC_RELAXED);
		clock_check(self);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	threads = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	threads = threads < MAX ? threads : MAX;
	pages = (argc > 1 ? strtoul(argv[1], NULL, 0) << 20 : 1 << 20) / threads / PAGE;
	for (uintptr_t i = 0; i < threads; i++)
		if (pthread_create(&thread, NULL, keep, (void *)i) != 0)
			return 1;
	for (unsigned n = 1;; n++) {
		unsigned long sum = 0, least = ~0ul;

		sleep(1);
		for (unsigned i = 0; i < threads; i++) {
			unsigned long one = __atomic_load_n(&checked[i], __ATOMIC_RELAXED);

			sum += one;
			least = one < least ? one : least;
		}
		printf("@m beat %u t=%llu pages=%lu least=%lu\n", n, (unsigned long long)(now() / 1000000), sum, least);
		fflush(stdout);
	}
}

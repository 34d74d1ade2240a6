/* SPDX-License-Identifier: MIT */
/*
 * The guest's memory, kept: a thread on each CPU changes pages at random, and before each change checks every word of
 * the page. So a page that went back to an old state, or that never came over, shows. Another thread on each CPU does
 * the same work in all vector registers over and over, with the same result. Each second it says how far it is, and
 * what the clock did.
 */
#include <cpuid.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "vector_work.h"

#define PAGE  4096ul
#define WORDS (PAGE / sizeof(uint64_t))
#define MAX   64
#define ROUNDS 2000 /* of a pass of the work in vector registers */

static uint64_t latest;             /* the latest time that any thread has seen */
static unsigned long checked[MAX], back[MAX], worked[MAX];
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

static void stay_on(unsigned cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
}

static void *keep(void *argument)
{
	unsigned self = (unsigned)(uintptr_t)argument;
	uint64_t *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t *version = calloc(pages, sizeof(*version)), state = self + 1;

	stay_on(self);
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

static int has_pkru(void)
{
	unsigned a, b, c, d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && c & bit_OSPKE;
}

static void work(const uint8_t *code, struct vector_work *w)
{
	static const uint32_t mxcsr = 0x1f80;

	/* Below the red zone. */
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\tcall *%[code]\n\tlea 128(%%rsp), %%rsp\n\t"
			 "fninit\n\tldmxcsr %[mxcsr]"
			 : : "S"(w), [code] "D"(code), [mxcsr] "m"(mxcsr)
			 : "rax", "rbx", "rcx", "rdx", "r8", "r9", "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3",
			   "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13",
			   "xmm14", "xmm15");
	/* Where x87's last instruction was is not kept everywhere. */
	memset(w->area + 6, 0, 18);
}

static void *keep_vectors(void *argument)
{
	static struct vector_work first[MAX], again[MAX];
	unsigned self = (unsigned)(uintptr_t)argument;
	const uint8_t *code = vector_work_sse;

	if (__builtin_cpu_supports("avx512bw"))
		code = vector_work_avx512;
	else if (__builtin_cpu_supports("avx2"))
		code = vector_work_avx;
	stay_on(self);
	for (;;) {
		struct vector_work *w = worked[self] ? &again[self] : &first[self];

		vector_work_fill(w, ROUNDS, has_pkru());
		work(code, w);
		if (worked[self] && memcmp(w, &first[self], sizeof(*w)) != 0) {
			printf("@m WRONG vectors: thread %u, pass %lu\n", self, worked[self]);
			exit(1);
		}
		__atomic_fetch_add(&worked[self], 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* The least of the counts of all threads. */
static unsigned long least(unsigned long *counts)
{
	unsigned long found = ~0ul;

	for (unsigned i = 0; i < threads; i++) {
		unsigned long one = __atomic_load_n(&counts[i], __ATOMIC_RELAXED);

		found = one < found ? one : found;
	}
	return found;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	threads = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	threads = threads < MAX ? threads : MAX;
	pages = (argc > 1 ? strtoul(argv[1], NULL, 0) << 20 : 1 << 20) / threads / PAGE;
	for (uintptr_t i = 0; i < threads; i++)
		if (pthread_create(&thread, NULL, keep, (void *)i) != 0 ||
		    pthread_create(&thread, NULL, keep_vectors, (void *)i) != 0)
			return 1;
	for (unsigned n = 1;; n++) {
		unsigned long sum = 0;

		sleep(1);
		for (unsigned i = 0; i < threads; i++)
			sum += __atomic_load_n(&checked[i], __ATOMIC_RELAXED);
		printf("@m beat %u t=%llu pages=%lu least=%lu vectors=%lu\n", n,
		       (unsigned long long)(now() / 1000000), sum, least(checked), least(worked));
		fflush(stdout);
	}
}

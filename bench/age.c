/* SPDX-License-Identifier: MIT */
/*
 * Aging: what a pass over one GiB costs, and whether vCPUs that fault at the same time notice it. This program embeds
 * the library, and has no peer on a real KVM: a KVM in a kernel ages when that kernel's memory management asks, and
 * no call of a client can ask for a range.
 *
 *     age-bench [--mmu tdp|shadow] [--json]
 *
 * For comparison the passes are also made with mmu_lock held for write throughout, as is often done. The library has
 * no such mode: this program takes the lock itself, and is linked with the library's internals for that.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/bare.h"
#include "bench/report.h"
#include "core/sync/mmu_lock.h"
#include "core/sync/vm.h"

/* --- one pass alone --- */

static bool age_all(struct bare *bare, bool clear)
{
	return vmmu_age(bare->vm, bare_hva(bare, 0), bare_hva(bare, BARE_BYTES), clear);
}

/* The part of a pass that none can avoid: reading 8 bytes for each page. */
static double read_entries(const uint64_t *entries)
{
	uint64_t sum = 0, t = now();

	for (uint64_t i = 0; i < BARE_PAGES; i++)
		sum += *(const volatile uint64_t *)&entries[i];
	return (double)(now() - t) / (double)BARE_PAGES + (double)(sum & 0);
}

static void passes(struct bare *bare)
{
	uint64_t *entries = malloc(BARE_PAGES * sizeof(*entries)), t;
	double young = 1e18, old = 1e18, limit = 1e18;

	if (!entries)
		die("memory");
	memset(entries, 1, BARE_PAGES * sizeof(*entries));
	for (int i = 0; i < 3 * RUNS; i++) {
		if (bare_use_all(bare) != BARE_PAGES)
			die("a page is not mapped");
		t = now();
		if (!age_all(bare, true))
			die("no page is young");
		young = least(young, (double)(now() - t) / (double)BARE_PAGES);
		t = now();
		if (age_all(bare, true))
			die("a page is young that nobody used");
		old = least(old, (double)(now() - t) / (double)BARE_PAGES);
		limit = least(limit, read_entries(entries));
	}
	free(entries);
	line("aging, every page young", young, "ns/page");
	line("aging, no page young", old, "ns/page");
	line("reading 8 bytes a page, no more", limit, "ns/page");
}

/* --- with faults going on --- */

enum third { NOBODY_AGES, AGES, AGES_LOCKED, THIRDS };

#define ROUNDS      9
#define PASSES      16
#define FAULT_FIRST (BARE_BYTES * 3 / 4) /* the vCPUs fault on the last quarter of what is aged, on one half each */
#define SHARE       ((BARE_BYTES - FAULT_FIRST) / BARE_VCPUS)
#define STEP        (8 * BARE_PAGE) /* one fault may map eight pages, with the neighbours */
#define STALL       100000 /* ns: no fault takes so long by itself */

static struct {
	struct bare *bare;
	enum third third;
	const uint64_t *entries; /* for the passes that only read */
	pthread_barrier_t start, end;
	atomic_bool done;
	double longest[BARE_VCPUS]; /* of this round, ns */
	uint64_t stalls[BARE_VCPUS];
	double pass_ns;
} race;

/* ns, since it began, in which the calling thread was ready to run and had no CPU. 0 where the kernel does not say. */
static uint64_t waited_for_cpu(int schedstat)
{
	char text[64] = "";
	char *end;

	if (schedstat < 0 || pread(schedstat, text, sizeof(text) - 1, 0) <= 0)
		return 0;
	strtoull(text, &end, 10);
	return strtoull(end, NULL, 10);
}

/* Take the mapping away again, so that a later fault finds nothing there. */
static void forget(struct bare *bare, uint64_t gpa)
{
	vmmu_invalidate_begin(bare->vm, bare_hva(bare, gpa), bare_hva(bare, gpa + STEP));
	vmmu_invalidate_end(bare->vm, bare_hva(bare, gpa), bare_hva(bare, gpa + STEP));
}

/*
 * Fault on the pages of the share, STEP by STEP, over and over. A turn that takes longer than STALL is a stall. The
 * time in which the thread was ready and had no CPU is not counted: the library did not cause it. Waiting for a lock
 * is counted. The yields between turns let others run where these threads have real-time priority.
 */
static void fault_on(unsigned id, int schedstat)
{
	uint64_t first = FAULT_FIRST + id * SHARE;

	for (uint64_t at = 0; !atomic_load_explicit(&race.done, memory_order_relaxed); at = (at + STEP) % SHARE) {
		uint64_t waited = waited_for_cpu(schedstat), t = now();
		double turn;

		bare_fault(race.bare, id, first + at);
		turn = (double)(now() - t);
		if (turn > race.longest[id] || turn > STALL)
			turn -= (double)(waited_for_cpu(schedstat) - waited);
		race.stalls[id] += turn > STALL;
		race.longest[id] = turn > race.longest[id] ? turn : race.longest[id];
		forget(race.bare, first + (at + SHARE / 2) % SHARE);
		if (at / STEP % 64 == 0)
			sched_yield();
	}
}

static void *vcpu_main(void *arg)
{
	int schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);

	for (int round = 0; round < ROUNDS; round++) {
		pthread_barrier_wait(&race.start);
		fault_on((unsigned)(uintptr_t)arg, schedstat);
		pthread_barrier_wait(&race.end);
	}
	if (schedstat >= 0)
		close(schedstat);
	return NULL;
}

static void pass(void)
{
	struct mmu_write token;

	switch (race.third) {
	case NOBODY_AGES:
		for (int i = 0; i < 8; i++) /* about as long as a pass */
			read_entries(race.entries);
		break;
	case AGES:
		age_all(race.bare, true);
		break;
	default:
		token = mmu_write_lock(&race.bare->vm->vm);
		age_all(race.bare, true);
		mmu_write_unlock(&token);
		break;
	}
}

static void third_main(void)
{
	uint64_t t = now_cpu();

	for (int i = 0; i < PASSES; i++) {
		pass();
		usleep(100); /* lets threads that wait for the lock take it */
	}
	race.pass_ns += (double)(now_cpu() - t);
	atomic_store(&race.done, true);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void race_lines(const double *longest)
{
	static const char *const who[] = { "nobody ages", "1 GiB is aged", "aged under mmu_lock" };
	uint64_t stalls = 0;
	char name[80];

	for (unsigned id = 0; id < BARE_VCPUS; id++)
		stalls += race.stalls[id];
	snprintf(name, sizeof(name), "longest stall of a fault, %s", who[race.third]);
	line(name, longest[ROUNDS / 2] / 1000, "us");
	snprintf(name, sizeof(name), "  stalls > 100 us a pass, %s", who[race.third]);
	line(name, (double)stalls / (ROUNDS * PASSES), "");
	if (race.third == AGES)
		line("aging, with 2 vCPUs faulting", race.pass_ns / (ROUNDS * PASSES) / (double)BARE_PAGES, "ns/page");
}

static void race_run(struct bare *bare, enum third third)
{
	double longest[ROUNDS];
	pthread_t thread[BARE_VCPUS];

	race.third = third;
	race.pass_ns = 0;
	for (uintptr_t id = 0; id < BARE_VCPUS; id++) {
		race.stalls[id] = 0;
		if (pthread_create(&thread[id], NULL, vcpu_main, (void *)id))
			die("thread");
	}
	for (int round = 0; round < ROUNDS; round++) {
		bare_use_all(bare);
		race.longest[0] = race.longest[1] = 0;
		atomic_store(&race.done, false);
		pthread_barrier_wait(&race.start);
		third_main();
		pthread_barrier_wait(&race.end);
		longest[round] = race.longest[0] > race.longest[1] ? race.longest[0] : race.longest[1];
	}
	for (unsigned id = 0; id < BARE_VCPUS; id++)
		pthread_join(thread[id], NULL);
	qsort(longest, ROUNDS, sizeof(longest[0]), compare);
	race_lines(longest);
}

static void races(struct bare *bare)
{
	uint64_t *entries = calloc(BARE_PAGES, sizeof(*entries));

	if (!entries)
		die("memory");
	race.bare = bare;
	race.entries = entries;
	pthread_barrier_init(&race.start, NULL, BARE_VCPUS + 1);
	pthread_barrier_init(&race.end, NULL, BARE_VCPUS + 1);
	for (enum third third = 0; third < THIRDS; third++)
		race_run(bare, third);
	pthread_barrier_destroy(&race.start);
	pthread_barrier_destroy(&race.end);
	free(entries);
}

/* The memory that reverse maps take (P1), for calls before the first root and after everything is mapped. */
static void rmap_line(struct bare *bare, const char *name)
{
	struct vmmu_stats stats;

	vmmu_stats_get(bare->vm, &stats, sizeof(stats));
	line(name, (double)stats.rmap_bytes / (double)BARE_PAGES, "bytes");
}

/* Map every page. Only every eighth fault is timed: the pages between were mapped as its neighbours. */
static void map_all(struct bare *bare)
{
	double faults = 0;

	for (uint64_t gpa = 0; gpa < BARE_BYTES; gpa += BARE_PAGE) {
		uint64_t t = now();

		bare_fault(bare, 0, gpa);
		if (gpa % (8 * BARE_PAGE) == 0)
			faults += (double)(now() - t);
	}
	line("a fault, for the MMU alone", faults / (double)(BARE_PAGES / 8), "ns");
}

int main(int argc, char **argv)
{
	bool shadow = false;
	struct bare bare;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			report_begin(true);
		else if (!strcmp(argv[i], "--mmu") && i + 1 < argc &&
		         (!strcmp(argv[i + 1], "tdp") || !strcmp(argv[i + 1], "shadow")))
			shadow = !strcmp(argv[++i], "shadow");
		else {
			fprintf(stderr, "usage: age-bench [--mmu tdp|shadow] [--json]\n");
			return 2;
		}
	}
	bare_init(&bare, shadow);
	rmap_line(&bare, "rmap bytes per 4K page, before the first root");
	map_all(&bare);
	rmap_line(&bare, "rmap bytes per 4K page, all mapped");
	passes(&bare);
	races(&bare);
	bare_fini(&bare);
	report_end();
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * The library and a slow, obvious model in lock step, on random operations.
 *
 *     oracle [--shadow] [--seed N] [--seconds N] [--ops N] [--processes N]
 *
 * Also VMMU_TEST_SEED, VMMU_TEST_SECONDS, VMMU_TEST_OPS, VMMU_TEST_PROCESSES.
 *
 * Round i of a process uses its seed + i, so a failure is repeated by the seed that it prints. With a seed, there is
 * one process.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "test/common/side.h"
#include "test/oracle/model.h"

static const struct op {
	void (*fn)(struct model *m);
	unsigned weight;
} ops[] = {
	{ op_access, 60 }, { op_slot, 12 },       { op_invalidate_begin, 8 }, { op_invalidate_end, 8 },
	{ op_dirty, 12 },
	{ op_age, 4 },     { op_guest_copy, 6 },  { op_prefault, 5 },         { op_vcpu, 1 },
	{ op_dirty_mode, 1 },
	{ op_generations, 1 }, { op_room, 1 },
};

static void op_random(struct model *m)
{
	unsigned total = 0, at;

	for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		total += ops[i].weight;
	at = rng_below(&m->rng, total);
	for (unsigned i = 0;; at -= ops[i++].weight)
		if (at < ops[i].weight) {
			ops[i].fn(m);
			break;
		}
	m->ops++;
}

static void round_run(struct model *m, uint64_t seed, unsigned long count)
{
	trace("seed %llu", (unsigned long long)seed);
	model_start(m, seed);
	for (unsigned long i = 1; i <= count; i++) {
		op_random(m);
		if (i % 100 == 0)
			op_compare_all(m);
	}
	model_stop(m);
}

static unsigned long long number(int argc, char **argv, const char *option, const char *variable,
                                 unsigned long long otherwise)
{
	const char *value = getenv(variable);

	for (int i = 1; i + 1 < argc; i++)
		if (!strcmp(argv[i], option))
			value = argv[i + 1];
	return value ? strtoull(value, NULL, 0) : otherwise;
}

/* Shows how much each part of the library was used. A zero here is a gap in this test. */
static void stats_print(const struct vmmu_stats *s)
{
	printf("faults: %llu fixed, %llu fast, %llu spurious, %llu retried, %llu MMIO, %llu host\n",
	       (unsigned long long)s->faults_fixed, (unsigned long long)s->faults_fast,
	       (unsigned long long)s->faults_spurious,
	       (unsigned long long)s->faults_retried, (unsigned long long)s->faults_mmio,
	       (unsigned long long)s->faults_host);
	printf("at the ends: %llu leaves of 4K, %llu of 2M, %llu of 1G; %llu splits, %llu recovered, "
	       "%llu flushes, %llu kicks\n",
	       (unsigned long long)s->pages_4k, (unsigned long long)s->pages_2m, (unsigned long long)s->pages_1g,
	       (unsigned long long)s->splits, (unsigned long long)s->recovered, (unsigned long long)s->tlb_flushes,
	       (unsigned long long)s->kicks);
}

static struct model m;
static uint64_t seed;
static unsigned long seconds, count;

static int process_run(unsigned index)
{
	time_t end = time(NULL) + seconds;
	unsigned long rounds = 0;

	seed += index * 100000;
	printf("seed %llu\n", (unsigned long long)seed);
	fflush(stdout);
	arenas_make(&m);
	do {
		round_run(&m, seed++, count);
		rounds++;
	} while (time(NULL) < end);
	stats_print(&m.sum);
	printf("%lu rounds, %llu operations, %llu comparisons: the library and the model agree\n", rounds,
	       (unsigned long long)m.ops, (unsigned long long)m.compared);
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t given = number(argc, argv, "--seed", "VMMU_TEST_SEED", 0);
	unsigned processes = number(argc, argv, "--processes", "VMMU_TEST_PROCESSES", given ? 1 : 6);

	seed = given ? given : (uint64_t)time(NULL) * 1000000;
	seconds = number(argc, argv, "--seconds", "VMMU_TEST_SECONDS", 8);
	count = number(argc, argv, "--ops", "VMMU_TEST_OPS", 1500);
	for (int i = 1; i < argc; i++)
		m.shadow |= !strcmp(argv[i], "--shadow");
	return !side_by_side(processes, process_run);
}

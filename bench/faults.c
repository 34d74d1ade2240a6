/* SPDX-License-Identifier: MIT */
/* The first touch of pages, and pages that the host takes away. */
#include <string.h>
#include <sys/mman.h>

#include "bench/bench.h"

struct cost {
	double wall, cpu; /* ns a page */
};

static struct cost first_touch(int vcpus, size_t bytes, unsigned data)
{
	uint64_t pages = bytes / PAGE, share = pages / (unsigned)vcpus;
	struct cost best = { 1e18, 1e18 };

	for (int i = 0; i < RUNS; i++) {
		struct machine m;
		struct call calls[MAX_VCPU];
		uint64_t wall, cpu;

		machine_init(&m, vcpus, bytes, data);
		/* The first page is not timed: each vCPU runs the routine's code for the first time then. */
		for (int v = 0; v < vcpus; v++) {
			calls[v] = touch((unsigned)v * share, 1);
			machine_call(&m, v, &calls[v]);
			calls[v] = touch((unsigned)v * share + 1, share - 1);
		}
		wall = machine_call_all(&m, calls, &cpu);
		best.wall = least(best.wall, (double)wall / (double)pages);
		best.cpu = least(best.cpu, (double)cpu / (double)pages);
		machine_fini(&m);
	}
	return best;
}

/* The cost of a page when the host itself touches it first. */
static double host_touch(size_t bytes)
{
	double best = 1e18;

	for (int i = 0; i < RUNS; i++) {
		uint8_t *memory = machine_memory(bytes, true);
		uint64_t t = now();

		for (size_t at = 0; at < bytes; at += PAGE)
			*(volatile uint32_t *)(memory + at) = 1;
		best = least(best, (double)(now() - t) / (double)(bytes / PAGE));
		munmap(memory, bytes);
	}
	return best;
}

void bench_fault(void)
{
	struct cost one = first_touch(1, 256 * MIB, DATA_PRESENT | DATA_SMALL);
	struct cost two = first_touch(2, 256 * MIB, DATA_PRESENT | DATA_SMALL);

	line("first touch, prefaulted, 1 vCPU", one.wall, "ns/page");
	line("first touch, prefaulted, 2 vCPUs", two.wall, "ns/page");
	line("speed-up from the second vCPU", one.wall / two.wall, "x");
	line("  the same in CPU time", 2 * one.cpu / two.cpu, "x");
	line("first touch, prefaulted, huge pages", first_touch(1, 256 * MIB, DATA_PRESENT).wall, "ns/page");
	line("first touch, not prefaulted", first_touch(1, 64 * MIB, DATA_SMALL).wall, "ns/page");
	line("first touch by the host itself", host_touch(64 * MIB), "ns/page");
}

static double dontneed(uint8_t *memory, uint64_t pages)
{
	uint64_t t = now();

	for (uint64_t i = 0; i < pages; i++)
		if (madvise(memory + i * PAGE, PAGE, MADV_DONTNEED))
			die("MADV_DONTNEED");
	return (double)(now() - t) / (double)pages;
}

static double dontneed_fresh(uint64_t pages)
{
	uint8_t *memory = machine_memory(pages * PAGE, true);
	double ns;

	memset(memory, 1, pages * PAGE);
	ns = dontneed(memory, pages);
	munmap(memory, pages * PAGE);
	return ns;
}

void bench_notifier(void)
{
	const uint64_t pages = 8192;
	double mapped = 1e18, unrelated = 1e18, alone = 1e18;

	for (int i = 0; i < RUNS; i++)
		alone = least(alone, dontneed_fresh(pages));
	for (int i = 0; i < RUNS; i++) {
		struct call all = touch(0, pages);
		struct machine m;

		machine_init(&m, 1, pages * PAGE, DATA_PRESENT | DATA_SMALL);
		machine_call(&m, 0, &all);
		unrelated = least(unrelated, dontneed_fresh(pages));
		mapped = least(mapped, dontneed(m.data, pages));
		machine_fini(&m);
	}
	line("MADV_DONTNEED of a mapped page", mapped, "ns");
	line("MADV_DONTNEED of an unrelated page", unrelated, "ns");
	line("MADV_DONTNEED with no VM", alone, "ns");
}

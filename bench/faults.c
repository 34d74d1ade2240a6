/* SPDX-License-Identifier: MIT */
/* Pages that come, and pages that the host takes away. */
#include <string.h>
#include <sys/mman.h>

#include "bench/bench.h"

static double first_touch(int vcpus, size_t bytes, unsigned data)
{
	uint64_t pages = bytes / PAGE, share = pages / (unsigned)vcpus;
	double best = 1e18;

	for (int i = 0; i < RUNS; i++) {
		struct machine m;
		struct call calls[MAX_VCPU];

		machine_init(&m, vcpus, bytes, data);
		for (int v = 0; v < vcpus; v++)
			calls[v] = touch((unsigned)v * share, share);
		best = least(best, (double)machine_call_all(&m, calls) / (double)pages);
		machine_fini(&m);
	}
	return best;
}

void bench_fault(void)
{
	double one = first_touch(1, 256 * MIB, DATA_PRESENT | DATA_SMALL);
	double two = first_touch(2, 256 * MIB, DATA_PRESENT | DATA_SMALL);

	line("first touch, prefaulted, 1 vCPU", one, "ns/page");
	line("first touch, prefaulted, 2 vCPUs", two, "ns/page");
	line("speed-up from the second vCPU", one / two, "x");
	line("first touch, prefaulted, huge pages", first_touch(1, 256 * MIB, DATA_PRESENT), "ns/page");
	line("first touch, not prefaulted", first_touch(1, 64 * MIB, DATA_SMALL), "ns/page");
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

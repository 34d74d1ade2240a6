/* SPDX-License-Identifier: MIT */
/* The host's CPUID. */
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "cpu/system/host.h"

#if defined(__x86_64__)
#include <cpuid.h>

static void ask(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	memset(out, 0, 4 * sizeof(out[0]));
	if (leaf <= (uint32_t)__get_cpuid_max(leaf & 0x80000000, NULL))
		__cpuid_count(leaf, subleaf, out[0], out[1], out[2], out[3]);
}

#else

static void ask(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	(void)leaf;
	(void)subleaf;
	memset(out, 0, 4 * sizeof(out[0]));
}

#endif

/* Several threads may fill in a leaf at once: they write the same. */
static struct {
	const uint32_t leaf, subleaf;
	_Atomic(uint32_t) out[4];
	atomic_bool known;
} leaves[] = {
	{ .leaf = 1 }, { .leaf = 7 }, { .leaf = 7, .subleaf = 1 }, { .leaf = 0xd }, { .leaf = 0xd, .subleaf = 1 },
	{ .leaf = 0x80000001 }, { .leaf = 0x80000008 },
};

void host_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	unsigned i = 0, n = sizeof(leaves) / sizeof(leaves[0]);

	while (i < n && (leaves[i].leaf != leaf || leaves[i].subleaf != subleaf))
		i++;
	/* Pairs with the release below: the words are there. */
	if (i < n && atomic_load_explicit(&leaves[i].known, memory_order_acquire)) {
		for (unsigned r = 0; r < 4; r++)
			out[r] = atomic_load_explicit(&leaves[i].out[r], memory_order_relaxed);
		return;
	}
	ask(leaf, subleaf, out);
	if (i == n)
		return;
	for (unsigned r = 0; r < 4; r++)
		atomic_store_explicit(&leaves[i].out[r], out[r], memory_order_relaxed);
	/* Pairs with the acquire above. */
	atomic_store_explicit(&leaves[i].known, true, memory_order_release);
}

/* SPDX-License-Identifier: MIT */
/* The cost of changing one slot beside 1, 64, 509 and 4096 others. */
#include <stdio.h>
#include <sys/mman.h>

#include "bench/bench.h"

#define FILLER_GPA (UINT64_C(1) << 36)
#define SLOT_GPA   (UINT64_C(1) << 37)
#define SLOT_BYTES (2 * MIB)
#define CHANGES    (8 * RUNS)

void fill_slots(struct machine *m, unsigned count, const void *page)
{
	for (unsigned i = 0; i < count; i++)
		if (machine_slot(m, 2 + i, 0, FILLER_GPA + 2 * i * PAGE, PAGE, page))
			die("filler slot");
}

static void slots_with(unsigned others)
{
	static const char *const verb[] = { "create", "move", "delete" };
	double best[3] = { 1e18, 1e18, 1e18 };
	struct call one = touch(0, 1);
	uint8_t *memory = machine_memory(SLOT_BYTES, true);
	char name[64];
	struct machine m;

	machine_init(&m, 1, MIB, DATA_PRESENT | DATA_SMALL);
	fill_slots(&m, others - 1, memory); /* slot 1 is the first of the others */
	machine_call(&m, 0, &one);          /* now the VM has run, and has tables */
	for (int i = 0; i < CHANGES; i++) {
		uint64_t t[4];

		t[0] = now();
		if (machine_slot(&m, others + 2, 0, SLOT_GPA, SLOT_BYTES, memory))
			die("create");
		t[1] = now();
		if (machine_slot(&m, others + 2, 0, SLOT_GPA + 2 * SLOT_BYTES, SLOT_BYTES, memory))
			die("move");
		t[2] = now();
		if (machine_slot(&m, others + 2, 0, SLOT_GPA, 0, memory))
			die("delete");
		t[3] = now();
		for (int v = 0; v < 3; v++)
			best[v] = least(best[v], (double)(t[v + 1] - t[v]));
	}
	for (int v = 0; v < 3; v++) {
		snprintf(name, sizeof(name), "slot %s, %u slots", verb[v], others);
		line(name, best[v] / 1000, "us");
	}
	machine_fini(&m);
	munmap(memory, SLOT_BYTES);
}

void bench_slot(void)
{
	static const unsigned others[] = { 1, 64, 509, 4096 };

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		slots_with(others[i]);
}

/* SPDX-License-Identifier: MIT */
#include "guest_wide.h"

#define CR4_OSXSAVE 0x40000u
#define XCR0_ALL    0xe7u

int vector_setup(void **state)
{
	struct guest *g = guest_make();
	struct cpu_state *s = cpu_state(g->cpu);

	guest_long(g);
	s->cr4 |= CR4_OSXSAVE;
	s->xcr0 = XCR0_ALL;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	vector_fill_memory(g);
	*state = g;
	return 0;
}

void vector_end_is(struct guest *g, enum vector_end what)
{
	uint64_t *pte = guest_pte(g, VECTOR_END);
	uint64_t rights = *guest_pte(g, GUEST_DATA) & 0xfff;

	switch (what) {
	case END_ABSENT: *pte = 0; break;
	case END_READ_ONLY: *pte = VECTOR_END | (rights & ~UINT64_C(2)); break;
	case END_DEVICE: *pte = GUEST_MMIO | rights; break;
	case END_MEMORY: *pte = VECTOR_END | rights; break;
	}
	cpu_state_changed(g->cpu, CPU_CHANGED_PAGING);
}

void vector_fill_memory(struct guest *g)
{
	for (unsigned i = 0; i < 0x2000; i++)
		g->ram[GUEST_DATA + i] = (uint8_t)((i - 0xf00) % 251 + 1);
}

int vector_run(struct guest *g)
{
	cpu_state(g->cpu)->rip = GUEST_CODE;
	return guest_run_to_hlt(g);
}

uint64_t vector_get(struct guest *g, unsigned reg, unsigned n, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, cpu_state(g->cpu)->vectors.v[reg] + n * size, size);
	return value;
}

void vector_set(struct guest *g, unsigned reg, unsigned n, unsigned size, uint64_t value)
{
	memcpy(cpu_state(g->cpu)->vectors.v[reg] + n * size, &value, size);
}

/* SPDX-License-Identifier: MIT */
/* The guest's own paging, exits, and plain instructions. */
#include "bench/bench.h"

static double best_call(struct machine *m, const struct call *call)
{
	double best = 1e18;

	for (int i = 0; i < RUNS; i++)
		best = least(best, (double)machine_call(m, 0, call));
	return best;
}

/* CPL 0, since INVLPG and MOV to CR3 need it. */
void bench_paging(void)
{
	const uint64_t turns = 20000;
	struct machine m;
	struct call call = { .routine = guest_invlpg, .rdi = DATA_GPA, .rsi = turns, .rdx = machine_pte_gpa(0),
		             .r8 = (DATA_GPA + PAGE) | 0x67, .r9 = DATA_GPA | 0x67 };

	machine_init(&m, 1, MIB, DATA_PRESENT | DATA_SMALL);
	line("PTE edit + INVLPG + touch", best_call(&m, &call) / (double)turns, "ns");
	call = (struct call){ .routine = guest_cr3, .rdi = DATA_GPA, .rsi = turns, .r8 = machine_root_gpa(1),
		              .r9 = machine_root_gpa(0) };
	line("CR3 switch + touch", best_call(&m, &call) / (double)turns, "ns");
	machine_fini(&m);
}

void bench_exit(void)
{
	const uint64_t turns = 20000;
	struct call call = { .routine = guest_io, .rsi = turns, .cpl = 3 };
	struct machine m;

	machine_init(&m, 1, MIB, DATA_PRESENT | DATA_SMALL);
	line("I/O exit round trip", best_call(&m, &call) / 1000 / (double)turns, "us");
	machine_fini(&m);
}

/* Instructions of one turn of guest_sieve, counted as guest.S is written. */
static uint64_t sieve_instructions(void)
{
	static uint8_t sieve[65536];
	uint64_t n = 2 + 4 * (65536 / 8) + 1 + 2;

	for (unsigned i = 2; i < 256; i++) {
		n += 2 + 3; /* cmpb jne; incl cmpl jb */
		if (sieve[i])
			continue;
		n += 4;
		for (unsigned j = i * i; j < 65536; j += i) {
			sieve[j] = 1;
			n += 4;
		}
	}
	return n;
}

/* Long enough for a machine that interprets, whatever that does to the real one: tens of milliseconds there. */
void bench_mips(void)
{
	struct call call = { .routine = guest_stores, .rdi = DATA_GPA, .rsi = 4000, .cpl = 3 };
	struct machine m;

	machine_init(&m, 1, MIB, DATA_PRESENT | DATA_SMALL);
	line("store loop", 4000 * (4096 * 4 + 4.) * 1e3 / best_call(&m, &call), "MIPS");
	call.routine = guest_sieve;
	call.rsi = 100;
	line("sieve", 100 * (double)sieve_instructions() * 1e3 / best_call(&m, &call), "MIPS");
	call.routine = guest_calls;
	call.rsi = 5000000;
	line("call/return", 5000000 * 5. * 1e3 / best_call(&m, &call), "MIPS");
	machine_fini(&m);
}

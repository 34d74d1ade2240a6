/* SPDX-License-Identifier: MIT */
/* The guest's own paging, exits, and plain instructions. */
#include <stdio.h>

#include "bench/bench.h"

static double best_call(struct machine *m, const struct call *call)
{
	double best = 1e18;

	for (int i = 0; i < RUNS; i++)
		best = least(best, (double)machine_call(m, 0, call));
	return best;
}

#define SPACE_GVA (UINT64_C(1) << 39) /* entry 1 of the root: where guest.S puts address spaces of its own */

static void invlpg(struct machine *m)
{
	const uint64_t turns = 20000;
	struct call call = { .routine = guest_invlpg, .rdi = DATA_GPA, .rsi = turns, .rdx = machine_pte_gpa(0),
		             .r8 = (DATA_GPA + PAGE) | PTE_ALL, .r9 = DATA_GPA | PTE_ALL };

	line("PTE edit + INVLPG + touch", best_call(m, &call) / (double)turns, "ns");
}

/*
 * Make a root at `gpa`, as of a process, and behind it its own three tables for the page at SPACE_GVA. The rest is
 * shared with the machine's root, as a kernel's part would be.
 */
static void process_make(struct machine *m, uint64_t gpa, uint64_t data)
{
	machine_table(m, gpa)[0] = machine_table(m, machine_root_gpa())[0];
	machine_table(m, gpa)[1] = (gpa + PAGE) | PTE_ALL;
	machine_table(m, gpa + PAGE)[0] = (gpa + 2 * PAGE) | PTE_ALL;
	machine_table(m, gpa + 2 * PAGE)[0] = (gpa + 3 * PAGE) | PTE_ALL;
	machine_table(m, gpa + 3 * PAGE)[0] = data | PTE_ALL;
}

static void cr3(struct machine *m, unsigned roots)
{
	const uint64_t turns = 20000;
	struct call call = { .routine = guest_cr3, .rdi = SPACE_GVA, .rsi = turns, .rdx = 4 * PAGE, .r8 = SCRATCH_GPA,
		             .r9 = SCRATCH_GPA + roots * 4 * PAGE };
	char name[64];

	for (unsigned i = 0; i < roots; i++)
		process_make(m, SCRATCH_GPA + i * 4 * PAGE, DATA_GPA + i * PAGE);
	snprintf(name, sizeof(name), "CR3 switch + touch, %u root%s", roots, roots > 1 ? "s" : "");
	line(name, best_call(m, &call) / (double)turns, "ns");
}

static void space(struct machine *m)
{
	const uint64_t turns = 500;
	struct call call = { .routine = guest_space, .rdi = SCRATCH_GPA + MIB, .rsi = turns, .rdx = DATA_GPA | 7,
		             .r8 = machine_table(m, machine_root_gpa())[0], .r9 = machine_root_gpa() };

	line("64-page address space: build, use, destroy", best_call(m, &call) / 1000 / (double)turns, "us");
}

#define FORK_TABLES 1000u

/*
 * Make the tables of a process that forks, or of its child: at `gpa` the root, the PDPT and two directories, and
 * behind them the tables. At first only the parent has its tables linked.
 */
static void fork_make(struct machine *m, uint64_t gpa, bool parent, uint64_t frames)
{
	uint64_t directory = gpa + 2 * PAGE, tables = gpa + 4 * PAGE;

	machine_table(m, gpa)[0] = machine_table(m, machine_root_gpa())[0];
	machine_table(m, gpa)[1] = (gpa + PAGE) | PTE_ALL;
	for (uint64_t i = 0; i < 2; i++)
		machine_table(m, gpa + PAGE)[i] = (directory + i * PAGE) | PTE_ALL;
	for (uint64_t i = 0; parent && i < FORK_TABLES; i++) {
		machine_table(m, directory)[i] = (tables + i * PAGE) | PTE_ALL;
		for (uint64_t j = 0; j < 512; j++)
			machine_table(m, tables + i * PAGE)[j] = (DATA_GPA + (i * 16 + j) % frames * PAGE) | PTE_ALL;
	}
}

static void fork_copy(void)
{
	const uint64_t frames = 64 * MIB / PAGE, parent = SCRATCH_GPA, child = SCRATCH_GPA + (FORK_TABLES + 4) * PAGE;
	struct call call = { .routine = guest_fork, .rdi = parent + 2 * PAGE, .rsi = 1, .rdx = child + 2 * PAGE,
	                     .r8 = parent, .r9 = child };
	struct machine m;

	machine_init(&m, 1, frames * PAGE, DATA_PRESENT | DATA_SMALL | DATA_SCRATCH);
	fork_make(&m, parent, true, frames);
	fork_make(&m, child, false, frames);
	machine_call(&m, 0, &call); /* not timed: at the first fork nothing is mapped yet */
	line("fork-like copy of 1000 tables", best_call(&m, &call) / 1e6, "ms");
	machine_fini(&m);
}

/* These routines run at CPL 0, since INVLPG and MOV to CR3 need it. */
void bench_paging(void)
{
	struct machine m;

	machine_init(&m, 1, MIB, DATA_PRESENT | DATA_SMALL | DATA_SCRATCH);
	invlpg(&m);
	cr3(&m, 1);
	cr3(&m, 4);
	cr3(&m, 16);
	space(&m);
	machine_fini(&m);
	fork_copy();
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

/* The number of instructions in one turn of guest_sieve, counted from its text in guest.S. */
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

/* As many turns as an interpreter needs for a good measurement; a real KVM takes tens of milliseconds for them. */
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

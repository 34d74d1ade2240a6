/* SPDX-License-Identifier: MIT */
/*
 * What the memory system of a KVM costs, as a client sees it. This is an ordinary program that opens /dev/kvm and
 * does not know what answers there: the same binary measures the kernel's KVM and, under `vmmu run`, vmmu. bench/run
 * shows the two side by side.
 */
#include <stdio.h>
#include <string.h>

#include "bench/bench.h"

static const struct group {
	const char *name;
	void (*run)(void);
	const char *what;
} groups[] = {
	{ "slot", bench_slot, "create, move and delete a memory slot beside 1 .. 4096 others" },
	{ "fault", bench_fault, "first touch of a page, with 1 and 2 vCPUs" },
	{ "dirty", bench_dirty, "the dirty log: enable, get, clear, write again" },
	{ "notifier", bench_notifier, "MADV_DONTNEED of guest memory and of other memory" },
	{ "paging", bench_paging, "the guest edits its tables and switches CR3" },
	{ "exit", bench_exit, "I/O exit and back" },
	{ "mips", bench_mips, "plain instructions" },
	{ "irq", bench_irq, "IPIs, irqfd, and how late the timer is" },
	{ "call", bench_call, "calls that run no guest, and an exit" },
	{ "memory", bench_memory, "bytes of tables, of a VM, of a slot" },
};

static int help(FILE *to)
{
	fprintf(to, "usage: kvm-bench [--only GROUP] [--json] [--probe]\n\n"
	            "Measures whatever /dev/kvm is. --probe only says, by its exit status, whether there is one.\n"
	            "Groups:\n");
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
		fprintf(to, "  %-10s %s\n", groups[i].name, groups[i].what);
	return to == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
	const char *only = NULL;
	bool found = false;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--only") && i + 1 < argc)
			only = argv[++i];
		else if (!strcmp(argv[i], "--json"))
			report_begin(true);
		else if (!strcmp(argv[i], "--probe"))
			return machine_possible() ? 0 : 1;
		else
			return help(strcmp(argv[i], "--help") ? stderr : stdout);
	}
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		if (only && strcmp(groups[i].name, only))
			continue;
		found = true;
		groups[i].run();
	}
	report_end();
	return found ? 0 : help(stderr);
}

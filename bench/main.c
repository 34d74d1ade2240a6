/* SPDX-License-Identifier: MIT */
/*
 * What the memory system of a KVM costs, as a client sees it. Prints one line a measurement, for tool/run-bench:
 *
 *     name <tab> value <tab> unit
 *
 * Best of several runs for times: the machine is shared, and what disturbs only adds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/machine.h"
#include "bench/routines.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define RUNS 5

static const char *only; /* print the groups whose name contains this */

static void line(const char *name, double value, const char *unit)
{
	printf("%s\t%.4g\t%s\n", name, value, unit);
	fflush(stdout);
}

static double least(double a, double b)
{
	return a < b ? a : b;
}

static struct call touch(uint64_t first_page, uint64_t pages)
{
	return (struct call){ .routine = guest_touch, .rdi = DATA_GPA + first_page * PAGE, .rsi = pages, .cpl = 3 };
}

/* ---- slots ------------------------------------------------------------------------------------- */

#define FILLER_GPA (UINT64_C(1) << 36)
#define SLOT_GPA   (UINT64_C(1) << 37)
#define SLOT_BYTES (2 * MIB)

static void slots_with(unsigned others)
{
	static const char *const verb[] = { "create", "move", "delete" };
	double best[3] = { 1e18, 1e18, 1e18 };
	char name[64];
	struct machine m;
	char *page = mmap(NULL, SLOT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	machine_init(&m, 1, 0, false);
	for (unsigned i = 0; i < others; i++)
		if (machine_slot(&m, 2 + i, 0, FILLER_GPA + 2 * i * PAGE, PAGE, page))
			die("filler slot");
	for (int i = 0; i < 8 * RUNS; i++) {
		uint64_t t[4];

		t[0] = now();
		if (machine_slot(&m, others + 2, 0, SLOT_GPA, SLOT_BYTES, page))
			die("create");
		t[1] = now();
		if (machine_slot(&m, others + 2, 0, SLOT_GPA + 2 * SLOT_BYTES, SLOT_BYTES, page))
			die("move");
		t[2] = now();
		if (machine_slot(&m, others + 2, 0, SLOT_GPA, 0, page))
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
	munmap(page, SLOT_BYTES);
}

static void bench_slot(void)
{
	static const unsigned others[] = { 1, 64, 509, 4096 };

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		slots_with(others[i]);
}

/* ---- faults ------------------------------------------------------------------------------------ */

static double first_touch(int vcpus, size_t bytes, bool prefault)
{
	uint64_t pages = bytes / PAGE, share = pages / (unsigned)vcpus;
	double best = 1e18;

	for (int i = 0; i < RUNS; i++) {
		struct machine m;
		struct call calls[MAX_VCPU];

		machine_init(&m, vcpus, bytes, prefault);
		for (int v = 0; v < vcpus; v++)
			calls[v] = touch((unsigned)v * share, share);
		best = least(best, (double)machine_call_all(&m, calls) / (double)pages);
		machine_fini(&m);
	}
	return best;
}

static void bench_fault(void)
{
	double one = first_touch(1, 256 * MIB, true);
	double two = first_touch(2, 256 * MIB, true);

	line("first touch, prefaulted, 1 vCPU", one, "ns/page");
	line("first touch, prefaulted, 2 vCPUs", two, "ns/page");
	line("speed-up from the second vCPU", one / two, "x");
	line("first touch, not prefaulted", first_touch(1, 64 * MIB, false), "ns/page");
}

/* ---- dirty log --------------------------------------------------------------------------------- */

#define LOG_BYTES (512 * MIB)
#define LOG_PAGES (LOG_BYTES / PAGE)

static void dirty_get(struct machine *m, void *bitmap)
{
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bitmap };

	if (ioctl(m->vm, KVM_GET_DIRTY_LOG, &log))
		die("KVM_GET_DIRTY_LOG");
}

static void dirty_clear(struct machine *m, void *bitmap)
{
	struct kvm_clear_dirty_log log = { .slot = 1, .num_pages = LOG_PAGES, .dirty_bitmap = bitmap };

	if (ioctl(m->vm, KVM_CLEAR_DIRTY_LOG, &log))
		die("KVM_CLEAR_DIRTY_LOG");
}

static void dirty_log(bool manual)
{
	double enable, get = 1e18, clear = 1e18, redirty = 1e18, per_gib = (double)(1024 * MIB) / (double)LOG_BYTES;
	void *bitmap = calloc(LOG_PAGES / 64, 8);
	struct call all = touch(0, LOG_PAGES);
	struct machine m;
	uint64_t t;

	machine_init(&m, 1, LOG_BYTES, true);
	if (manual) {
		struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = { 1 } };

		if (ioctl(m.vm, KVM_ENABLE_CAP, &cap))
			die("manual protect");
	}
	machine_call(&m, 0, &all);
	t = now();
	if (machine_slot(&m, 1, KVM_MEM_LOG_DIRTY_PAGES, DATA_GPA, LOG_BYTES, m.data))
		die("dirty logging");
	enable = (double)(now() - t);
	machine_call(&m, 0, &all);
	for (int i = 0; i < RUNS; i++) {
		t = now();
		dirty_get(&m, bitmap);
		get = least(get, (double)(now() - t));
		if (*(uint64_t *)bitmap != UINT64_MAX)
			die("pages are missing in the dirty log");
		if (manual) {
			t = now();
			dirty_clear(&m, bitmap);
			clear = least(clear, (double)(now() - t));
		}
		redirty = least(redirty, (double)machine_call(&m, 0, &all));
	}
	if (manual) {
		line("dirty get, manual protect", get / 1e6 * per_gib, "ms/GiB");
		line("dirty clear", clear / (double)LOG_PAGES, "ns/page");
	} else {
		line("dirty log enable", enable / 1e6 * per_gib, "ms/GiB");
		line("dirty get, legacy", get / 1e6 * per_gib, "ms/GiB");
		line("re-dirty", redirty / (double)LOG_PAGES, "ns/page");
	}
	machine_fini(&m);
	free(bitmap);
}

static void bench_dirty(void)
{
	dirty_log(false);
	dirty_log(true);
}

/* ---- the host takes pages away ------------------------------------------------------------------- */

static double dontneed(uint8_t *memory, uint64_t pages)
{
	uint64_t t = now();

	for (uint64_t i = 0; i < pages; i++)
		if (madvise(memory + i * PAGE, PAGE, MADV_DONTNEED))
			die("MADV_DONTNEED");
	return (double)(now() - t) / (double)pages;
}

static void bench_notifier(void)
{
	const uint64_t pages = 8192;
	double mapped = 1e18, unrelated = 1e18;

	for (int i = 0; i < RUNS; i++) {
		struct call all = touch(0, pages);
		struct machine m;
		uint8_t *other = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		machine_init(&m, 1, pages * PAGE, true);
		machine_call(&m, 0, &all);
		madvise(other, pages * PAGE, MADV_NOHUGEPAGE);
		memset(other, 1, pages * PAGE);
		mapped = least(mapped, dontneed(m.data, pages));
		unrelated = least(unrelated, dontneed(other, pages));
		machine_fini(&m);
		munmap(other, pages * PAGE);
	}
	line("MADV_DONTNEED of a mapped page", mapped, "ns");
	line("MADV_DONTNEED of an unrelated page", unrelated, "ns");
}

/* ---- the guest's own paging, exits, instructions --------------------------------------------------- */

static double best_call(struct machine *m, const struct call *call)
{
	double best = 1e18;

	for (int i = 0; i < RUNS; i++)
		best = least(best, (double)machine_call(m, 0, call));
	return best;
}

static void bench_paging(void)
{
	const uint64_t turns = 20000;
	struct machine m;
	struct call call = { .routine = guest_invlpg, .rdi = DATA_GPA, .rsi = turns, .rdx = machine_pte_gpa(0),
		             .r8 = (DATA_GPA + PAGE) | 0x67, .r9 = DATA_GPA | 0x67 };

	machine_init(&m, 1, MIB, true);
	line("PTE edit + INVLPG + touch", best_call(&m, &call) / (double)turns, "ns");
	call = (struct call){ .routine = guest_cr3, .rdi = DATA_GPA, .rsi = turns, .r8 = machine_root_gpa(1),
		              .r9 = machine_root_gpa(0) };
	line("CR3 switch + touch", best_call(&m, &call) / (double)turns, "ns");
	machine_fini(&m);
}

static void bench_exit(void)
{
	const uint64_t turns = 20000;
	struct call call = { .routine = guest_io, .rsi = turns, .cpl = 3 };
	struct machine m;

	machine_init(&m, 1, MIB, true);
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

static void bench_mips(void)
{
	struct call call = { .routine = guest_stores, .rdi = DATA_GPA, .rsi = 4000, .cpl = 3 };
	struct machine m;

	machine_init(&m, 1, MIB, true);
	line("store loop", 4000 * (4096 * 4 + 4.) * 1e3 / best_call(&m, &call), "MIPS");
	call.routine = guest_sieve;
	call.rsi = 100;
	line("sieve", 100 * (double)sieve_instructions() * 1e3 / best_call(&m, &call), "MIPS");
	call.routine = guest_calls;
	call.rsi = 5000000;
	line("call/return", 5000000 * 5. * 1e3 / best_call(&m, &call), "MIPS");
	machine_fini(&m);
}

/* ---- memory ------------------------------------------------------------------------------------ */

static double proc_kib(const char *file, const char *field)
{
	char text[256];
	double kib = 0;
	FILE *f = fopen(file, "r");

	while (f && fgets(text, sizeof(text), f))
		if (!strncmp(text, field, strlen(field)))
			kib = strtod(text + strlen(field), NULL);
	if (f)
		fclose(f);
	return kib;
}

/* What tables cost: the kernel's, or this process's when vmmu lives in it. */
static double table_bytes(void)
{
	return 1024 * (proc_kib("/proc/meminfo", "SecPageTables:") + proc_kib("/proc/self/status", "VmRSS:"));
}

static double kvm_bytes(void)
{
	return table_bytes() + 1024 * (proc_kib("/proc/meminfo", "Slab:") + proc_kib("/proc/meminfo", "VmallocUsed:") +
	                               proc_kib("/proc/meminfo", "Percpu:"));
}

static void bench_memory(void)
{
	const uint64_t pages = 256 * MIB / PAGE;
	struct call one = touch(0, 1), all = touch(0, pages);
	int fd[32], vcpu[ARRAY_SIZE(fd)], vms = (int)ARRAY_SIZE(fd);
	struct machine m;
	double before;
	char page[1];

	machine_init(&m, 1, 256 * MIB, true);
	machine_call(&m, 0, &one);
	before = table_bytes();
	machine_call(&m, 0, &all);
	line("tables per mapped 4K page", (table_bytes() - before) / (double)pages, "bytes");

	before = kvm_bytes();
	for (int i = 0; i < vms; i++) {
		fd[i] = ioctl(m.kvm, KVM_CREATE_VM, 0L);
		vcpu[i] = fd[i] < 0 ? -1 : ioctl(fd[i], KVM_CREATE_VCPU, 0L);
		if (vcpu[i] < 0)
			die("KVM_CREATE_VCPU");
	}
	line("a VM with one vCPU", (kvm_bytes() - before) / 1024 / vms, "KiB");
	for (int i = 0; i < vms; i++) {
		close(vcpu[i]);
		close(fd[i]);
	}

	before = kvm_bytes();
	for (unsigned i = 0; i < 4096; i++)
		if (machine_slot(&m, 2 + i, 0, FILLER_GPA + 2 * i * PAGE, PAGE, (void *)((uintptr_t)page & ~(PAGE - 1))))
			die("filler slot");
	line("a slot of one page", (kvm_bytes() - before) / 4096, "bytes");
	machine_fini(&m);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} group[] = {
		{ "slot", bench_slot }, { "fault", bench_fault }, { "dirty", bench_dirty }, { "notifier", bench_notifier },
		{ "paging", bench_paging }, { "exit", bench_exit }, { "mips", bench_mips }, { "memory", bench_memory },
	};

	if (argc == 2 && !strcmp(argv[1], "--probe"))
		return machine_possible() ? 0 : 1;
	only = argc == 2 ? argv[1] : "";
	for (size_t i = 0; i < ARRAY_SIZE(group); i++)
		if (strstr(group[i].name, only))
			group[i].run();
	return 0;
}

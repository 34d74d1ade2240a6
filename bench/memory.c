/* SPDX-License-Identifier: MIT */
/*
 * The memory that a VM takes beside the guest's own: that of this process and that of the kernel. A KVM in the kernel
 * takes kernel memory, and one in a process takes the process's. The same code measures both, and reports the sum.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bench/bench.h"

#define VMS   128
#define SLOTS 4096

static double field(const char *file, const char *name)
{
	char text[256];
	double kib = 0;
	FILE *f = fopen(file, "r");

	while (f && fgets(text, sizeof(text), f))
		if (!strncmp(text, name, strlen(name)) && text[strlen(name)] == ':')
			kib = strtod(text + strlen(name) + 1, NULL);
	if (f)
		fclose(f);
	return kib * 1024;
}

static double own(void)
{
	return field("/proc/self/status", "VmRSS");
}

static double table_bytes(void)
{
	return field("/proc/meminfo", "SecPageTables") + own();
}

/* The kernel memory that /proc/meminfo names. A KVM's few pages per vCPU that no name counts are missing here. */
static double kernel_bytes(void)
{
	static const char *const name[] = { "SUnreclaim", "VmallocUsed", "SecPageTables", "Percpu" };
	double bytes = 0;

	for (size_t i = 0; i < ARRAY_SIZE(name); i++)
		bytes += field("/proc/meminfo", name[i]);
	return bytes;
}

static double vm_bytes(void)
{
	return kernel_bytes() + own();
}

static double tables_per_page(uint64_t bytes, unsigned data)
{
	uint64_t pages = bytes / PAGE;
	struct call one = touch(0, 1), all = touch(0, pages);
	struct machine m;
	double before, after;

	machine_init(&m, 1, bytes, data);
	machine_call(&m, 0, &one);
	before = table_bytes();
	machine_call(&m, 0, &all);
	after = table_bytes();
	machine_fini(&m);
	return (after - before) / (double)pages;
}

/* All memory that a slot takes: before the guest touches it, and when all of it is mapped by 4 KiB pages. */
static void slot_pages(void)
{
	const uint64_t bytes = 512 * MIB, pages = bytes / PAGE;
	struct call all = touch(0, pages);
	struct machine m;
	double before;

	machine_init(&m, 1, bytes, DATA_PRESENT | DATA_SMALL);
	if (machine_slot(&m, 1, 0, DATA_GPA, 0, NULL))
		die("delete");
	before = vm_bytes();
	if (machine_slot(&m, 1, 0, DATA_GPA, bytes, m.data))
		die("create");
	line("a slot before it is used, per 4K page", (vm_bytes() - before) / (double)pages, "bytes");
	machine_call(&m, 0, &all);
	line("a slot all mapped, per 4K page", (vm_bytes() - before) / (double)pages, "bytes");
	machine_fini(&m);
}

/* `chips`: with the interrupt controllers and the timer of a PC. */
static void vms(int kvm, bool chips, const char *name)
{
	static int fd[VMS], vcpu[VMS];
	struct kvm_pit_config pit = { 0 };
	double before = vm_bytes();

	for (int i = 0; i < VMS; i++) {
		fd[i] = ioctl(kvm, KVM_CREATE_VM, 0L);
		if (chips && (ioctl(fd[i], KVM_CREATE_IRQCHIP, 0L) || ioctl(fd[i], KVM_CREATE_PIT2, &pit)))
			die("KVM_CREATE_IRQCHIP, KVM_CREATE_PIT2");
		vcpu[i] = fd[i] < 0 ? -1 : ioctl(fd[i], KVM_CREATE_VCPU, 0L);
		if (vcpu[i] < 0)
			die("KVM_CREATE_VCPU");
	}
	line(name, (vm_bytes() - before) / 1024 / VMS, "KiB");
	for (int i = 0; i < VMS; i++) {
		close(vcpu[i]);
		close(fd[i]);
	}
}

void bench_memory(void)
{
	struct call one = touch(0, 1);
	uint8_t *page = machine_memory(PAGE, true);
	struct machine m;
	double before;

	/* The large VMs come last, since the kernel frees their memory with a delay. */
	machine_init(&m, 1, MIB, DATA_PRESENT | DATA_SMALL);
	machine_call(&m, 0, &one);
	before = vm_bytes();
	fill_slots(&m, SLOTS, page);
	line("a slot of one page", (vm_bytes() - before) / SLOTS, "bytes");
	vms(m.kvm, false, "a VM with one vCPU");
	vms(m.kvm, true, "a VM with one vCPU and all chips");
	machine_fini(&m);
	line("tables per 4K page, 4K mappings", tables_per_page(256 * MIB, DATA_PRESENT | DATA_SMALL), "bytes");
	line("tables per 4K page, huge pages", tables_per_page(256 * MIB, DATA_PRESENT), "bytes");
	slot_pages();
}

/* SPDX-License-Identifier: MIT */
/*
 * A hypervisor without an operating system, which measures what its guests cost it: AMD SVM on whatever it runs on.
 * bench/run boots it in QEMU, on vmmu and on QEMU's own TCG. Each result is a line "name|nanoseconds" on port 0xe9.
 */
#include <stdbool.h>

#include "cpu/system/vmcb.h"

#define PAGE   4096u

#define ROUNDS 20000u /* of what is short */
#define WARM   10u    /* more, before the clock runs */
#define PAGES  4096u  /* that the guest touches for the first time */
#define EDITS  4000u
#define SWITCHES 10000u

#define PTE    0x67u  /* present, writable, user, accessed, dirty */
#define LARGE  0x80u
#define WINDOW 0x10000000u /* of L2: PAGES pages that only entries of 4 KiB map */
#define MEMORY 0x14000000u /* of L1: what these entries lead to */

struct registers {
	uint64_t rcx, rdx, rsi, rdi, rbx;
};

void guest_enter(uint64_t vmcb, struct registers *registers);
void guest_call(void);
void guest_touch(void);
void guest_read(void);
void guest_switch(void);
void hypervisor(void);

/* Tables of L2, and of its second stage. */
static struct {
	uint64_t pml4[512], pdpt[512], pd[512];
} guest[2] __attribute__((aligned(4096)));
static struct {
	uint64_t pml4[512], pdpt[512], pd[512], pt[PAGES / 512][512];
} nested __attribute__((aligned(4096)));
static struct vmcb vmcb __attribute__((aligned(4096)));
static uint8_t host_save[PAGE] __attribute__((aligned(4096)));
static uint64_t ticks_per_ms;

void *memset(void *to, int value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		((volatile uint8_t *)to)[i] = (uint8_t)value;
	return to;
}

static void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static uint64_t now(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return low | (uint64_t)high << 32;
}

static void wrmsr(uint32_t index, uint64_t value)
{
	__asm__ volatile("wrmsr" : : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static uint32_t cpuid(uint32_t leaf, unsigned which)
{
	uint32_t r[4];

	__asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(0));
	return r[which];
}

static void text(const char *s)
{
	while (*s)
		out8(0xe9, (uint8_t)*s++);
}

static void number(uint64_t n)
{
	if (n >= 10)
		number(n / 10);
	out8(0xe9, (uint8_t)('0' + n % 10));
}

static void end(uint8_t status)
{
	out8(0xf4, status); /* QEMU's isa-debug-exit: it ends with status * 2 + 1 */
	for (;;)
		__asm__ volatile("cli; hlt");
}

static void die(const char *what)
{
	text("failed|");
	text(what);
	text(", exit code ");
	number(vmcb.control.exit_code);
	text(", info ");
	number(vmcb.control.exit_info1);
	text(", ");
	number(vmcb.control.exit_info2);
	text("\n");
	end(1);
}

static void line(const char *name, uint64_t ticks, uint64_t times)
{
	text(name);
	text("|");
	number(ticks * 1000000 / ticks_per_ms / times);
	text("\n");
}

/* By channel 2 of the PIT, whose output goes up after 50 ms. */
static void calibrate(void)
{
	const unsigned count = 59659;
	uint64_t begin;

	out8(0x61, (uint8_t)((in8(0x61) & ~2) | 1));
	out8(0x43, 0xb0);
	out8(0x42, count & 0xff);
	out8(0x42, count >> 8);
	begin = now();
	while (!(in8(0x61) & 0x20))
		continue;
	ticks_per_ms = (now() - begin) / 50;
}

static void tables_make(void)
{
	for (unsigned i = 0; i < 2; i++) {
		guest[i].pml4[0] = (uint64_t)guest[i].pdpt | PTE;
		guest[i].pdpt[0] = (uint64_t)guest[i].pd | PTE;
		for (unsigned j = 0; j < 512; j++)
			guest[i].pd[j] = (uint64_t)j << 21 | PTE | LARGE;
	}
	nested.pml4[0] = (uint64_t)nested.pdpt | PTE;
	nested.pdpt[0] = (uint64_t)nested.pd | PTE;
	for (unsigned j = 0; j < 64; j++)
		nested.pd[j] = (uint64_t)j << 21 | PTE | LARGE;
	for (unsigned j = 0; j < PAGES / 512; j++)
		nested.pd[(WINDOW >> 21) + j] = (uint64_t)nested.pt[j] | PTE;
}

static uint64_t *nested_entry(uint64_t address)
{
	return &nested.pt[0][(address - WINDOW) / PAGE];
}

static void guest_make(bool paging, void (*code)(void))
{
	const struct vmcb_segment flat = { 16, 0xc93, UINT32_MAX, 0 };

	memset(&vmcb, 0, sizeof(vmcb));
	vmcb.control.intercepts[4] = 3; /* VMRUN, VMMCALL */
	vmcb.control.asid = 1;
	vmcb.control.tlb_control = TLB_CONTROL_ALL;
	vmcb.control.nested = paging;
	vmcb.control.nested_cr3 = (uint64_t)nested.pml4;
	vmcb.save.es = vmcb.save.ss = vmcb.save.ds = vmcb.save.fs = vmcb.save.gs = flat;
	vmcb.save.cs = (struct vmcb_segment){ 8, 0xa9b, UINT32_MAX, 0 };
	vmcb.save.tr = (struct vmcb_segment){ 24, 0x8b, 0x67, 0 };
	vmcb.save.ldtr = (struct vmcb_segment){ 0, 0x82, 0, 0 };
	vmcb.save.efer = 0x1d00; /* SVME NXE LMA LME */
	vmcb.save.cr0 = 0x80010033;
	vmcb.save.cr4 = 0x20;
	vmcb.save.cr3 = (uint64_t)guest[0].pml4;
	vmcb.save.dr6 = 0xffff0ff0;
	vmcb.save.dr7 = 0x400;
	vmcb.save.rflags = 2;
	vmcb.save.pat = 0x0007040600070406;
	vmcb.save.rip = (uint64_t)code;
}

static void enter(struct registers *registers)
{
	guest_enter((uint64_t)&vmcb, registers);
	vmcb.control.tlb_control = TLB_CONTROL_NOTHING;
}

static void call_done(const char *what)
{
	if (vmcb.control.exit_code != SVM_EXIT_VMMCALL)
		die(what);
	vmcb.save.rip += 3;
}

static void round_trip(bool paging, const char *name)
{
	struct registers r = { 0 };
	uint64_t begin = 0;

	guest_make(paging, guest_call);
	for (unsigned i = 0; i < ROUNDS + WARM; i++) {
		if (i == WARM)
			begin = now();
		enter(&r);
		call_done(name);
	}
	line(name, now() - begin, ROUNDS);
}

/* Each page is mapped when the guest faults on it. */
static void cold_touch(void)
{
	struct registers r = { .rcx = PAGES, .rdi = WINDOW };
	unsigned faults = 0;
	uint64_t begin;

	for (unsigned i = 0; i < PAGES; i++)
		*(volatile uint8_t *)(uint64_t)(MEMORY + i * PAGE) = 0; /* L1's own first touch is not measured */
	guest_make(true, guest_touch);
	begin = now();
	for (enter(&r); vmcb.control.exit_code == SVM_EXIT_NPF; enter(&r)) {
		uint64_t page = vmcb.control.exit_info2 & ~(uint64_t)(PAGE - 1);

		if (page < WINDOW || page >= WINDOW + PAGES * PAGE || *nested_entry(page))
			die("cold touch: a fault elsewhere");
		*(volatile uint64_t *)nested_entry(page) = (page - WINDOW + MEMORY) | PTE;
		faults++;
	}
	call_done("cold touch");
	if (faults != PAGES)
		die("cold touch: another number of faults");
	line("L2 touches a page that L1 then maps", now() - begin, PAGES);
}

/* After the cold touch, all pages are mapped. */
static void edit(void)
{
	struct registers r = { .rdi = WINDOW };
	uint64_t begin, plain = 0, edited = 0;

	guest_make(true, guest_read);
	for (unsigned i = 0; i < 2; i++)
		*(volatile uint64_t *)(uint64_t)(MEMORY + i * PAGE) = i + 1;
	for (unsigned turn = 0; turn < 2; turn++) {
		begin = now();
		for (unsigned i = 0; i < EDITS; i++) {
			if (turn)
				*(volatile uint64_t *)nested_entry(WINDOW) = (MEMORY + (i & 1) * PAGE) | PTE;
			vmcb.control.tlb_control = TLB_CONTROL_ASID;
			vmcb.save.rip = (uint64_t)guest_read;
			enter(&r);
			call_done("edit");
			if (r.rbx != (turn ? (i & 1) + 1 : 1))
				die("edit: the old page");
		}
		if (!turn)
			plain = now() - begin;
		else
			edited = now() - begin;
	}
	line("VMRUN with a flush, one page read", plain, EDITS);
	line("L1 edits a nested entry, VMRUN, one page read", edited, EDITS);
}

static void switches(bool paging, const char *name)
{
	struct registers r = { SWITCHES, (uint64_t)guest[0].pml4, (uint64_t)guest[1].pml4, 0x200000, 0 };
	uint64_t begin;

	guest_make(paging, guest_switch);
	begin = now();
	enter(&r);
	call_done(name);
	line(name, now() - begin, 2 * SWITCHES);
}

void hypervisor(void)
{
	if (!(cpuid(0x80000001, 2) & 4))
		die("no SVM");
	calibrate();
	wrmsr(0xc0010117, (uint64_t)host_save);
	tables_make();
	round_trip(false, "VMRUN and exit, no nested paging");
	switches(false, "L2 switches CR3, no nested paging");
	if (cpuid(0x8000000a, 3) & 1) {
		round_trip(true, "VMRUN and exit");
		switches(true, "L2 switches CR3");
		cold_touch();
		edit();
	}
	text("end|0\n");
	end(0);
}

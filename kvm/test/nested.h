/* SPDX-License-Identifier: MIT */
/*
 * A machine in the middle of a nested guest (L2) of AMD SVM, for tests that are KVM clients. L2 is put into the vCPU by
 * KVM_SET_NESTED_STATE alone. What it returns to (L1) is a few instructions in long mode.
 */
#ifndef VMMU_KVM_TEST_NESTED_H
#define VMMU_KVM_TEST_NESTED_H

#include "check.h"
#include "cpu/system/vmcb.h"
#include <stddef.h>

#define BYTES     0x40000u
#define L2_TEXT   0x1000u
#define L1_TEXT   0x2000u
#define L1_IDT    0x3000u
#define L1_GDT    0x4000u
#define L1_STACK  0x6000u
#define TABLES    0x10000u
#define VMCB      0x20000u
#define HSAVE     0x22000u
#define IOPM      0x24000u
#define MSRPM     0x28000u

#define PORT_L1   0x20 /* L1 is behind its VMRUN */
#define PORT_IRQ  0x21 /* L1's interrupt handler */
#define PORT_L2   0x10
#define PORT_L2_IRQ 0x11

#define MSR_EFER     0xc0000080u
#define MSR_VM_CR    0xc0010114u
#define MSR_HSAVE_PA 0xc0010117u
#define EFER_SVME    0x1000u

#define EXIT_INTR  0x60u
#define EXIT_NMI   0x61u
#define EXIT_INIT  0x63u

/* A header and a VMCB, and room behind. */
struct state {
	union {
		struct kvm_nested_state head;
		uint8_t bytes[sizeof(struct kvm_nested_state)];
	};
	struct vmcb vmcb;
};

static struct {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entry[100];
} cpuid;

static const struct kvm_cpuid_entry2 *leaf(uint32_t function)
{
	for (unsigned i = 0; i < cpuid.head.nent; i++)
		if (cpuid.entry[i].function == function)
			return &cpuid.entry[i];
	return NULL;
}

__attribute__((unused)) static bool has_svm(void)
{
	return leaf(0x80000001) && leaf(0x80000001)->ecx & 4;
}

/* ---- a machine with an L1 that waits for its guest -------------------------------------------------------- */

enum chips { NO_CHIPS, CHIPS };

__attribute__((unused)) static void text(struct machine *m)
{
	static const uint8_t l2[] = {
		0xb0, 0x42,       /* mov $0x42, %al */
		0xe6, PORT_L2,    /* out */
		0x0f, 0x01, 0xd9, /* vmmcall */
	};
	static const uint8_t l2_irq[] = { 0xe6, PORT_L2_IRQ, 0xcf /* iret */ };
	static const uint8_t l1[] = {
		0xe6, PORT_L1,    /* behind VMRUN: out */
		0x0f, 0x01, 0xdc, /* stgi */
		0xfb, 0x90, 0xfa, /* sti; nop; cli */
		0xe6, PORT_L1,
		0xf4,             /* hlt */
	};
	static const uint8_t l1_irq[] = { 0xe6, PORT_IRQ, 0x48, 0xcf /* iretq */ };
	static const uint64_t gdt[] = { 0, UINT64_C(0x00af9b000000ffff), UINT64_C(0x00cf93000000ffff) };
	uint64_t *table = (uint64_t *)(void *)(m->memory + TABLES);

	memcpy(m->memory + L2_TEXT, l2, sizeof(l2));
	memcpy(m->memory + L2_TEXT + 0x100, l2_irq, sizeof(l2_irq));
	for (unsigned v = 0; v < 256; v++) /* real mode's vectors */
		memcpy(m->memory + v * 4, (const uint16_t[]){ L2_TEXT + 0x100, 0 }, 4);
	memcpy(m->memory + L1_TEXT, l1, sizeof(l1));
	memcpy(m->memory + L1_TEXT + 0x100, l1_irq, sizeof(l1_irq));
	for (unsigned v = 0; v < 256; v++)
		memcpy(m->memory + L1_IDT + v * 16, (const uint16_t[]){ L1_TEXT + 0x100, 8, 0x8e00, 0 }, 8);
	memcpy(m->memory + L1_GDT, gdt, sizeof(gdt));
	table[0] = (TABLES + PAGE) | 3;
	table[512] = (TABLES + 2 * PAGE) | 3;
	table[1024] = 0x83; /* 2 MiB one to one */
}

__attribute__((unused)) static void machine_here(struct machine *m, enum chips chips)
{
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
	size_t size = machine_begin(m, BYTES);

	if (chips == CHIPS)
		NEED(ioctl(m->vm, KVM_ENABLE_CAP, &split) == 0);
	m->vcpu[0] = ioctl(m->vm, KVM_CREATE_VCPU, 0ul);
	NEED(m->vcpu[0] >= 0);
	m->run[0] = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu[0], 0);
	NEED(m->run[0] != MAP_FAILED);
	NEED(ioctl(m->vcpu[0], KVM_SET_CPUID2, &cpuid) == 0);
	text(m);
}

__attribute__((unused)) static struct kvm_sregs sregs_of(const struct machine *m)
{
	struct kvm_sregs sregs;

	NEED(ioctl(m->vcpu[0], KVM_GET_SREGS, &sregs) == 0);
	return sregs;
}

__attribute__((unused)) static struct kvm_regs regs_of(const struct machine *m)
{
	struct kvm_regs regs;

	NEED(ioctl(m->vcpu[0], KVM_GET_REGS, &regs) == 0);
	return regs;
}

__attribute__((unused)) static void efer_set(const struct machine *m, uint64_t efer)
{
	struct kvm_sregs sregs = sregs_of(m);

	sregs.efer = efer;
	NEED(ioctl(m->vcpu[0], KVM_SET_SREGS, &sregs) == 0);
}

__attribute__((unused)) static int msr_set(const struct machine *m, uint32_t index, uint64_t value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msr = { { .nmsrs = 1 }, { .index = index, .data = value } };

	return ioctl(m->vcpu[0], KVM_SET_MSRS, &msr);
}

__attribute__((unused)) static uint64_t msr_get(const struct machine *m, uint32_t index)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msr = { { .nmsrs = 1 }, { .index = index } };

	return ioctl(m->vcpu[0], KVM_GET_MSRS, &msr) == 1 ? msr.entry.data : UINT64_MAX;
}

__attribute__((unused)) static struct vmcb_segment flat(uint16_t selector, uint16_t attributes)
{
	return (struct vmcb_segment){ selector, attributes, UINT32_MAX, 0 };
}

/* In the middle of L2, with L1 behind its VMRUN. */
__attribute__((unused)) static struct state in_guest(void)
{
	struct state s = { .head = { .flags = KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_GIF_SET,
		.format = KVM_STATE_NESTED_FORMAT_SVM, .size = sizeof(s), .hdr.svm.vmcb_pa = VMCB } };
	struct vmcb_control *c = &s.vmcb.control;
	struct vmcb_save *l1 = &s.vmcb.save;

	c->intercepts[4] = 1u << (SVM_EXIT_VMRUN - 128) | 1u << (SVM_EXIT_VMMCALL - 128);
	c->iopm = IOPM;
	c->msrpm = MSRPM;
	c->asid = 1;
	l1->cs = flat(8, 0xa9b);
	l1->ss = l1->ds = l1->es = flat(16, 0xc93);
	l1->gdtr = (struct vmcb_segment){ .base = L1_GDT, .limit = 23 };
	l1->idtr = (struct vmcb_segment){ .base = L1_IDT, .limit = 0xfff };
	l1->efer = 0x1d01;
	l1->cr0 = 0x80050033;
	l1->cr3 = TABLES;
	l1->cr4 = 0x6a0;
	l1->dr6 = 0xffff0ff0;
	l1->dr7 = 0x400;
	l1->rflags = 2;
	l1->rip = L1_TEXT;
	l1->rsp = L1_STACK;
	l1->rax = VMCB;
	return s;
}

__attribute__((unused)) static void want(struct state *s, unsigned code)
{
	s->vmcb.control.intercepts[code / 32] |= 1u << code % 32;
}

__attribute__((unused)) static int nested_set(const struct machine *m, const struct state *s)
{
	return ioctl(m->vcpu[0], KVM_SET_NESTED_STATE, s);
}

__attribute__((unused)) static int nested_get(const struct machine *m, struct state *s, uint32_t size)
{
	memset(s, 0xee, sizeof(*s));
	s->head.size = size;
	return ioctl(m->vcpu[0], KVM_GET_NESTED_STATE, s);
}

__attribute__((unused)) static unsigned nested_flags(const struct machine *m)
{
	struct state s;

	NEED(nested_get(m, &s, sizeof(s)) == 0);
	return s.head.flags;
}

/* L2's registers: real mode at L2_TEXT. */
__attribute__((unused)) static void l2_registers(const struct machine *m)
{
	struct kvm_sregs sregs = sregs_of(m);
	struct kvm_regs regs = { .rip = L2_TEXT, .rflags = 2, .rsp = 0x8000 };

	sregs.cs.base = sregs.cs.selector = 0;
	sregs.cs.l = 0;
	sregs.cr0 = 0x10;
	sregs.cr3 = sregs.cr4 = sregs.idt.base = 0;
	sregs.efer = EFER_SVME;
	NEED(ioctl(m->vcpu[0], KVM_SET_SREGS, &sregs) == 0);
	NEED(ioctl(m->vcpu[0], KVM_SET_REGS, &regs) == 0);
	CHECK(msr_set(m, MSR_HSAVE_PA, HSAVE) == 1);
}

__attribute__((unused)) static void begin(struct machine *m, enum chips chips, const struct state *s)
{
	machine_here(m, chips);
	l2_registers(m);
	NEED(nested_set(m, s) == 0);
}

/* Run. Returns: the port of the OUT, or minus the exit reason. */
__attribute__((unused)) static int go(const struct machine *m)
{
	struct kvm_run *run = m->run[0];
	int result;

	do
		result = ioctl(m->vcpu[0], KVM_RUN, 0);
	while (result < 0 && errno == EINTR && !run->immediate_exit);
	if (result < 0)
		return -1000 - errno;
	return run->exit_reason == KVM_EXIT_IO ? run->io.port : -(int)run->exit_reason;
}

__attribute__((unused)) static uint64_t exit_code(const struct machine *m)
{
	return ((const struct vmcb *)(const void *)(m->memory + VMCB))->control.exit_code;
}

__attribute__((unused)) static void to_l1(const struct machine *m, uint64_t code)
{
	struct kvm_sregs sregs;

	CHECK(go(m) == PORT_L1);
	CHECK(exit_code(m) == code);
	sregs = sregs_of(m);
	CHECK(sregs.cr3 == TABLES && sregs.efer == 0x1d01 && sregs.cs.l && sregs.idt.base == L1_IDT);
	CHECK(regs_of(m).rsp == L1_STACK && regs_of(m).rip <= L1_TEXT + 2);
	CHECK(nested_flags(m) == 0); /* #VMEXIT clears GIF */
}

/** What the KVM supports, for the machines made afterwards. */
__attribute__((unused)) static void cpuid_read(void)
{
	int kvm = open("/dev/kvm", O_RDWR);

	NEED(kvm >= 0);
	cpuid.head.nent = 100;
	NEED(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) == 0);
	close(kvm);
}

#endif

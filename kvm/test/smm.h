/* SPDX-License-Identifier: MIT */
/*
 * What the tests of system management mode share: a VM whose SMRAM only address space 1 has, and a vCPU in each mode.
 *
 * Guest memory: RAM below 640 KiB in both address spaces. From 0xa0000 on only address space 1 has memory.
 */
#ifndef VMMU_KVM_TEST_SMM_H
#define VMMU_KVM_TEST_SMM_H

#include "check.h"

#define RAM     0xa0000u
#define SMRAM   0xa0000u
#define SMRAM_BYTES 0x20000u
#define CODE    0x1000u
#define TABLES  0x10000u
#define SMBASE  0xa0000u
#define HANDLER (SMBASE + 0x8000u)
#define SLOT_AS1(n) (1u << 16 | (n))

#define MSR_SMBASE    0x9eu
#define MSR_SMI_COUNT 0x34u

#define CODE16(name, text) \
	extern const uint8_t name[], name##_end[]; \
	__asm__(".pushsection .rodata\n.local " #name "\n.local " #name "_end\n" #name ":\n.code16\n" text "\n" #name \
	        "_end:\n.code64\n.popsection\n");

/* These bytes are the same instructions in every mode. */
CODE16(program, "out %al, $0x10\n out %al, $0x11\n out %al, $0x12\n 1: jmp 1b")
CODE16(handler, "out %al, $0x80\n rsm")

struct vm {
	int kvm, vm, vcpu[2];
	struct kvm_run *run[2];
	uint8_t *ram, *smram;
};

static struct cpuid_list {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entry[100];
} cpuid;

__attribute__((unused)) static void vcpu_add(struct vm *v, unsigned i)
{
	v->vcpu[i] = ioctl(v->vm, KVM_CREATE_VCPU, (unsigned long)i);
	NEED(v->vcpu[i] >= 0 && ioctl(v->vcpu[i], KVM_SET_CPUID2, &cpuid) == 0);
	v->run[i] = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, v->vcpu[i], 0);
	NEED(v->run[i] != MAP_FAILED);
}

__attribute__((unused)) static void vm_make(struct vm *v, unsigned vcpus, bool irqchip)
{
	memset(v, 0, sizeof(*v));
	v->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	v->vm = ioctl(v->kvm, KVM_CREATE_VM, 0);
	NEED(v->vm >= 0);
	cpuid.head.nent = 100;
	NEED(ioctl(v->kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) == 0);
	if (irqchip)
		NEED(ioctl(v->vm, KVM_CREATE_IRQCHIP, 0) == 0);
	v->ram = mmap(NULL, RAM + SMRAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(v->ram != MAP_FAILED);
	v->smram = v->ram + RAM;
	NEED(machine_slot(v->vm, 0, 0, 0, RAM, v->ram) == 0);
	NEED(machine_slot(v->vm, SLOT_AS1(0), 0, 0, RAM, v->ram) == 0);
	NEED(machine_slot(v->vm, SLOT_AS1(1), 0, SMRAM, SMRAM_BYTES, v->smram) == 0);
	for (unsigned i = 0; i < vcpus; i++)
		vcpu_add(v, i);
}

__attribute__((unused)) static void vm_free(struct vm *v, unsigned vcpus)
{
	for (unsigned i = 0; i < vcpus; i++) {
		munmap(v->run[i], 3 * PAGE);
		close(v->vcpu[i]);
	}
	close(v->vm);
	close(v->kvm);
	munmap(v->ram, RAM + SMRAM_BYTES);
}

__attribute__((unused)) static uint64_t smram64(const struct vm *v, uint32_t at)
{
	uint64_t value;

	memcpy(&value, v->smram + (at - SMRAM), sizeof(value));
	return value;
}

__attribute__((unused)) static uint32_t smram32(const struct vm *v, uint32_t at)
{
	return (uint32_t)smram64(v, at);
}

__attribute__((unused)) static bool msr_set(int vcpu, uint32_t index, uint64_t value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = { { .nmsrs = 1 }, { .index = index, .data = value } };

	return ioctl(vcpu, KVM_SET_MSRS, &msrs) == 1;
}

__attribute__((unused)) static uint64_t msr_get(int vcpu, uint32_t index)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = { { .nmsrs = 1 }, { .index = index } };

	return ioctl(vcpu, KVM_GET_MSRS, &msrs) == 1 ? msrs.entry.data : ~UINT64_C(0);
}

__attribute__((unused)) static struct kvm_vcpu_events events_of(int vcpu)
{
	struct kvm_vcpu_events events;

	NEED(ioctl(vcpu, KVM_GET_VCPU_EVENTS, &events) == 0);
	return events;
}

__attribute__((unused)) static struct kvm_sregs sregs_of(int vcpu)
{
	struct kvm_sregs sregs;

	NEED(ioctl(vcpu, KVM_GET_SREGS, &sregs) == 0);
	return sregs;
}

__attribute__((unused)) static struct kvm_regs regs_of(int vcpu)
{
	struct kvm_regs regs;

	NEED(ioctl(vcpu, KVM_GET_REGS, &regs) == 0);
	return regs;
}

/* Run to the next OUT. Returns: its port; -1 for another exit, -errno. */
__attribute__((unused)) static int run(struct vm *v, unsigned i)
{
	if (ioctl(v->vcpu[i], KVM_RUN, 0) != 0)
		return -errno;
	return v->run[i]->exit_reason == KVM_EXIT_IO ? v->run[i]->io.port : -1;
}

__attribute__((unused)) static bool in_smm(const struct vm *v, unsigned i)
{
	return v->run[i]->flags & KVM_RUN_X86_SMM;
}

/* Complete the OUT that the vCPU exited with, and run no further. */
__attribute__((unused)) static void settle(struct vm *v, unsigned i)
{
	v->run[i]->immediate_exit = 1;
	CHECK(run(v, i) == -EINTR);
	v->run[i]->immediate_exit = 0;
}

CODE16(real_stub, "out %al, $0x66\n 1: jmp 1b")

/* ---- the modes ------------------------------------------------------------------------------------------- */

enum mode { REAL, PROTECTED, PAGED, PAE, LONG, MODES };

__attribute__((unused)) static struct kvm_segment flat(uint16_t selector, uint8_t type, bool is_64)
{
	return (struct kvm_segment){
		.limit = UINT32_MAX, .selector = selector, .type = type, .present = 1, .db = !is_64, .l = is_64,
		.s = 1, .g = 1,
	};
}

/* Tables that map the first 4 MiB onto themselves, by large pages. All is accessed: the processor writes nothing. */
__attribute__((unused)) static void tables_write(struct vm *v, enum mode mode)
{
	uint64_t *t = (uint64_t *)(void *)(v->ram + TABLES);

	memset(t, 0, 3 * PAGE);
	if (mode == PAGED) {
		*(uint32_t *)(void *)t = 0xe7;
		return;
	}
	t[0] = (TABLES + PAGE) | (mode == PAE ? 1 : 0x27);
	if (mode == LONG)
		t[512] = (TABLES + 2 * PAGE) | 0x27;
	t[mode == LONG ? 1024 : 512] = 0xe7;
	t[mode == LONG ? 1025 : 513] = 0x2000e7;
}

/* A vCPU in this mode that is about to run `program`. */
__attribute__((unused)) static void mode_enter(struct vm *v, unsigned i, enum mode mode)
{
	struct kvm_sregs s = sregs_of(v->vcpu[i]);
	struct kvm_regs r = {
		.rax = 0x1122334455667788, .rbx = 0x2233, .rcx = 0x3344, .rdx = 0x4455, .rsi = 0x5566, .rdi = 0x6677,
		.rbp = 0x7788, .rsp = 0x8000, .r8 = 0x88, .r15 = 0xffeeddccbbaa9988, .rip = CODE, .rflags = 0x4d7,
	};

	tables_write(v, mode);
	memcpy(v->ram + CODE, program, (size_t)(program_end - program));
	if (mode != LONG)
		r.rax = 0x55667788, r.r8 = r.r15 = 0;
	s.cs.base = s.cs.selector = 0;
	if (mode != REAL) {
		s.cs = flat(8, 11, mode == LONG);
		s.ds = s.es = s.fs = s.gs = s.ss = flat(16, 3, false);
		s.fs.base = 0x12340;
		s.gdt.base = 0x500;
		s.gdt.limit = 0x1f;
		s.idt.base = 0x600;
		s.idt.limit = 0x7ff;
		s.tr = (struct kvm_segment){ .base = 0x700, .limit = 0x67, .selector = 24, .type = 11, .present = 1 };
		s.cr0 = 0x31;
	}
	if (mode >= PAGED) {
		s.cr0 |= 0x80010000;
		s.cr3 = TABLES;
		s.cr4 = mode == PAGED ? 0x10 : 0x30;
	}
	s.efer = mode == LONG ? 0xd00 : 0;
	NEED(ioctl(v->vcpu[i], KVM_SET_SREGS, &s) == 0);
	NEED(ioctl(v->vcpu[i], KVM_SET_REGS, &r) == 0);
}

__attribute__((unused)) static void vector_set(struct vm *v, unsigned vector, uint16_t to)
{
	const uint16_t entry[2] = { to, 0 };

	memcpy(v->ram + vector * 4, entry, sizeof(entry));
}

/* Is there SMM? Prints if not. */
__attribute__((unused)) static bool smm_is_there(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), has;

	NEED(kvm >= 0);
	has = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_X86_SMM);
	if (!has)
		printf("this /dev/kvm has no SMM\n");
	else
		CHECK(ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_MULTI_ADDRESS_SPACE) == 2);
	close(kvm);
	return has != 0;
}

#endif

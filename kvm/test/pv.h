/* SPDX-License-Identifier: MIT */
/*
 * What the tests of KVM's paravirtual interface share. Guests are in real mode. Each runs one instruction with the
 * registers that the test gives it, and then writes to a port; #GP writes to another.
 */
#ifndef VMMU_KVM_TEST_PV_H
#define VMMU_KVM_TEST_PV_H

#include "check.h"
#include <linux/kvm_para.h>
#include <pthread.h>

#define BYTES   (64 * PAGE)
#define DONE    1
#define GP      13
#define HANDLER 0x3000u
#define PV_WORD 0x5000u /* BX */

extern const uint8_t instructions[], instructions_end[];
__asm__(".pushsection .rodata\n.code16\n"
        "instructions:\n"
        ".balign 16\n wrmsr\n out %al, $1\n"
        ".balign 16\n rdmsr\n out %al, $1\n"
        ".balign 16\n rdtsc\n out %al, $1\n"
        /* wait until the word at BX is no longer EAX */
        ".balign 16\n 1: cmp %eax, (%bx)\n je 1b\n out %al, $1\n"
        ".balign 16\n vmmcall\n out %al, $1\n"
        ".balign 16\n hlt\n cli\n out %al, $1\n"
        ".balign 16\n mov %eax, (%bx)\n out %al, $1\n"
        "instructions_end:\n.code64\n.popsection\n");
enum instruction { WRMSR, RDMSR, RDTSC, WAIT, CALL, HALT, STORE };

static struct machine m;

static void make_cpus(unsigned vcpus)
{
	const uint16_t gp[2] = { HANDLER, 0 };

	machine_make(&m, vcpus, BYTES);
	memcpy(m.memory + 0x1000, instructions, (size_t)(instructions_end - instructions));
	memcpy(m.memory + GP * 4, gp, sizeof(gp));
	memcpy(m.memory + HANDLER, "\xe6\x0d", 2); /* out %al, $13 */
}

/* Run one instruction. Returns: the port that the guest then wrote to. */
static unsigned guest_run(unsigned i, enum instruction what, struct kvm_regs *regs)
{
	regs->rip = 0x1000u + 16u * what;
	regs->rflags |= 2;
	regs->rsp = 0x8000 - 0x400 * i;
	NEED(ioctl(m.vcpu[i], KVM_SET_REGS, regs) == 0);
	NEED(ioctl(m.vcpu[i], KVM_RUN, 0) == 0);
	NEED(m.run[i]->exit_reason == KVM_EXIT_IO);
	NEED(ioctl(m.vcpu[i], KVM_GET_REGS, regs) == 0);
	return m.run[i]->io.port;
}

/* `value`: in EDX:EAX, before and after. */
static unsigned guest(unsigned i, enum instruction what, uint32_t rcx, uint64_t *value)
{
	struct kvm_regs regs = { .rbx = PV_WORD, .rcx = rcx, .rax = (uint32_t)*value, .rdx = *value >> 32 };
	unsigned port = guest_run(i, what, &regs);

	*value = (uint32_t)regs.rax | regs.rdx << 32;
	return port;
}

__attribute__((unused)) static bool guest_wrmsr(unsigned i, uint32_t index, uint64_t value)
{
	return guest(i, WRMSR, index, &value) == DONE;
}

__attribute__((unused)) static bool guest_rdmsr(unsigned i, uint32_t index, uint64_t *value)
{
	*value = 0;
	return guest(i, RDMSR, index, value) == DONE;
}

__attribute__((unused)) static uint64_t guest_tsc(unsigned i)
{
	uint64_t value = 0;

	NEED(guest(i, RDTSC, 0, &value) == DONE);
	return value;
}

__attribute__((unused)) static bool client_wrmsr(unsigned i, uint32_t index, uint64_t value)
{
	struct { struct kvm_msrs head; struct kvm_msr_entry entry; } msr = { { .nmsrs = 1 }, { index, 0, value } };

	return ioctl(m.vcpu[i], KVM_SET_MSRS, &msr) == 1;
}

__attribute__((unused)) static bool client_rdmsr(unsigned i, uint32_t index, uint64_t *value)
{
	struct { struct kvm_msrs head; struct kvm_msr_entry entry; } msr = { { .nmsrs = 1 }, { index, 0, 0 } };
	bool good = ioctl(m.vcpu[i], KVM_GET_MSRS, &msr) == 1;

	*value = msr.entry.data;
	return good;
}

__attribute__((unused)) static int cap(int number)
{
	return ioctl(m.kvm, KVM_CHECK_EXTENSION, (unsigned long)number);
}

#endif

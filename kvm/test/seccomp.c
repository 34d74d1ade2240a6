/* SPDX-License-Identifier: MIT */
/*
 * A client whose vCPU thread forbids itself every system call but futex once the vCPU has run. KVM_RUN needs no
 * other. The guest touches memory, runs code that it has just written, accesses devices and waits for a timer, while
 * other threads change the memory that it uses. With the argument `hosted` ioctl is allowed, too.
 */
#include "check.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define LOW  (1ul << 20)     /* the size of the slot with the code, and the pages that the guest makes code */
#define HIGH (256ul << 20)   /* the size of the slot with the data, and its guest address */
#define DEVICE 0xd0000000u

/*
 * Each part ends with OUT to the port of its number. The program begins in real mode at 0x1000, with 4 GiB data
 * segments.
 */
extern const uint8_t program[], program_end[], writer[], writer_end[];
__asm__(".pushsection .rodata\n.code16\n"
        "program: out %al, $0\n"
        /* 1: switch steal time on, and write a byte in each page of HIGH */
        "mov $0x4b564d03, %ecx\n mov $0x7001, %eax\n xor %edx, %edx\n wrmsr\n"
        "mov $0x10000000, %ebx\n mov $0x10000, %ecx\n"
        "1: movb $1, (%ebx)\n add $0x1000, %ebx\n dec %ecx\n jnz 1b\n out %al, $1\n"
        /* 2: write a far return in each page from 64 KiB to 1 MiB, and call it */
        "movw $0, 0x3000\n mov $0x1000, %ax\n"
        "1: mov %ax, %es\n movb $0xcb, %es:0\n mov %ax, 0x3002\n lcall *0x3000\n "
        "add $0x100, %ax\n jnz 1b\n out %al, $2\n"
        /* 3: read and write a device */
        "mov $0xd0000000, %ebx\n mov $100, %cx\n 1: incl (%ebx)\n loop 1b\n out %al, $3\n"
        /* 4: write and run code in a page in which the other vCPU writes code, too */
        "mov $0x2000, %bx\n movw $0xb0, (%bx)\n movb $0xc3, 2(%bx)\n mov $5000, %ecx\n"
        "1: mov %cl, 1(%bx)\n call *%bx\n dec %ecx\n jnz 1b\n out %al, $4\n"
        /* 5: the local APIC's timer ends a HLT */
        "mov $0xfee00000, %ebx\n movl $0x1ff, 0xf0(%ebx)\n movl $0xb, 0x3e0(%ebx)\n movl $0x40, 0x320(%ebx)\n"
        "movl $1000000, 0x380(%ebx)\n sti\n hlt\n cli\n out %al, $5\n"
        "program_end:\n"
        "writer: mov $0x2040, %bx\n movw $0xb0, (%bx)\n movb $0xc3, 2(%bx)\n "
        "1: inc %cx\n mov %cl, 1(%bx)\n call *%bx\n jmp 1b\n"
        "writer_end:\n.code64\n.popsection\n");

static struct machine m;
static uint8_t *high;

/* `ioctl_too`: allow ioctl, too. Where each is trapped, it must be allowed, as for the kernel's KVM. */
static void filter(bool ioctl_too)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ioctl_too ? SYS_ioctl : SYS_futex, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 2, 0), /* the test prints its result */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog whole = { sizeof(code) / sizeof(code[0]), code };

	NEED(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	NEED(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &whole) == 0);
}

static void vcpu_make(unsigned i, uint64_t rip)
{
	struct kvm_mp_state runnable = { KVM_MP_STATE_RUNNABLE };
	struct kvm_regs regs = { .rip = rip, .rflags = 2, .rsp = 0x8000 - 0x400 * i };
	struct kvm_sregs sregs;

	m.vcpu[i] = ioctl(m.vm, KVM_CREATE_VCPU, (unsigned long)i);
	NEED(m.vcpu[i] >= 0);
	m.run[i] = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, m.vcpu[i], 0);
	NEED(m.run[i] != MAP_FAILED);
	machine_start(&m, i, rip);
	NEED(ioctl(m.vcpu[i], KVM_GET_SREGS, &sregs) == 0);
	sregs.ds.limit = UINT32_MAX;
	sregs.ds.g = 1;
	NEED(ioctl(m.vcpu[i], KVM_SET_SREGS, &sregs) == 0);
	NEED(ioctl(m.vcpu[i], KVM_SET_REGS, &regs) == 0);
	NEED(ioctl(m.vcpu[i], KVM_SET_MP_STATE, &runnable) == 0);
}

/* Runs until the process ends. */
static void *run_writer(void *unused)
{
	(void)unused;
	CHECK(ioctl(m.vcpu[1], KVM_RUN, 0) == 0 && false);
	return NULL;
}

/* The host reads the dirty log and takes memory away, over and over. */
static void *disturb(void *unused)
{
	static uint64_t bitmap[HIGH / PAGE / 64];
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bitmap };

	(void)unused;
	for (unsigned i = 0; i < UINT32_MAX; i++) {
		CHECK(ioctl(m.vm, KVM_GET_DIRTY_LOG, &log) == 0);
		CHECK(madvise(high + i % 64 * (HIGH / 64), HIGH / 64, MADV_DONTNEED) == 0);
		usleep(1000);
	}
	return NULL;
}

/* Run, and be the device, until the guest has finished part `number`. */
static void run_part(unsigned number)
{
	struct kvm_run *run = m.run[0];
	uint32_t device = 0;

	for (;;) {
		CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == 0);
		if (run->exit_reason != KVM_EXIT_MMIO)
			break;
		CHECK(run->mmio.phys_addr == DEVICE && run->mmio.len == 4);
		memcpy(run->mmio.is_write ? (void *)&device : (void *)run->mmio.data,
		       run->mmio.is_write ? (void *)run->mmio.data : (void *)&device, 4);
	}
	CHECK(run->exit_reason == KVM_EXIT_IO && run->io.port == number);
	CHECK(device == (number == 3 ? 100 : 0));
	m.run[0]->immediate_exit = 1;
	CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == -1 && errno == EINTR);
	m.run[0]->immediate_exit = 0;
}

int main(int argc, char **argv)
{
	pthread_t threads[2];

	machine_make(&m, 0, LOW);
	NEED(ioctl(m.vm, KVM_CREATE_IRQCHIP, 0) == 0);
	vcpu_make(0, 0x1000);
	vcpu_make(1, 0x1800);
	memcpy(m.memory + 0x1000, program, (size_t)(program_end - program));
	memcpy(m.memory + 0x1800, writer, (size_t)(writer_end - writer));
	memcpy(m.memory + 0x100, "\x00\x31\x00\x00", 4); /* the handler of vector 0x40 is an IRET at 0x3100 */
	m.memory[0x3100] = 0xcf;
	high = mmap(NULL, HIGH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(high != MAP_FAILED && madvise(high, HIGH, MADV_NOHUGEPAGE) == 0);
	NEED(machine_slot(m.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, HIGH, HIGH, high) == 0);
	run_part(0);
	NEED(pthread_create(&threads[0], NULL, run_writer, NULL) == 0);
	NEED(pthread_create(&threads[1], NULL, disturb, NULL) == 0);
	printf("first run\n"); /* before the filter: stdio allocates its buffer now */
	fflush(stdout);
	filter(argc > 1 && strcmp(argv[1], "hosted") == 0);
	for (unsigned part = 1; part <= 5; part++)
		run_part(part);
	check_end();
	fflush(stdout);
	_exit(check_failures != 0); /* the other threads still run */
}

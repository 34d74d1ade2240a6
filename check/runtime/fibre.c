/* SPDX-License-Identifier: MIT */
/*
 * Thread-local variables. On x86-64 they lie below the address in the FS register, those of the program itself and
 * those of its libraries. So a fibre gets a block of its own at the top of its stack, and FS goes with the fibre. The
 * libraries' part is a copy of the real thread's: libc's state is shared by all fibres, and only one runs at a time.
 */
#include "check/runtime/fibre.h"

#include <link.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check/runtime/rt.h"

#define HEADER_MOST 4096  /* libc's own record of a thread lies at FS and above */
#define STATIC_MOST 65536 /* the most of all thread-local variables together */

static struct {
	const char *image;      /* the initial values of the program's own variables */
	uint64_t image_bytes, bytes;
	uint64_t below;         /* how far under FS the program's begin */
	uint64_t most_below;    /* and those of all libraries */
	uint64_t room;          /* of a block; 0: the program has none, and FS stays */
	uint64_t real;          /* FS of the real thread */
} tls;

/* FS as it is now, and whether the processor may set it itself. */
uint64_t fibre_fs __attribute__((visibility("hidden")));
uint8_t fibre_sets_fs __attribute__((visibility("hidden")));

/* The ABI wants six registers kept. The control words are the same in all fibres. arch_prctl(ARCH_SET_FS) is 158. */
__asm__(".text\n"
        ".globl fibre_switch\n"
        ".type fibre_switch, @function\n"
        "fibre_switch:\n"
        "	push %rbx\n"
        "	push %rbp\n"
        "	push %r12\n"
        "	push %r13\n"
        "	push %r14\n"
        "	push %r15\n"
        "	mov fibre_fs(%rip), %rax\n"
        "	push %rax\n"
        "	mov %rsp, (%rdi)\n"
        "	mov %rsi, %rsp\n"
        "	pop %rsi\n"
        "	cmp %rax, %rsi\n"
        "	je 2f\n"
        "	mov %rsi, fibre_fs(%rip)\n"
        "	cmpb $0, fibre_sets_fs(%rip)\n"
        "	je 1f\n"
        "	wrfsbase %rsi\n"
        "	jmp 2f\n"
        "1:	mov $0x1002, %edi\n"
        "	mov $158, %eax\n"
        "	syscall\n"
        "2:	pop %r15\n"
        "	pop %r14\n"
        "	pop %r13\n"
        "	pop %r12\n"
        "	pop %rbp\n"
        "	pop %rbx\n"
        "	ret\n"
        ".size fibre_switch, . - fibre_switch\n");

static uint64_t fs_now(void)
{
	uint64_t fs;

	__asm__("mov %%fs:0, %0" : "=r"(fs));
	return fs;
}

/* memcpy and memset of this program are hooks, and what is done here is no access of checked code. */
static void copy_bytes(uint64_t to, const void *from, uint64_t bytes)
{
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

static void zero_bytes(uint64_t to, uint64_t bytes)
{
	__asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(0) : "memory");
}

/* The program itself comes first. */
static int look_at_module(struct dl_phdr_info *info, size_t size, void *arg)
{
	unsigned *number = arg;
	uint64_t data = (uint64_t)info->dlpi_tls_data;

	(void)size;
	if (data && data < tls.real && tls.real - data < STATIC_MOST && tls.real - data > tls.most_below)
		tls.most_below = tls.real - data;
	for (unsigned i = 0; i < info->dlpi_phnum && *number == 0; i++) {
		const ElfW(Phdr) *part = &info->dlpi_phdr[i];

		if (part->p_type != PT_TLS || !data)
			continue;
		tls.image = (const char *)(info->dlpi_addr + part->p_vaddr);
		tls.image_bytes = part->p_filesz;
		tls.bytes = part->p_memsz;
		tls.below = tls.real - data;
	}
	++*number;
	return 0;
}

static uint64_t block_fs(unsigned thread)
{
	return STACKS_ADDRESS + (thread + 1) * STACK_BYTES - HEADER_MOST;
}

/* How many bytes at FS are mapped: not all of HEADER_MOST need be libc's. */
static uint64_t header_bytes(void)
{
	uint64_t here = 4096 - tls.real % 4096;
	unsigned char in_memory;

	return mincore((void *)(tls.real + here), 4096, &in_memory) ? here : HEADER_MOST;
}

void fibre_start(void)
{
	unsigned number = 0;

	rt.stack_bytes = STACK_BYTES;
	tls.real = fs_now();
	dl_iterate_phdr(look_at_module, &number);
	if (!tls.bytes)
		return;
	tls.room = HEADER_MOST + (tls.most_below + 63) / 64 * 64;
	rt.stack_bytes = STACK_BYTES - tls.room;
	fibre_fs = tls.real;
	fibre_sets_fs = getauxval(AT_HWCAP2) >> 1 & 1; /* the kernel's word that it keeps FS over a switch */
	for (unsigned t = 0; t <= THREADS; t++) {
		uint64_t fs = block_fs(t);

		copy_bytes(fs - tls.most_below, (const void *)(tls.real - tls.most_below), tls.most_below);
		copy_bytes(fs, (const void *)tls.real, header_bytes());
		copy_bytes(fs, &fs, sizeof(fs)); /* the word at FS is FS */
	}
}

static void variables_begin(unsigned thread)
{
	uint64_t begin = block_fs(thread) - tls.below;

	copy_bytes(begin, tls.image, tls.image_bytes);
	zero_bytes(begin + tls.image_bytes, tls.bytes - tls.image_bytes);
}

void *fibre_make(unsigned thread, void (*fn)(void))
{
	uint64_t *top = (uint64_t *)fibre_stack_top(thread);

	if (tls.room)
		variables_begin(thread);
	top[-1] = 0;            /* the return address of fn: none, so that a backtrace ends here */
	top[-2] = (uint64_t)fn; /* fn begins with rsp = 8 modulo 16, as if called */
	for (int i = 3; i <= 8; i++)
		top[-i] = 0;
	top[-9] = tls.room ? block_fs(thread) : 0;
	return &top[-9];
}

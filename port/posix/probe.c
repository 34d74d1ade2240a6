/* SPDX-License-Identifier: MIT */
#include "port/posix/probe.h"

#include <ucontext.h>

#include "port/posix/signals.h"

/*
 * Each probe returns 1 in eax. A fault anywhere between the labels resumes at posix_probe_failed, which returns 0. No
 * probe touches the stack before its last faulting instruction, so the return address is on top at any fault.
 */
__asm__(".pushsection .text\n"
        ".globl posix_probe_begin, posix_probe_end, posix_probe_failed\n"
        ".hidden posix_probe_begin, posix_probe_end, posix_probe_failed\n"
        "posix_probe_begin:\n"
        ".globl posix_probe_read_asm, posix_probe_write_asm, posix_probe_copy_asm\n"
        ".hidden posix_probe_read_asm, posix_probe_write_asm, posix_probe_copy_asm\n"
        "posix_probe_read_asm:\n"
        "	movb (%rdi), %al\n"
        "	movl $1, %eax\n"
        "	ret\n"
        "posix_probe_write_asm:\n"
        "	lock orb $0, (%rdi)\n"
        "	movl $1, %eax\n"
        "	ret\n"
        "posix_probe_copy_asm:\n" /* 4 and 8 bytes in one access: nobody sees a table entry half written */
        "	cmpq $8, %rdx\n"
        "	je 8f\n"
        "	cmpq $4, %rdx\n"
        "	je 4f\n"
        "	movq %rdx, %rcx\n"
        "	rep movsb\n"
        "	movl $1, %eax\n"
        "	ret\n"
        "4:	movl (%rsi), %eax\n"
        "	movl %eax, (%rdi)\n"
        "	movl $1, %eax\n"
        "	ret\n"
        "8:	movq (%rsi), %rax\n"
        "	movq %rax, (%rdi)\n"
        "	movl $1, %eax\n"
        "	ret\n"
        ".globl posix_probe_load4_asm, posix_probe_load8_asm, posix_probe_cas4_asm, posix_probe_cas8_asm\n"
        ".hidden posix_probe_load4_asm, posix_probe_load8_asm, posix_probe_cas4_asm, posix_probe_cas8_asm\n"
        "posix_probe_load4_asm:\n" /* (address, value) */
        "	movl (%rdi), %eax\n"
        "	movq %rax, (%rsi)\n"
        "	movl $1, %eax\n"
        "	ret\n"
        "posix_probe_load8_asm:\n"
        "	movq (%rdi), %rax\n"
        "	movq %rax, (%rsi)\n"
        "	movl $1, %eax\n"
        "	ret\n"
        "posix_probe_cas4_asm:\n" /* (address, old, new): 1 not swapped, 2 swapped */
        "	movl %esi, %eax\n"
        "	lock cmpxchgl %edx, (%rdi)\n"
        "	jmp 1f\n"
        "posix_probe_cas8_asm:\n"
        "	movq %rsi, %rax\n"
        "	lock cmpxchgq %rdx, (%rdi)\n"
        "1:	sete %al\n"
        "	movzbl %al, %eax\n"
        "	incl %eax\n"
        "	ret\n"
        "posix_probe_end:\n"
        "posix_probe_failed:\n"
        "	xorl %eax, %eax\n"
        "	ret\n"
        ".popsection\n");

extern const char posix_probe_begin[], posix_probe_end[], posix_probe_failed[];
int posix_probe_read_asm(const void *address);
int posix_probe_write_asm(void *address);
int posix_probe_copy_asm(void *to, const void *from, size_t bytes);

int posix_probe_load4_asm(const void *address, uint64_t *value);
int posix_probe_load8_asm(const void *address, uint64_t *value);
int posix_probe_cas4_asm(void *address, uint64_t old, uint64_t new);
int posix_probe_cas8_asm(void *address, uint64_t old, uint64_t new);

static inline bool load(const void *address, unsigned bytes, uint64_t *value)
{
	return bytes == 8 ? posix_probe_load8_asm(address, value) : posix_probe_load4_asm(address, value);
}

/* A function of its own, so that posix_probe_load, which every step of a walk calls, saves no register. */
static __attribute__((noinline)) bool load_guarded(const void *address, unsigned bytes, uint64_t *value)
{
	posix_signals_guard();
	return load(address, bytes, value);
}

bool posix_probe_load(const void *address, unsigned bytes, uint64_t *value)
{
	return posix_signals_are_owned() ? load(address, bytes, value) : load_guarded(address, bytes, value);
}

bool posix_probe_cas(void *address, unsigned bytes, uint64_t old, uint64_t new, bool *swapped)
{
	int result;

	posix_signals_guard();
	result = bytes == 8 ? posix_probe_cas8_asm(address, old, new) : posix_probe_cas4_asm(address, old, new);
	*swapped = result == 2;
	return result != 0;
}

bool posix_probe_read(const void *address)
{
	posix_signals_guard();
	return posix_probe_read_asm(address);
}

bool posix_probe_write(void *address)
{
	posix_signals_guard();
	return posix_probe_write_asm(address);
}

bool posix_probe_copy(void *to, const void *from, size_t bytes)
{
	posix_signals_guard();
	return posix_probe_copy_asm(to, from, bytes);
}

bool posix_probe_signal(int signal, siginfo_t *info, void *context)
{
	greg_t *rip = &((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];

	(void)signal;
	(void)info;
	if (*rip < (greg_t)posix_probe_begin || *rip >= (greg_t)posix_probe_end)
		return false;
	*rip = (greg_t)posix_probe_failed;
	return true;
}

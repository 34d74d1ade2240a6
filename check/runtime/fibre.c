/* SPDX-License-Identifier: MIT */
#include "check/runtime/fibre.h"

#include "check/runtime/rt.h"

/* The ABI wants six registers kept. The control words are the same in all fibres. */
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
        "	mov %rsp, (%rdi)\n"
        "	mov %rsi, %rsp\n"
        "	pop %r15\n"
        "	pop %r14\n"
        "	pop %r13\n"
        "	pop %r12\n"
        "	pop %rbp\n"
        "	pop %rbx\n"
        "	ret\n"
        ".size fibre_switch, . - fibre_switch\n");

void *fibre_make(unsigned thread, void (*fn)(void))
{
	uint64_t *top = (uint64_t *)(STACKS_ADDRESS + (thread + 1) * STACK_BYTES);

	top[-1] = 0;            /* the return address of fn: none, so that a backtrace ends here */
	top[-2] = (uint64_t)fn; /* fn begins with rsp = 8 modulo 16, as if called */
	for (int i = 3; i <= 8; i++)
		top[-i] = 0;
	return &top[-8];
}

/* SPDX-License-Identifier: MIT */
/* Into the front end and back, for a trapped call of a hosted program (trap.h). */
#include "kvm/process/hosted.h"
#include "kvm/trap/trap.h"

#define XSAVE_HEADER 512

	.text

/*
 * void trap_run(struct trap_frame *frame): the stack pointer is the frame's address, which is a multiple of 64. FS is
 * the front end's. A call must keep the program's vector registers, and the front end's code does not.
 */
	.globl	trap_run
	.hidden	trap_run
	.type	trap_run, @function
trap_run:
	mov	%rdi, %rbx
	subq	trap_xsave_bytes(%rip), %rsp
	andq	$-64, %rsp
	mov	%rsp, TRAP_XSAVE(%rbx)
	xor	%eax, %eax
	lea	XSAVE_HEADER(%rsp), %rdi
	mov	$8, %ecx
	rep stosq
	mov	$-1, %eax
	mov	$-1, %edx
	xsave64	(%rsp)
	fninit
	pushq	$0x1f80
	ldmxcsr	(%rsp)
	addq	$8, %rsp
	mov	%rbx, %rdi
	call	trap_answer
	mov	%rbx, %rdi
	jmp	trap_resume
	.size	trap_run, . - trap_run

/*
 * void trap_resume(struct trap_frame *frame). A signal may come between any two instructions. What is still needed is
 * always above the stack pointer, and GS and FS say "program" before the first register of the program is there.
 * The last thing is that the frame no longer counts: until then no other call takes its place.
 */
	.globl	trap_resume
	.hidden	trap_resume
	.type	trap_resume, @function
trap_resume:
	mov	%rdi, %rbx
	mov	TRAP_XSAVE(%rbx), %rsi
	test	%rsi, %rsi
	jz	1f
	mov	$-1, %eax
	mov	$-1, %edx
	xrstor64 (%rsi)
1:	mov	TRAP_SELF(%rbx), %rax
	mov	TRAP_CLIENT_FS(%rbx), %rcx
	lea	TRAP_REGISTERS(%rbx), %rsp
	wrgsbase %rax
	wrfsbase %rcx
	popq	%r8
	popq	%r9
	popq	%r10
	popq	%r12
	popq	%r13
	popq	%r14
	popq	%r15
	popq	%rdi
	popq	%rsi
	popq	%rbp
	popq	%rbx
	popq	%rdx
	popq	%rax
	popq	%r11
	popfq
	popq	%rcx
	popq	%rsp
	mov	%r11, %gs:HOSTED_FRAME
	jmp	*%rcx
	.size	trap_resume, . - trap_resume

/* long trap_probe(long number, const void *code, struct hosted_thread *self) */
	.globl	trap_probe
	.hidden	trap_probe
	.type	trap_probe, @function
trap_probe:
	pushq	%rbx
	mov	%rdi, %rax
	wrgsbase %rdx
	call	*%rsi
	xor	%ecx, %ecx
	wrgsbase %rcx
	popq	%rbx
	ret
	.size	trap_probe, . - trap_probe

	.section .note.GNU-stack, "", @progbits

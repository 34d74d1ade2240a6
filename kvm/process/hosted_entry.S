/* SPDX-License-Identifier: MIT */
/*
 * Entries for signals while a program is hosted (hosted.h). The kernel restores every register when a handler
 * returns, so the handlers here keep what they like in any of them.
 */
#include "kvm/process/hosted.h"

	.text

/* void hosted_signal(int number, siginfo_t *info, void *context) */
	.globl	hosted_signal
	.hidden	hosted_signal
	.type	hosted_signal, @function
hosted_signal:
	rdgsbase %rax
	test	%rax, %rax
	jz	signals_wrapper
	subq	$8, %rsp
	mov	%rax, %rbx
	rdfsbase %r12
	mov	HOSTED_FS(%rbx), %rcx
	wrfsbase %rcx
	xor	%eax, %eax
	wrgsbase %rax
	cmp	%rcx, %r12		/* between two instructions that change GS and FS: the program's is known */
	je	1f
	mov	%r12, HOSTED_CLIENT_FS(%rbx)
1:	call	signals_wrapper
	wrgsbase %rbx
	wrfsbase %r12
	addq	$8, %rsp
	ret
	.size	hosted_signal, . - hosted_signal

/* void hosted_trap_signal(int number, siginfo_t *info, void *context) */
	.globl	hosted_trap_signal
	.hidden	hosted_trap_signal
	.type	hosted_trap_signal, @function
hosted_trap_signal:
	rdgsbase %rax
	test	%rax, %rax
	jz	signals_wrapper
	subq	$8, %rsp
	mov	%rax, %rbx
	rdfsbase %r12
	mov	HOSTED_FS(%rbx), %rcx
	wrfsbase %rcx
	xor	%eax, %eax
	wrgsbase %rax
	mov	%r12, %rcx
	mov	%rbx, %r8
	call	hosted_trapped
	test	%al, %al
	jz	1f
	wrgsbase %rbx
	wrfsbase %r12
1:	addq	$8, %rsp
	ret
	.size	hosted_trap_signal, . - hosted_trap_signal

/*
 * void hosted_call(handler, int number, siginfo_t *info, void *context, uint64_t fs, struct hosted_thread *self)
 * A handler may destroy every register, as the kernel would not mind.
 */
	.globl	hosted_call
	.hidden	hosted_call
	.type	hosted_call, @function
hosted_call:
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	rdfsbase %rbx
	pushq	%rbx
	mov	%rdi, %rax
	mov	%esi, %edi
	mov	%rdx, %rsi
	mov	%rcx, %rdx
	wrgsbase %r9
	wrfsbase %r8
	call	*%rax
	popq	%rbx
	wrfsbase %rbx
	xor	%eax, %eax
	wrgsbase %rax
	cld
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	ret
	.size	hosted_call, . - hosted_call

	.section .note.GNU-stack, "", @progbits

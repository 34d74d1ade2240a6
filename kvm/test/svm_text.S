/* SPDX-License-Identifier: MIT */
/*
 * What L1 runs in the tests of svm_guest.h, in long mode at CPL 0, loaded at SVM_TEXT. GS and RSP are at the vCPU's own
 * page: see the offsets there. Each routine ends with an OUT to port SVM_DONE.
 */
	.section .rodata
	.balign 16
	.globl svm_text, svm_text_end
svm_text:

#define DONE out %al, $0xaa ; 1: jmp 1b

/*
 * L1's handler, behind a stub that pushed the error code (or 0) and the vector. An interrupt is written to the log; an
 * exception ends the step with port SVM_FAULT.
 */
	.globl svm_common
svm_common:
	cmpq	$2, (%rsp)
	je	1f
	cmpq	$32, (%rsp)
	jae	1f
	pop	%gs:0xc10		/* OWN_VECTOR: vector, error code, RIP */
	pop	%gs:0xc18
	pop	%gs:0xc20
	out	%al, $0xee
2:	jmp	2b
1:	push	%rax
	push	%rcx
	mov	16(%rsp), %eax
	mov	%gs:0xc00, %ecx		/* OWN_COUNT */
	movzbl	%cl, %ecx
	mov	%al, %gs:0xd00(%rcx)
	incl	%gs:0xc00
	cmp	$2, %eax
	je	1f
	mov	$0xfee000b0, %eax	/* EOI */
	movl	$0, (%rax)
1:	pop	%rcx
	pop	%rax
	add	$16, %rsp
	iretq

/* Take every interrupt that is pending. */
	.globl svm_window
svm_window:
	sti
	nop
	nop
	cli
	DONE

/* Run L2 once, or until something but an interrupt ends it (OWN_LOOP). RSP: OWN_L2 of the own page. */
	.globl svm_run
svm_run:
	clgi
	testb	$1, 0x80(%rsp)		/* SVM_VMLOAD */
	jz	1f
	mov	0x90(%rsp), %rax
	vmsave
	mov	0x88(%rsp), %rax
	vmload
1:	testb	$2, 0x80(%rsp)		/* SVM_HOST_IF */
	jz	1f
	sti
1:	testb	$4, 0x80(%rsp)		/* SVM_GIF */
	jz	1f
	stgi
1:	mov	0x08(%rsp), %rcx
	mov	0x10(%rsp), %rdx
	mov	0x18(%rsp), %rbx
	mov	0x28(%rsp), %rbp
	mov	0x30(%rsp), %rsi
	mov	0x38(%rsp), %rdi
	mov	0x40(%rsp), %r8
	mov	0x48(%rsp), %r9
	mov	0x50(%rsp), %r10
	mov	0x58(%rsp), %r11
	mov	0x60(%rsp), %r12
	mov	0x68(%rsp), %r13
	mov	0x70(%rsp), %r14
	mov	0x78(%rsp), %r15
	mov	0x88(%rsp), %rax
	vmrun
	.globl svm_behind
svm_behind:
	mov	%rax, 0x00(%rsp)
	mov	%rcx, 0x08(%rsp)
	mov	%rdx, 0x10(%rsp)
	mov	%rbx, 0x18(%rsp)
	mov	%rbp, 0x28(%rsp)
	mov	%rsi, 0x30(%rsp)
	mov	%rdi, 0x38(%rsp)
	mov	%r8, 0x40(%rsp)
	mov	%r9, 0x48(%rsp)
	mov	%r10, 0x50(%rsp)
	mov	%r11, 0x58(%rsp)
	mov	%r12, 0x60(%rsp)
	mov	%r13, 0x68(%rsp)
	mov	%r14, 0x70(%rsp)
	mov	%r15, 0x78(%rsp)
	pushfq
	pop	0xa0(%rsp)		/* counted after the pop has moved RSP */
	testb	$0x20, 0x80(%rsp)	/* SVM_LEAVE: the client looks at L1 as #VMEXIT has left it */
	jz	1f
	out	%al, $0xac
1:	cli
	testb	$1, 0x80(%rsp)
	jz	1f
	mov	0x88(%rsp), %rax
	vmsave
	mov	0x90(%rsp), %rax
	vmload
1:	testb	$8, 0x80(%rsp)		/* SVM_GIF_LATER: interrupts stay pending */
	jnz	1f
	stgi
	nop
1:	testb	$0x10, 0x80(%rsp)	/* SVM_LOOP */
	jz	1f
	mov	0x88(%rsp), %rax
	cmpl	$0x60, 0x70(%rax)
	jne	1f
	incl	0xa8(%rsp)
	sti
	nop
	cli
	jmp	svm_run
1:	DONE

	.globl svm_stgi
svm_stgi:
	stgi
	nop
	DONE

/*
 * What L2 runs in svm_beside.c, on any number of vCPUs: it adds 1 to the word at RDI of each of RCX pages from RSI on,
 * which must have been R8, pass by pass, until OWN_MARK is 2. In each pass it also reads the word at R10, and writes
 * the next one. R9: 0, or where a word was wrong.
 */
	.globl svm_sweep
svm_sweep:
	xor	%r9d, %r9d
	movb	$1, %gs:0x100		/* OWN_MARK */
1:	lea	(%rsi,%rdi), %rax
	mov	%rcx, %rdx
2:	cmp	%r8, (%rax)
	jne	3f
	incq	(%rax)
	add	$4096, %rax
	dec	%rdx
	jnz	2b
	inc	%r8
	mov	(%r10), %rax
	mov	%rax, %gs:0x110		/* OWN_SEEN */
	mov	%r8, 8(%r10)
	mov	%r8, %gs:0x108		/* OWN_PASSES */
	cmpb	$2, %gs:0x100
	jne	1b
	vmmcall
3:	mov	%rax, %r9
	vmmcall
svm_text_end:

	.section .note.GNU-stack, "", @progbits

/* SPDX-License-Identifier: MIT */
/*
 * What the guests run. Each routine ends with an OUT and begins again when it is resumed with new registers; the
 * host sets RIP to its start. Position-independent: the whole text is copied into guest memory.
 */
	.section .rodata
	.balign 16
	.globl guest_text, guest_text_end
guest_text:

/* rdi: address, rsi: pages. Writes one word to each page. */
	.globl guest_touch
guest_touch:
1:	movl	$1, (%rdi)
	addq	$4096, %rdi
	subq	$1, %rsi
	jnz	1b
	outb	%al, $0x10
	jmp	guest_touch

/* rsi: OUTs to do: an I/O exit each. */
	.globl guest_io
guest_io:
1:	outb	%al, $0x11
	subq	$1, %rsi
	jnz	1b
	outb	%al, $0x10
	jmp	guest_io

/* rdi: address of 32 KiB, rsi: turns. 4096 stores a turn: 4 instructions each, and 4 around them. */
	.globl guest_stores
guest_stores:
1:	movq	%rdi, %rax
	movl	$4096, %ecx
2:	movq	%rsi, (%rax)
	addq	$8, %rax
	decl	%ecx
	jnz	2b
	subq	$1, %rsi
	jnz	1b
	outb	%al, $0x10
	jmp	guest_stores

/* rdi: address of 64 KiB, rsi: turns. Sieve of Eratosthenes over 65536 bytes. */
	.globl guest_sieve
guest_sieve:
1:	movq	%rdi, %rax		/* clear */
	leaq	65536(%rdi), %rdx
2:	movq	$0, (%rax)
	addq	$8, %rax
	cmpq	%rdx, %rax
	jb	2b
	movl	$2, %ecx
3:	cmpb	$0, (%rdi,%rcx)
	jne	5f
	movl	%ecx, %eax
	imull	%ecx, %eax
	cmpl	$65536, %eax
	jae	5f
4:	movb	$1, (%rdi,%rax)
	addl	%ecx, %eax
	cmpl	$65536, %eax
	jb	4b
5:	incl	%ecx
	cmpl	$256, %ecx
	jb	3b
	subq	$1, %rsi
	jnz	1b
	outb	%al, $0x10
	jmp	guest_sieve

/* rsi: calls. */
	.globl guest_calls
guest_calls:
1:	call	2f
	subq	$1, %rsi
	jnz	1b
	outb	%al, $0x10
	jmp	guest_calls
2:	addq	$1, %rax
	ret

/* rdi: a page's address, rdx: its page-table entry, r8 and r9: two values of the entry, rsi: turns. CPL 0. */
	.globl guest_invlpg
guest_invlpg:
1:	movq	%r8, (%rdx)
	invlpg	(%rdi)
	movl	(%rdi), %eax
	xchgq	%r8, %r9
	subq	$1, %rsi
	jnz	1b
	outb	%al, $0x10
	jmp	guest_invlpg

/* rdi: an address, r8 and r9: two roots, rsi: turns. CPL 0. */
	.globl guest_cr3
guest_cr3:
1:	movq	%r8, %cr3
	movl	(%rdi), %eax
	xchgq	%r8, %r9
	subq	$1, %rsi
	jnz	1b
	outb	%al, $0x10
	jmp	guest_cr3

guest_text_end:

	.section .note.GNU-stack, "", @progbits

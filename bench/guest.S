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

/* rsi: OUTs to do, each of which is an I/O exit. */
	.globl guest_io
guest_io:
1:	outb	%al, $0x11
	subq	$1, %rsi
	jnz	1b
	outb	%al, $0x10
	jmp	guest_io

/* rdi: address of 32 KiB, rsi: turns. A turn makes 4096 stores, of 4 instructions each, and has 4 instructions more. */
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

/*
 * rdi: an address, r8: the first root, r9: the end of the roots, rdx: bytes from one root to the next, rsi: turns.
 * CPL 0.
 */
	.globl guest_cr3
guest_cr3:
	movq	%r8, %rax
1:	movq	%rax, %cr3
	movl	(%rdi), %ecx
	addq	%rdx, %rax
	cmpq	%r9, %rax
	jb	2f
	movq	%r8, %rax
2:	subq	$1, %rsi
	jnz	1b
	outb	%al, $0x10
	jmp	guest_cr3

/*
 * Build, use and destroy an address space of 64 pages. rdi: four frames for its tables, in memory that is mapped one
 * to one; rdx: the entry of its first page; r8: entry 0 of the root, which maps this code; r9: the root to return to;
 * rsi: turns. CPL 0.
 */
	.globl guest_space
guest_space:
1:	movq	%rdi, %rbx		/* fresh tables are zeroed */
	xorl	%eax, %eax
	movl	$2048, %ecx
	cld
	rep stosq
	movq	%rbx, %rdi
	movq	%r8, (%rdi)		/* build */
	leaq	0x1007(%rdi), %rax
	movq	%rax, 8(%rdi)
	leaq	0x2007(%rdi), %rax
	movq	%rax, 0x1000(%rdi)
	leaq	0x3007(%rdi), %rax
	movq	%rax, 0x2000(%rdi)
	movq	%rdx, %rax
	xorl	%ecx, %ecx
2:	movq	%rax, 0x3000(%rdi,%rcx,8)
	addq	$4096, %rax
	incl	%ecx
	cmpl	$64, %ecx
	jb	2b
	movq	%rdi, %cr3		/* use */
	movabsq	$0x8000000000, %rbx
	movl	$64, %ecx
3:	movl	$1, (%rbx)
	addq	$4096, %rbx
	decl	%ecx
	jnz	3b
	movq	%r9, %cr3		/* destroy */
	xorl	%eax, %eax
	xorl	%ecx, %ecx
4:	movq	%rax, 0x3000(%rdi,%rcx,8)
	incl	%ecx
	cmpl	$64, %ecx
	jb	4b
	movq	%rax, 0x2000(%rdi)
	movq	%rax, 0x1000(%rdi)
	movq	%rax, 8(%rdi)
	subq	$1, %rsi
	jnz	1b
	outb	%al, $0x10
	jmp	guest_space

/* Read one word of each 2 MiB, 1000 times, from 512 GiB on: a page of each table. */
	.macro	touch_forked
	movabsq	$0x8000000000, %rbx
	movl	$1000, %ecx
9:	movl	(%rbx), %eax
	addq	$0x200000, %rbx
	decl	%ecx
	jnz	9b
	.endm

/*
 * The part of a fork that concerns page tables. 1000 tables of the parent are copied for the child, and every entry
 * loses W in both. Then the child and the parent each read a page of every table, and the child is taken apart. rdi
 * and rdx: the parent's and the child's directories (two pages), with the 1000 tables behind them; r8 and r9: their
 * roots; rsi: turns. CPL 0.
 */
	.globl guest_fork
guest_fork:
1:	movq	%r8, %cr3
	touch_forked
	leaq	0x2000(%rdi), %r10
	leaq	0x2000(%rdx), %r11
	movq	%rdx, %r12
	movl	$1000, %ecx
2:	movl	$512, %ebx
3:	movq	(%r10), %rax
	andq	$~2, %rax
	movq	%rax, (%r10)
	movq	%rax, (%r11)
	addq	$8, %r10
	addq	$8, %r11
	decl	%ebx
	jnz	3b
	leaq	-0xff9(%r11), %rax	/* the table, P W U */
	movq	%rax, (%r12)
	addq	$8, %r12
	decl	%ecx
	jnz	2b
	movq	%r8, %cr3		/* the flush that the parent's lost rights need */
	movq	%r9, %cr3
	touch_forked
	movq	%r8, %cr3
	touch_forked
	xorl	%eax, %eax
	movl	$1000, %ecx
4:	movq	%rax, -8(%rdx,%rcx,8)
	decl	%ecx
	jnz	4b
	subq	$1, %rsi
	jnz	1b
	outb	%al, $0x10
	jmp	guest_fork

guest_text_end:

	.section .note.GNU-stack, "", @progbits

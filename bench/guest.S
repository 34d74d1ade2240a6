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

/*
 * Interrupts, at CPL 0, with the local APIC in x2APIC mode. A handler counts in the word at r15, and may answer by an
 * OUT to port 0x12. That of the timer, vector 0x42, writes the TSC of its first instruction there.
 */
	.macro	x2apic reg, value
	movl	$\reg, %ecx
	movl	$\value, %eax
	xorl	%edx, %edx
	wrmsr
	.endm
	.macro	handler_end
	x2apic	0x80b, 0
	popq	%rdx
	popq	%rcx
	popq	%rax
	iretq
	.endm
	.globl guest_handler, guest_answer_handler, guest_timer_handler
guest_handler:
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	incq	(%r15)
	handler_end
guest_answer_handler:
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	incq	(%r15)
	outb	%al, $0x12
	handler_end
guest_timer_handler:
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	rdtsc
	shlq	$32, %rdx
	orq	%rdx, %rax
	movq	%rax, (%r15)
	handler_end

/* Turn the APIC on. rdi: the low half of its base. */
	.globl guest_apic_on
guest_apic_on:
	movl	$0x1b, %ecx
	movl	%edi, %eax
	xorl	%edx, %edx
	wrmsr
	x2apic	0x80f, 0x1ff
	x2apic	0x832, 0x40042		/* the timer: TSC-deadline mode */
	outb	%al, $0x10
	jmp	guest_apic_on

	.macro	ipi_send
	movl	$0x830, %ecx
	movl	$0x4041, %eax
	movq	%r8, %rdx
	wrmsr
	.endm
	.macro	wait_halted
	incq	%r12
2:	cli
	cmpq	%r12, (%r15)
	jae	3f
	sti
	hlt
	jmp	2b
3:
	.endm
	.macro	wait_spinning
	incq	%r12
2:	pause
	cmpq	%r12, (%r15)
	jb	2b
	.endm

/*
 * Two vCPUs send each other IPIs. rdi: the vCPU's own counter, which is 0. rsi: turns. r8: the ID of the other one. A
 * `ping` sends first, a `pong` waits first, in HLT or spinning.
 */
	.globl guest_ping, guest_pong, guest_ping_spin, guest_pong_spin
guest_ping:
	movq	%rdi, %r15
	xorl	%r12d, %r12d
1:	ipi_send
	wait_halted
	subq	$1, %rsi
	jnz	1b
	outb	%al, $0x10
	jmp	guest_ping
guest_pong:
	movq	%rdi, %r15
	xorl	%r12d, %r12d
1:	wait_halted
	ipi_send
	subq	$1, %rsi
	jnz	1b
	outb	%al, $0x10
	jmp	guest_pong
guest_ping_spin:
	movq	%rdi, %r15
	xorl	%r12d, %r12d
	sti
1:	ipi_send
	wait_spinning
	subq	$1, %rsi
	jnz	1b
	cli
	outb	%al, $0x10
	jmp	guest_ping_spin
guest_pong_spin:
	movq	%rdi, %r15
	xorl	%r12d, %r12d
	sti
1:	wait_spinning
	ipi_send
	subq	$1, %rsi
	jnz	1b
	cli
	outb	%al, $0x10
	jmp	guest_pong_spin

/* rdi: the counter. rsi: interrupts to wait for, in HLT or spinning. */
	.globl guest_listen, guest_listen_spin
guest_listen:
	movq	%rdi, %r15
	xorl	%r12d, %r12d
1:	wait_halted
	subq	$1, %rsi
	jnz	1b
	outb	%al, $0x10
	jmp	guest_listen
guest_listen_spin:
	movq	%rdi, %r15
	xorl	%r12d, %r12d
	sti
1:	wait_spinning
	subq	$1, %rsi
	jnz	1b
	cli
	outb	%al, $0x10
	jmp	guest_listen_spin

/*
 * rdi: an array, rsi: its length, rdx: TSC ticks. Each time, set the timer to so many ticks from now, wait, and record
 * how many ticks too late its handler began. r8: a word of memory.
 */
	.macro	deadline
	movq	$0, (%r15)
	rdtsc
	shlq	$32, %rdx
	orq	%rdx, %rax
	addq	%r13, %rax
	movq	%rax, %r12
	movq	%rax, %rdx
	shrq	$32, %rdx
	movl	$0x6e0, %ecx
	wrmsr
	.endm
	.macro	record
	movq	(%r15), %rax
	subq	%r12, %rax
	movq	%rax, (%rdi)
	addq	$8, %rdi
	subq	$1, %rsi
	.endm
	.globl guest_late, guest_late_spin
guest_late:
	movq	%r8, %r15
	movq	%rdx, %r13
1:	deadline
2:	cli
	cmpq	$0, (%r15)
	jne	3f
	sti
	hlt
	jmp	2b
3:	record
	jnz	1b
	outb	%al, $0x10
	jmp	guest_late
guest_late_spin:
	movq	%r8, %r15
	movq	%rdx, %r13
	sti
1:	deadline
2:	pause
	cmpq	$0, (%r15)
	je	2b
	record
	jnz	1b
	cli
	outb	%al, $0x10
	jmp	guest_late_spin

guest_text_end:

	.section .note.GNU-stack, "", @progbits

/* SPDX-License-Identifier: MIT */
/*
 * What the guests of guest.h run, in long mode at CPL 0, loaded at GUEST_TEXT. Each routine
 * ends with an OUT to port GUEST_DONE. GS is at the vCPU's own page: see the offsets in guest.h.
 */
	.section .rodata
	.balign 16
	.globl guest_text, guest_text_end
guest_text:

#define DONE out %al, $0xaa ; 1: jmp 1b

/*
 * Every interrupt's stub pushes its vector and comes here. Append the vector to the vCPU's log, then do what the
 * table of actions says for the vector (GUEST_* bits in guest.h).
 */
	.globl guest_common
guest_common:
	push	%rax
	push	%rcx
	push	%rdx
	mov	24(%rsp), %eax
	mov	%gs:0, %ecx		/* the count */
	and	$0x3ff, %ecx
	mov	%al, %gs:0x100(%rcx)
	incl	%gs:0
	movzbl	0x3000(%rax), %ecx	/* the action */
	test	$0x20, %cl		/* GUEST_NEST */
	jz	1f
	sti
	nop
	out	%al, $0xab
	cli
1:	test	$0x04, %cl		/* GUEST_EOI_SLAVE */
	jz	1f
	mov	$0x20, %al
	out	%al, $0xa0
1:	test	$0x08, %cl		/* GUEST_EOI_MASTER */
	jz	1f
	mov	$0x20, %al
	out	%al, $0x20
1:	test	$0x01, %cl		/* GUEST_EOI */
	jz	1f
	mov	$0xfee000b0, %eax
	movl	$0, (%rax)
1:	test	$0x02, %cl		/* GUEST_EOI_X2APIC */
	jz	1f
	push	%rcx
	mov	$0x80b, %ecx
	xor	%eax, %eax
	xor	%edx, %edx
	wrmsr
	pop	%rcx
1:	test	$0x40, %cl		/* GUEST_MARK: log the end of the handler, too */
	jz	1f
	mov	%gs:0, %eax
	and	$0x3ff, %eax
	movb	$0xff, %gs:0x100(%rax)
	incl	%gs:0
1:	test	$0x10, %cl		/* GUEST_EXIT */
	jz	1f
	out	%al, $0xbb
1:	pop	%rdx
	pop	%rcx
	pop	%rax
	add	$8, %rsp
	iretq

/* #GP: the client sees port 13. */
	.globl guest_fault
guest_fault:
	out	%al, $13
1:	jmp	1b

/* OUT and IN: edx is the port, al the value. */
	.globl guest_out, guest_in, guest_in16
guest_out:
	out	%al, %dx
	DONE
guest_in:
	xor	%eax, %eax
	in	%dx, %al
	DONE
guest_in16:
	in	%dx, %ax
	DONE

/* Write eax to memory at ebx; read it. */
	.globl guest_write, guest_write_late, guest_read, guest_write8, guest_read8
guest_write:
	mov	%eax, (%rbx)
	DONE
/* Write eax to memory at ebx when ecx cycles of the TSC have gone by. No exit comes before. */
guest_write_late:
	mov	%eax, %esi
	rdtsc
	mov	%eax, %edi
1:	rdtsc
	sub	%edi, %eax
	cmp	%ecx, %eax
	jb	1b
	mov	%esi, (%rbx)
	DONE
guest_read:
	mov	(%rbx), %eax
	DONE
guest_write8:
	mov	%al, (%rbx)
	DONE
guest_read8:
	xor	%eax, %eax
	mov	(%rbx), %al
	DONE

	.globl guest_wrmsr, guest_rdmsr
guest_wrmsr:
	wrmsr
	DONE
guest_rdmsr:
	rdmsr
	DONE

	.globl guest_write_cr8, guest_read_cr8
guest_write_cr8:
	mov	%rax, %cr8
	DONE
guest_read_cr8:
	mov	%cr8, %rax
	DONE

/*
 * Take every interrupt that is pending. A KVM may run many instructions of a kernel before it looks for interrupts. It
 * does look at each KVM_RUN, hence the OUT to GUEST_PORT_OPEN here and in guest_common.
 */
	.globl guest_window
guest_window:
	sti
	nop
1:	mov	%gs:0, %eax
	out	%al, $0xab
	cmp	%eax, %gs:0
	jne	1b
	cli
	DONE

/* Wait for one interrupt. The word at offset 4 says that the guest has come as far. */
	.globl guest_halt
guest_halt:
	incl	%gs:4
	sti
	hlt
	cli
	DONE

/* Halt with interrupts off: only an NMI, INIT or SMI ends it. */
	.globl guest_halt_off
guest_halt_off:
	incl	%gs:4
	cli
	hlt
	DONE

/* Wait, in HLT or spinning, until the log has eax entries. */
	.globl guest_halt_until, guest_spin_until
guest_halt_until:
	incl	%gs:4
1:	cli
	cmp	%eax, %gs:0
	jae	2f
	sti
	hlt
	jmp	1b
2:	DONE
guest_spin_until:
	incl	%gs:4
	sti
1:	pause
	cmp	%eax, %gs:0
	jb	1b
	cli
	DONE

/* Spin with interrupts off until the client writes to the word at offset 8. */
	.globl guest_spin
guest_spin:
	incl	%gs:4
1:	pause
	cmpl	$0, %gs:8
	je	1b
	DONE

/*
 * Play with the other vCPU: ecx times, write eax to ICR and ICR2 = ebx, then wait until the log has grown by one.
 * `ping` begins, `pong` waits first. Both in HLT or (spin) without.
 */
	.globl guest_ping, guest_pong, guest_ping_spin, guest_pong_spin
guest_ping:
	mov	$0xfee00300, %esi
	mov	%ebx, 0x10(%rsi)
	xor	%edx, %edx
1:	mov	%eax, (%rsi)
	inc	%edx
2:	cli
	cmp	%edx, %gs:0
	jae	3f
	sti
	hlt
	jmp	2b
3:	loop	1b
	DONE
guest_pong:
	mov	$0xfee00300, %esi
	mov	%ebx, 0x10(%rsi)
	xor	%edx, %edx
1:	inc	%edx
2:	cli
	cmp	%edx, %gs:0
	jae	3f
	sti
	hlt
	jmp	2b
3:	mov	%eax, (%rsi)
	loop	1b
	DONE
guest_ping_spin:
	mov	$0xfee00300, %esi
	mov	%ebx, 0x10(%rsi)
	xor	%edx, %edx
	sti
1:	mov	%eax, (%rsi)
	inc	%edx
2:	pause
	cmp	%edx, %gs:0
	jb	2b
	loop	1b
	cli
	DONE
guest_pong_spin:
	mov	$0xfee00300, %esi
	mov	%ebx, 0x10(%rsi)
	xor	%edx, %edx
	sti
1:	inc	%edx
2:	pause
	cmp	%edx, %gs:0
	jb	2b
	mov	%eax, (%rsi)
	loop	1b
	cli
	DONE
guest_text_end:

/* Where a SIPI starts a vCPU: real mode, loaded at the page of the SIPI's vector. The client reads CS after the OUT. */
	.code16
	.globl guest_real, guest_real_end
guest_real:
	out	%al, $0xcc
	cli
	hlt
	out	%al, $0xcd
	hlt
guest_real_end:
	.section .note.GNU-stack, "", @progbits

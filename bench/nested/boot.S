/* SPDX-License-Identifier: MIT */
/*
 * The bench's hypervisor: from a multiboot loader to long mode, VMRUN, and what its guests run. The image is flat and
 * lies at 1 MiB; the first GiB is mapped one to one.
 */
	.section .head, "ax"
	.code32
	.globl start
header:
	.long 0x1badb002, 0x00010000, -(0x1badb002 + 0x00010000) /* the addresses below say how to load it */
	.long header, header, image_end, bss_end, start
start:
	mov $stack_end, %esp
	movl $pdpt + 3, pml4
	movl $pd + 3, pdpt
	mov $pd, %edi
	mov $0x83, %eax
1:	mov %eax, (%edi)
	add $0x200000, %eax
	add $8, %edi
	cmp $pd + 4096, %edi
	jne 1b
	mov $pml4, %eax
	mov %eax, %cr3
	mov %cr4, %eax
	or $0x20, %eax /* PAE */
	mov %eax, %cr4
	mov $0xc0000080, %ecx
	rdmsr
	or $0x1900, %eax /* SVME, NXE, LME */
	wrmsr
	mov %cr0, %eax
	or $0x80000000, %eax
	mov %eax, %cr0
	lgdt gdt_pointer
	ljmp $8, $long_mode
	.align 8
gdt:	.quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
	.word . - gdt - 1
	.long gdt

	.code64
long_mode:
	mov $16, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	xor %edi, %edi
	call hypervisor
1:	hlt
	jmp 1b

	.text
/* void guest_enter(uint64_t vmcb, struct registers *registers): RCX, RDX, RSI, RDI of the guest; RBX is its answer. */
	.globl guest_enter
guest_enter:
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	push %rsi
	mov %rdi, %rax
	mov 0(%rsi), %rcx
	mov 8(%rsi), %rdx
	mov 24(%rsi), %rdi
	mov 16(%rsi), %rsi
	vmrun %rax
	pop %rax
	mov %rcx, 0(%rax)
	mov %rdx, 8(%rax)
	mov %rsi, 16(%rax)
	mov %rdi, 24(%rax)
	mov %rbx, 32(%rax)
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret

	.globl guest_call, guest_touch, guest_read, guest_switch
guest_call:
	vmmcall
	jmp guest_call
guest_touch: /* RCX pages from RDI */
	movb $1, (%rdi)
	add $4096, %rdi
	dec %rcx
	jnz guest_touch
	vmmcall
	jmp guest_touch
guest_read:
	mov (%rdi), %rbx
	vmmcall
	jmp guest_read
guest_switch: /* RCX times to the tables at RSI and to those at RDX, with a read of RDI in each */
	mov %rsi, %cr3
	mov (%rdi), %rbx
	mov %rdx, %cr3
	mov (%rdi), %rbx
	dec %rcx
	jnz guest_switch
	vmmcall
	jmp guest_switch

	.section .note.GNU-stack, "", @progbits
	.bss
	.align 4096
pml4:	.skip 4096
pdpt:	.skip 4096
pd:	.skip 4096
	.skip 16384
stack_end:

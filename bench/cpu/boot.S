/* SPDX-License-Identifier: MIT */
/*
 * From multiboot to guest_main() in 64-bit mode at CPL 3. IOPL is 3, so that it may use ports. The first 64 MiB are
 * mapped one to one by entries of 4 KiB, as a kernel's and its programs' memory mostly is. There are no interrupts,
 * and an exception is a triple fault, at which QEMU ends.
 */
#define MIB_MAPPED 64

	.section .head, "ax"
	.code32
	.globl start
header:
	.long 0x1badb002, 0x00010000, -(0x1badb002 + 0x00010000) /* the addresses below say how to load it */
	.long header, header, image_end, bss_end, start
start:
	mov $stack_end, %esp
	movl $pdpt + 7, pml4
	movl $pd + 7, pdpt
	mov $pd, %edi
	mov $tables + 7, %eax
1:	mov %eax, (%edi)
	add $4096, %eax
	add $8, %edi
	cmp $pd + MIB_MAPPED / 2 * 8, %edi
	jne 1b
	mov $tables, %edi
	mov $7, %eax
1:	mov %eax, (%edi)
	add $4096, %eax
	add $8, %edi
	cmp $tables_end, %edi
	jne 1b
	mov $pml4, %eax
	mov %eax, %cr3
	mov %cr4, %eax
	or $0x620, %eax /* OSXMMEXCPT OSFXSR PAE */
	mov %eax, %cr4
	mov $0xc0000080, %ecx
	rdmsr
	or $0x100, %eax /* LME */
	wrmsr
	mov %cr0, %eax
	and $0xfffffffb, %eax /* no EM */
	or $0x80000022, %eax /* PG NE MP */
	mov %eax, %cr0
	lgdt gdt_pointer
	ljmp $8, $long_mode
	.align 8
gdt:	.quad 0, 0x00af9b000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff
gdt_pointer:
	.word . - gdt - 1
	.long gdt

	.code64
long_mode:
	mov $0x13, %eax
	mov %eax, %ds
	mov %eax, %es
	pushq $0x13
	pushq $stack_end - 8
	pushq $0x3002
	pushq $0x1b
	pushq $guest_main
	iretq

	.section .note.GNU-stack, "", @progbits
	.bss
	.align 4096
pml4:	.skip 4096
pdpt:	.skip 4096
pd:	.skip 4096
tables:	.skip MIB_MAPPED * 2048
tables_end:
	.skip 65536
stack_end:

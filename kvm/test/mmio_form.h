/* SPDX-License-Identifier: MIT */
/* The instructions of the test `mmio`: mmio.c runs them, mmio_scalar.c and mmio_vector.c have them. */
#ifndef VMMU_KVM_TEST_MMIO_FORM_H
#define VMMU_KVM_TEST_MMIO_FORM_H

#include <stdint.h>

/*
 * One instruction, or a few, whose memory operand is at RBX. In the registers: RAX, RCX, RDX, RBP and R9 to R15 have
 * numbers, R8 points to memory that is no device's. RSI and RDI are free. The stack is in memory. Vectors: XMM2 has
 * indexes of 32 bits, XMM3 of 64, XMM4 signs for a mask, and all others random numbers. So have masks, but for K2 whose
 * bits are all set.
 */
struct form {
	const uint8_t *code, *end;
	const char *name;
	uint16_t reads, writes; /* how many bytes of the operand it reads, and how many it writes */
	uint32_t flags;         /* FORM_* */
	uint32_t unused;
};
#define FORM_ALIGNED  1 /* the operand is aligned to 64 bytes, or it is an exception */
#define FORM_ANYTIMES 2 /* bytes may be read or written more than once */
#define FORM_NOT_KVM  4 /* KVM's emulator has another result, or at CPL 3 it may be the host's */

#define FORM_TEXT_(n) #n
#define FORM_TEXT(n) FORM_TEXT_(n)

/* FORM("mov %eax, (%rbx)", 0, 4, 0). Instructions are separated by semicolons; labels are 1 to 9. */
#define FORM(text, reads, writes, flags)                                                                            \
	__asm__(".pushsection .rodata.form_code, \"a\"\n771: " text "\n772: out %al, $0x10\n"                       \
	        "773: .asciz \"" text "\"\n.popsection\n"                                                           \
	        ".pushsection form_table, \"aw\"\n.balign 8\n.quad 771b, 772b, 773b\n"                              \
	        ".short " FORM_TEXT(reads) ", " FORM_TEXT(writes) "\n.long " FORM_TEXT(flags) ", 0\n.balign 8\n"    \
	        ".popsection\n");

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Which bytes of its memory operand an instruction with a mask accesses, and how it reaches them where they are not
 * all in one page of memory: the masked moves of AVX, and everything that has a mask register in EVEX.
 *
 * An element that is masked off is not accessed. It raises no fault, no device sees it, and no other vCPU sees it
 * written. Some instructions (the exception classes whose names end in NF) check the whole operand all the same.
 */
#ifndef CPU_STUB_MASKED_H
#define CPU_STUB_MASKED_H

#include "cpu/base/types.h"

enum masked_kind {
	MASKED_NOT,    /* no mask: the whole operand */
	MASKED_BITS,   /* of n elements, i: if one of the bits i, i + n, i + 2n ... of a mask register is set */
	MASKED_PACKED, /* the first elements, as many as a mask register has bits set: compress and expand */
	MASKED_SIGNS,  /* element i: if the top bit of element i of a vector register is set */
};

/* What an instruction says about it. */
struct masked {
	uint8_t kind;     /* enum masked_kind */
	uint8_t reg;      /* the mask register, or the vector register */
	uint8_t shift;    /* an element in memory has 1 << shift bytes */
	uint8_t elements; /* in memory */
	uint8_t bits;     /* how many bits of the mask count; more than there are elements when those are broadcast */
	bool faults;      /* elements that are masked off fault like others */
};

#define MASKED_OPERAND 64u /* most bytes of a memory operand */

/** @insn: an instruction with a memory operand @o of at most MASKED_OPERAND bytes, and without VSIB. */
struct masked masked_describe(const struct insn *insn, const ZydisDecodedOperand *o);

/** Returns: bit i is set if the mask, as it is now, lets byte i of the operand be read or written. */
uint64_t masked_bytes(const struct cpu *cpu, const struct masked *m);

/** All bytes of an operand of @size. */
static inline uint64_t masked_all(unsigned size)
{
	return size >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << size) - 1;
}

/*
 * Slow access to the memory operand of @op, byte i of it if bit i of @bytes is set. Each may fault, at the lowest
 * address that does, and then has had no effect.
 */
void masked_read(struct cpu *cpu, const struct op *op, uint64_t bytes, uint8_t *to);
void masked_write(struct cpu *cpu, const struct op *op, uint64_t bytes, const uint8_t *from);
/** Raise what masked_write would raise, and write nothing. */
void masked_check_write(struct cpu *cpu, const struct op *op, uint64_t bytes);

/** Is the operand at a multiple of @align? Faults as an access of @bytes would for reasons of its segment. */
bool masked_is_aligned(struct cpu *cpu, const struct op *op, uint64_t bytes, unsigned align, bool write);

/** The handler of VMASKMOVDQU, which has its memory operand at rDI. Returns: NULL for "not mine". */
op_fn *masked_select(const struct insn *insn, struct op *op);

#endif

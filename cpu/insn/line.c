/* SPDX-License-Identifier: MIT */
/* Direct stores, and stores of a cache line: MOVDIRI, MOVDIR64B, CLZERO. */
#include "cpu/insn/insn.h"

#define LINE 64u

/* rAX points into the line. Another segment may be named. CR2 of a fault is the line's address. */
static void clzero(struct cpu *cpu, const struct op *op)
{
	static const uint8_t zero[LINE];
	uint64_t at = reg_read(cpu, OPR(CPU_RAX), 8), linear;

	if (op->asize != 8)
		at &= op->asize == 4 ? 0xffffffffu : 0xffffu;
	linear = seg_linear(cpu, op->seg, at, 1, true) & ~(uint64_t)(LINE - 1);
	mem_write_bytes(cpu, linear, zero, LINE);
}

static void movdiri4(struct cpu *cpu, const struct op *op)
{
	operand_store(cpu, op, 4, operand_read(cpu, op, 1, 4));
}

static void movdiri8(struct cpu *cpu, const struct op *op)
{
	operand_store(cpu, op, 8, operand_read(cpu, op, 1, 8));
}

/* From the memory operand to the line at the address in a register, in ES. */
static void movdir64b(struct cpu *cpu, const struct op *op)
{
	uint64_t at = reg_read(cpu, op->reg[0], 8), linear;
	uint8_t line[LINE];

	if (op->asize != 8)
		at &= op->asize == 4 ? 0xffffffffu : 0xffffu;
	linear = seg_linear(cpu, CPU_ES, at, LINE, true);
	if (linear & (LINE - 1))
		cpu_gp(cpu);
	mem_read_bytes(cpu, op_linear(cpu, op, LINE, false), line, LINE);
	mem_write_bytes(cpu, linear, line, LINE);
}

/* Zydis knows of no memory operand. The last prefix counts, and in 64-bit mode only FS and GS do. */
static uint8_t clzero_segment(const struct insn *insn)
{
	uint8_t seg = CPU_DS;

	for (unsigned i = 0; i < insn->z->raw.prefix_count; i++) {
		uint8_t prefix = insn->z->raw.prefixes[i].value;

		switch (prefix) {
		case 0x26: case 0x2e: case 0x36: case 0x3e:
			if (insn->bits != 64)
				seg = prefix >> 3 & 3; /* ES CS SS DS */
			break;
		case 0x64: case 0x65:
			seg = CPU_FS + (prefix & 1);
			break;
		default:
			break;
		}
	}
	return seg;
}

op_fn *line_select(const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_CLZERO: op->seg = clzero_segment(insn); return clzero;
	case ZYDIS_MNEMONIC_MOVDIRI: return op->size == 8 ? movdiri8 : movdiri4;
	case ZYDIS_MNEMONIC_MOVDIR64B: return movdir64b;
	default: return NULL;
	}
}

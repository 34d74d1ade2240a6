/* SPDX-License-Identifier: MIT */
/*
 * Random instructions for the differential test of the software vCPU.
 *
 * Owns the table of what is tested, and how a row of it becomes the bytes of one instruction with a machine state on
 * which the instruction does something. Must not know the host's CPU or the software one.
 *
 * A case depends only on the seed, the row and its number in the row, so any case can be run alone.
 */
#ifndef VMMU_CPU_TEST_GEN_H
#define VMMU_CPU_TEST_GEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <Zydis/Zydis.h>

/* Where things are, the same addresses on both CPUs.  All below 2 GiB, so that 32-bit code sees them. */
#define GEN_PAGE       4096u
#define GEN_DATA       0x10000000u		  /* two pages read-write, one read-only, then nothing */
#define GEN_DATA_RW    (2 * GEN_PAGE)
#define GEN_DATA_SIZE  (3 * GEN_PAGE)
#define GEN_CODE       0x20000000u		  /* one slot per case, everything else is int3 */
#define GEN_CODE_SIZE  (8u << 20)
#define GEN_SLOT       128u
#define GEN_LANDING    GEN_CODE			  /* targets of far-away jumps: int3 only */
#define GEN_LANDING_SIZE 0x10000u
#define GEN_SLOT_MAX   ((GEN_CODE_SIZE - GEN_LANDING_SIZE - 0x10000u) / GEN_SLOT)
/* 16-bit code: segments of 64 KiB, of which the data area is a part. */
#define GEN_CODE16     (GEN_CODE + GEN_CODE_SIZE - 0x10000u)
#define GEN_DATA16     (GEN_DATA - 0x4000u)
#define GEN_LANDING16  0xf000u			  /* offset of int3s */
#define GEN_SLOTS16    (GEN_LANDING16 / GEN_SLOT - 1)	  /* used again and again */
#define GEN_GS_BASE    0x4000u			  /* the base of GS, for the tests of segment overrides */

enum { GEN_CF = 1, GEN_PF = 4, GEN_AF = 0x10, GEN_ZF = 0x40, GEN_SF = 0x80, GEN_DF = 0x400, GEN_OF = 0x800 };
#define GEN_STATUS (GEN_CF | GEN_PF | GEN_AF | GEN_ZF | GEN_SF | GEN_OF)

/* A vector register: XMM, YMM and ZMM are its first 16, 32 and 64 bytes. */
union gen_vector {
	uint64_t q[8];
	uint8_t byte[64];
};

struct gen_extended {
	uint64_t q[2];
};

/* The registers that an instruction can see.  General registers in encoding order. */
struct gen_state {
	uint64_t gpr[16];
	uint64_t rip;
	uint64_t rflags;
	union gen_vector v[32];		/* what the host lacks of them, and of k, is 0 */
	uint64_t k[8];
	struct gen_extended st[8];	/* x87 registers in stack order, 10 bytes each */
	uint16_t fcw, fsw;
	uint8_t ftw;			/* as FXSAVE has it */
	uint16_t fop;			/* of the last x87 instruction: opcode, address, address of its operand */
	uint64_t fip, fdp;
	uint32_t mxcsr;
};

/* How a case ended: the vector (3 is the int3 behind the instruction), and what goes with it. */
struct gen_end {
	unsigned int vector;
	uint32_t error;
	uint64_t cr2;			/* meaningful with vector 14 only */
};

struct gen_poke {
	uint32_t offset;		/* from GEN_DATA */
	uint32_t size;
	uint8_t bytes[64];
};

#define GEN_BYTES 80u

struct gen_case {
	uint8_t bytes[GEN_BYTES];	/* one instruction, or a sequence */
	unsigned int length;
	unsigned int bits;		/* of the code: 16 and 32 are compatibility mode */
	struct gen_state in;		/* in.rip is where the bytes go, as an offset in CS */
	struct gen_poke poke[2];
	uint64_t flags_undefined;	/* flags not to compare */
	uint32_t gpr_undefined;		/* registers not to compare */
	uint64_t code_base;		/* of CS */
	/* the processor may read memory in any order: only the page of cr2 is known */
	bool pieces;
	bool fxsave;			/* stores an FXSAVE image, at this offset of the data */
	uint32_t image;
	bool partial;			/* a fault leaves some accesses done; the instruction does all again */
};

enum gen_kind {
	GEN_PLAIN,
	GEN_SHIFT,	/* the count decides which flags are defined */
	GEN_ROTATE,
	GEN_SHIFT2,	/* shld, shrd */
	GEN_SCAN,	/* bsf, bsr: no result from zero */
	GEN_BIT,	/* a bit string in memory */
	GEN_DIVIDE,
	GEN_COMPARE,	/* cmpxchg: equal in half of the cases */
	GEN_COMPARE2,	/* cmpxchg8b, cmpxchg16b */
	GEN_STACK,
	GEN_RETURN,
	GEN_POPF,
	GEN_LEAVE,
	GEN_BRANCH,	/* direct */
	GEN_INDIRECT,
	GEN_STRING,
	GEN_XLAT,
	GEN_EXTRACT,	/* bextr, bzhi: a register that holds the place of a bit field */
	GEN_RANDOM,	/* the destination is random */
	GEN_LINE,	/* clzero */
	GEN_FLOAT,	/* operands are mostly floating-point values, MXCSR varies */
	GEN_MASKMOV,
	GEN_BOUND,
	GEN_MMX,
	GEN_X87,	/* the control word varies */
};

enum {
	GEN_B = 1, GEN_W = 2, GEN_D = 4, GEN_Q = 8,
	GEN_BWDQ = 15, GEN_WDQ = 14, GEN_DQ = 12, GEN_WQ = 10, GEN_WD = 6, GEN_BWD = 7,
};

enum { GEN_64 = 1, GEN_32 = 2 /* and 16 */, GEN_BOTH = 3, GEN_16 = 4 };

/*
 * One row. @form lists the operands, separated by commas. Each is a kind and a size:
 *   R register, E register or memory, M memory, A accumulator, C cl, I immediate, 1 the constant one,
 *   X xmm register, W xmm register or memory, P mmx register, Q mmx register or memory, T st(0), S any st,
 *   J branch target;
 *   b w d q o z for 1 2 4 8 16 64 bytes, v for the size of the row, t for 10 bytes,
 *   e f s r for 14 28 94 108 (an x87 environment of 16 and 32 bits, and with the registers), x for 512 (FXSAVE).
 */
struct gen_row {
	ZydisMnemonic mnemonic;
	const char *form;
	uint8_t sizes;			/* of v; 0: none */
	uint8_t kind;			/* enum gen_kind */
	uint8_t modes;
	uint16_t undefined;		/* flags that the architecture leaves undefined */
	ZydisInstructionAttributes prefixes;	/* one of these, or none */
};

struct gen_table {
	const struct gen_row *row;
	size_t count;
};

extern const struct gen_table gen_table_int;
extern const struct gen_table gen_table_sse;
extern const struct gen_table gen_table_mmx;
extern const struct gen_table gen_table_x87;

/* True if the row is for code of this kind. */
static inline bool gen_row_has(const struct gen_row *row, unsigned int bits)
{
	return row->modes & (bits == 64 ? GEN_64 : bits == 32 ? GEN_32 : GEN_32 | GEN_16);
}

/* Bytes of the two read-write and the read-only page before any poke. */
void gen_pattern(uint64_t seed, uint8_t pattern[GEN_DATA_SIZE]);

/*
 * Make case @number of @row with operand size @size for code of @bits, to be placed in code slot @slot.
 * Returns: false if Zydis knows no such encoding.
 */
bool gen_case(uint64_t seed, const struct gen_row *row, unsigned int size, unsigned int bits, unsigned int number,
	      unsigned int slot, struct gen_case *out);

/*
 * Make sequence @number: instructions on registers and on fixed places in memory, which do not fault or branch. Each
 * meets the flags as the ones before left them.
 */
bool gen_sequence(uint64_t seed, unsigned int bits, unsigned int number, unsigned int slot, struct gen_case *out);

#endif

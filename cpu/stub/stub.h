/* SPDX-License-Identifier: MIT */
/*
 * Stubs: a vector instruction of the guest runs as itself. A stub is a few bytes of host code that load the registers
 * that the instruction reads, run that very instruction, and store what it writes. The result is exact in every corner,
 * on every host that has the instruction. (The instructions are cpu/decode/offer.c's to allow: what the host lacks is
 * not in CPUID.)
 */
#ifndef CPU_STUB_STUB_H
#define CPU_STUB_STUB_H

#include "cpu/insn/insn.h"
#include "cpu/stub/masked.h"

/* What has to be enabled, and which exception says that it is not. */
enum stub_unit { UNIT_MMX, UNIT_SSE, UNIT_AVX, UNIT_AVX512 };

/* Constant once it is made. The code follows in the same memory; equal stubs are one. */
struct stub {
	const struct stub *next;  /* of the hash chain */
	uint16_t length;          /* of the code */
	uint8_t unit;             /* enum stub_unit */
	uint8_t flags;            /* STUB_* */
	uint8_t bytes;            /* of the memory operand; 0: none */
	uint8_t align;            /* of the memory operand: anything else is #GP; 1: none needed */
	struct masked masked;     /* which bytes of the memory operand are accessed */
	uint8_t code[];
};
#define STUB_READS  0x01u /* the memory operand */
#define STUB_WRITES 0x02u /* the memory operand */
#define STUB_RFLAGS 0x04u /* the arithmetic flags are a result */
#define STUB_MXCSR  0x08u /* computes with floating point, and may raise its exceptions */
#define STUB_MMX    0x10u /* has an MMX register as an operand */
#define STUB_COPY   0x20u /* runs on a copy of the memory operand only */
#define STUB_SAE    0x40u /* computes with floating point, and raises nothing, not even flags */

#define STUB_MOST 512u /* bytes of a stub, at most */

/**
 * Make the stub of an instruction, or find it. decode/block.c has seen to it that there is room (stubs_have_room).
 * Returns: NULL when the instruction is none for stubs: not a vector instruction, or one with hidden memory operands.
 */
const struct stub *stub_make(struct cpu *cpu, const struct insn *insn);

/**
 * Run it. `memory`: where the host has the memory operand, or its copy; readable, and writable with STUB_WRITES, in
 * stub->bytes. Without a fault, and aligned if stub->align says so. Raises #XM, and then registers are unchanged; the
 * operand is not, so that it must be a copy while stub_may_raise.
 */
void stub_run(struct cpu *cpu, const struct stub *stub, void *memory);

/** #UD or #NM, unless the unit is there and enabled. In the order of the architecture. */
void stub_unit_check(struct cpu *cpu, enum stub_unit unit);

/** An exception of floating point may stop the instruction, since the guest has one unmasked. */
bool stub_may_raise(const struct cpu *cpu, const struct stub *stub);

/**
 * encode.c: the instruction as the host is to run it, in 64-bit mode, without prefixes that have no meaning. Its memory
 * operand is (%rsi). A general register in ModRM.reg, ModRM.rm or VEX.vvvv is RAX, RCX or RDX.
 * Returns: how many bytes were written, 15 at most.
 */
unsigned encode(const struct insn *insn, uint8_t *to);
#define ENCODE_MEMORY 6u /* RSI */
#define ENCODE_REG    0u
#define ENCODE_RM     1u
#define ENCODE_VVVV   2u

#endif

/* SPDX-License-Identifier: MIT */
/* What opcode_case.c, opcode_operand.c and opcode_value.c share: a case while it is being made. */
#ifndef VMMU_CPU_TEST_OPCODE_INT_H
#define VMMU_CPU_TEST_OPCODE_INT_H

#include "gen_build.h"
#include "opcode.h"

struct opcode_build {
	struct build b;		/* random numbers, the case, the mode */
	ZydisDecodedInstruction z;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
	int memory;		/* index of the memory operand, or -1 */
	bool masked;		/* parts of the memory operand may be left out */
	bool gather;		/* or scatter */
};

/* The number of a vector register, or -1; its size in *bytes. */
int opcode_vector(ZydisRegister r, unsigned int *bytes);

/*
 * Make the memory operand point where it should. Writes general registers, vectors that are indexes, and a
 * displacement that stands alone. Returns: false if it cannot be done.
 */
bool opcode_point(struct opcode_build *c);

/* Values of all registers and of memory. The operand has been pointed before. */
void opcode_fill_vectors(struct opcode_build *c);
void opcode_fill_memory(struct opcode_build *c);
void opcode_fill_control(struct opcode_build *c);

#endif

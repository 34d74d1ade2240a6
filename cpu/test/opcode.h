/* SPDX-License-Identifier: MIT */
/*
 * All encodings of the instruction sets under test, found by decoding: nobody has to think of an operand form.
 *
 * A form is what decides which instruction some bytes are: encoding, map, mandatory prefix, vector length, W, opcode,
 * and whether the operand of ModRM is memory. The other fields (registers, addressing, masks, immediates) are free.
 */
#ifndef VMMU_CPU_TEST_OPCODE_H
#define VMMU_CPU_TEST_OPCODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <Zydis/Zydis.h>

enum opcode_space { OPCODE_LEGACY, OPCODE_VEX, OPCODE_EVEX };

#define OPCODE_ANY 8u	/* of a field of ModRM: all values are this instruction */

struct opcode_form {
	ZydisMnemonic mnemonic;
	uint8_t space;		/* enum opcode_space */
	uint8_t map;		/* 0 one byte, 1 0F, 2 0F38, 3 0F3A, ... */
	uint8_t pp;		/* 0 none, 1 66, 2 F3, 3 F2; legacy also 4 66 F3, 5 66 F2 */
	uint8_t l;		/* VEX.L, EVEX.L'L */
	uint8_t b;		/* EVEX.b */
	uint8_t opcode;
	uint8_t reg, rm;	/* of ModRM: a value, or OPCODE_ANY */
	bool w;
	bool memory;
	ZydisISASet set;
};

/* The fields that a form leaves open. */
struct opcode_fields {
	uint8_t segment;	/* a prefix, or 0 */
	bool address_size;	/* prefix 67 */
	bool r, x, b, r2, v2;	/* extensions of register numbers, not inverted; v2 is the fifth bit of vvvv */
	uint8_t vvvv;		/* not inverted: 0 where there is no such operand */
	uint8_t aaa;
	bool z;
	uint8_t mod, reg, rm, sib;
	uint8_t tail[8];	/* displacement and immediate */
};

struct opcode_mnemonic {
	ZydisMnemonic mnemonic;
	uint32_t first, count;	/* forms */
};

/* An instruction set, as Zydis names them. */
struct opcode_set {
	ZydisISASet set;
	uint32_t first, count;	/* mnemonics */
};

struct opcode_list {
	struct opcode_form *form;
	struct opcode_mnemonic *mnemonic;
	struct opcode_set *set;
	size_t forms, mnemonics, sets;
};

/* Find all forms of the sets for which @wanted. Aborts without memory. */
void opcode_list_make(struct opcode_list *list, bool (*wanted)(ZydisISASet set));
void opcode_list_free(struct opcode_list *list);

/*
 * Write the bytes of a form for code of @bits. Returns: their number, immediates and displacement maybe more than the
 * instruction has; 0 if the code cannot have such an encoding.
 */
unsigned int opcode_bytes(const struct opcode_form *form, const struct opcode_fields *fields, unsigned int bits,
                          uint8_t bytes[24]);

#endif

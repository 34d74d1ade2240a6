/* SPDX-License-Identifier: MIT */
/* What the files gen*.c share: a case while it is being made. */
#ifndef VMMU_CPU_TEST_GEN_BUILD_H
#define VMMU_CPU_TEST_GEN_BUILD_H

#include "gen.h"
#include "gen_rand.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };
enum { NO_REG = 32, RIP_REG = 33 };

struct build {
	struct gen_rand rand;
	const struct gen_row *row;
	struct gen_case *c;
	ZydisEncoderRequest req;
	unsigned int size;		/* of v */
	bool mode32;			/* 16- or 32-bit code: eight registers of 32 bits */
	bool mode16;			/* 16-bit code */
	bool in_sequence;		/* memory operands have fixed addresses, and none faults */
	int branch;			/* index of the operand that is a branch target, or -1 */
	unsigned int reg[4];		/* general register of each operand, 20-23 for ah-bh, or NO_REG */
	int memory;			/* index of the memory operand, or -1 */
	unsigned int memory_size;
	unsigned int base, index;	/* general registers, NO_REG or RIP_REG */
	unsigned int address_bytes;
	bool gs;
	uint64_t data_base;		/* of DS, ES and SS */
	uint64_t target;		/* linear address of the memory operand */
	uint64_t immediate;
};

void gen_build_init(struct build *b, struct gen_case *c, unsigned int bits);

/* Where slot @slot is, and what CS must be for it. */
void gen_place(struct build *b, struct gen_case *c, unsigned int slot);

static inline uint64_t gen_segment_base(const struct build *b)
{
	return b->gs ? GEN_GS_BASE : b->data_base;
}

/* The first half: operands and bytes. c->in.rip is where they go. */
bool gen_choose_instruction(struct build *b);

/* Random registers and flags; the undefined flags of the row. */
void gen_fill_registers(struct build *b);

/* The flags that a shift or rotate by @count (already masked) leaves undefined. */
uint64_t gen_shift_undefined(const struct build *b, unsigned int count);

/* The second half: registers and memory for the chosen instruction. Returns: false if this case is of no use. */
bool gen_fill_state(struct build *b);

#endif

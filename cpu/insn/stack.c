/* SPDX-License-Identifier: MIT */
/* PUSH POP PUSHA POPA ENTER LEAVE. RSP moves last, after everything that can fault. */
#include "cpu/insn/insn.h"

#define PUSH(size)                                                                                            \
	static void push##size##_r(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		stack_push(cpu, size, operand_read(cpu, op, 0, size));                                        \
	}                                                                                                     \
	static void push##size##_i(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		stack_push(cpu, size, (uint64_t)op->imm);                                                     \
	}                                                                                                     \
	static void push##size##_m(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		stack_push(cpu, size, operand_load(cpu, op, size));                                           \
	}                                                                                                     \
	static void pop##size##_r(struct cpu *cpu, const struct op *op)                                       \
	{                                                                                                     \
		uint64_t v = stack_pop(cpu, size);                                                            \
                                                                                                              \
		reg_write(cpu, op->reg[0], size, v); /* after RSP: POP RSP */                                 \
	}
PUSH(2)
PUSH(4)
PUSH(8)

/* An address based on RSP uses RSP as it is after the pop. */
INLINE void pop_mem(struct cpu *cpu, const struct op *op, unsigned size)
{
	uint64_t v = stack_peek(cpu, size, 0), linear;

	linear = op_linear_at(cpu, op, op->base == OPR(CPU_RSP) ? size : 0, size, true);
	mem_write(cpu, linear, size, v);
	stack_pointer_set(cpu, cpu->s.gpr[CPU_RSP] + size);
}

static void pop2_m(struct cpu *cpu, const struct op *op) { pop_mem(cpu, op, 2); }
static void pop4_m(struct cpu *cpu, const struct op *op) { pop_mem(cpu, op, 4); }
static void pop8_m(struct cpu *cpu, const struct op *op) { pop_mem(cpu, op, 8); }

static op_fn *const push_forms[3][4] = { BY_SIZE_WIDE(push, _r), BY_SIZE_WIDE(push, _i), BY_SIZE_WIDE(push, _m) };
static op_fn *const pop_forms[2][4] = { BY_SIZE_WIDE(pop, _r), BY_SIZE_WIDE(pop, _m) };

/* ---- PUSHA, POPA --------------------------------------------------------------------------------------------- */

INLINE uint64_t stack_linear(struct cpu *cpu, uint64_t sp, unsigned size, bool write)
{
	return seg_linear(cpu, CPU_SS, sp & stack_mask(cpu), size, write);
}

/* AX CX DX BX, SP before the instruction, BP SI DI. */
INLINE void push_all(struct cpu *cpu, unsigned size)
{
	uint64_t sp = cpu->s.gpr[CPU_RSP];

	for (unsigned i = 0; i < 8; i++)
		mem_check_write(cpu, stack_linear(cpu, sp - (i + 1) * size, size, true), size);
	for (unsigned i = 0; i < 8; i++)
		mem_write(cpu, stack_linear(cpu, sp - (i + 1) * size, size, true), size, cpu->s.gpr[i]);
	stack_pointer_set(cpu, sp - 8 * size);
}

INLINE void pop_all(struct cpu *cpu, unsigned size)
{
	uint64_t v[8];

	for (unsigned i = 0; i < 8; i++)
		v[7 - i] = stack_peek(cpu, size, i * size);
	for (unsigned i = 0; i < 8; i++)
		if (i != CPU_RSP)
			reg_write(cpu, OPR(i), size, v[i]);
	stack_pointer_set(cpu, cpu->s.gpr[CPU_RSP] + 8 * size);
}

static void push_all2(struct cpu *cpu, const struct op *op) { (void)op; push_all(cpu, 2); }
static void push_all4(struct cpu *cpu, const struct op *op) { (void)op; push_all(cpu, 4); }
static void pop_all2(struct cpu *cpu, const struct op *op) { (void)op; pop_all(cpu, 2); }
static void pop_all4(struct cpu *cpu, const struct op *op) { (void)op; pop_all(cpu, 4); }

/* ---- ENTER, LEAVE -------------------------------------------------------------------------------------- */

#define ENTER_LEVELS 32u

/*
 * ENTER pushes rBP. For a nesting level above 0 it then copies level - 1 frame pointers of the outer frame and
 * pushes the new one. It also checks that the new stack top can be written. The two frames may overlap, so reads and
 * writes keep their order. What ENTER wrote before a fault lies below RSP, and it writes it again after the fault.
 */
INLINE void enter(struct cpu *cpu, const struct op *op, unsigned size)
{
	unsigned level = op->imm2 % ENTER_LEVELS;
	uint64_t sp = cpu->s.gpr[CPU_RSP], bp = cpu->s.gpr[CPU_RBP], mask = stack_mask(cpu);
	/* Bits above the width of the stack pointer take no part in the subtraction. */
	uint64_t frame = (sp & ~mask) | ((sp - size) & mask);

	mem_write(cpu, stack_linear(cpu, frame, size, true), size, bp);
	for (unsigned i = 1; i < level; i++) {
		uint64_t outer = mem_read(cpu, stack_linear(cpu, bp - i * size, size, false), size);

		mem_write(cpu, stack_linear(cpu, frame - i * size, size, true), size, outer);
	}
	if (level > 0)
		mem_write(cpu, stack_linear(cpu, frame - level * size, size, true), size, frame);
	sp = frame - level * size - (uint16_t)op->imm;
	mem_check_write(cpu, stack_linear(cpu, sp, size, true), size);
	reg_write(cpu, OPR(CPU_RBP), size, frame);
	stack_pointer_set(cpu, sp);
}

INLINE void leave(struct cpu *cpu, unsigned size)
{
	uint64_t sp = cpu->s.gpr[CPU_RBP], v = mem_read(cpu, stack_linear(cpu, sp, size, false), size);

	stack_pointer_set(cpu, sp + size);
	reg_write(cpu, OPR(CPU_RBP), size, v);
}

#define FRAME(size)                                                                                           \
	static void enter##size(struct cpu *cpu, const struct op *op) { enter(cpu, op, size); }               \
	static void leave##size(struct cpu *cpu, const struct op *op) { (void)op; leave(cpu, size); }
FRAME(2)
FRAME(4)
FRAME(8)
static op_fn *const enter_forms[4] = BY_SIZE_WIDE(enter, );
static op_fn *const leave_forms[4] = BY_SIZE_WIDE(leave, );

op_fn *stack_select(const struct insn *insn, struct op *op)
{
	unsigned n = size_index(op->osize);

	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_PUSH:
		if (insn->o[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
			return push_forms[1][n];
		if (op->mem == 0)
			return push_forms[2][n];
		/* PUSH and POP of segment registers are in sys_segment.c. */
		return ZydisRegisterGetClass(insn->o[0].reg.value) == ZYDIS_REGCLASS_SEGMENT ? NULL : push_forms[0][n];
	case ZYDIS_MNEMONIC_POP:
		if (op->mem == 0)
			return pop_forms[1][n];
		return ZydisRegisterGetClass(insn->o[0].reg.value) == ZYDIS_REGCLASS_SEGMENT ? NULL : pop_forms[0][n];
	case ZYDIS_MNEMONIC_PUSHA: return push_all2;
	case ZYDIS_MNEMONIC_PUSHAD: return push_all4;
	case ZYDIS_MNEMONIC_POPA: return pop_all2;
	case ZYDIS_MNEMONIC_POPAD: return pop_all4;
	case ZYDIS_MNEMONIC_ENTER: return enter_forms[n];
	case ZYDIS_MNEMONIC_LEAVE: return leave_forms[n];
	default: return NULL;
	}
}

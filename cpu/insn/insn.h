/* SPDX-License-Identifier: MIT */
/*
 * What the files of instruction semantics share.
 *
 * A handler is an always_inline body, generic in operation, size and form of the operands. A macro makes each
 * instance in one line. So the choice is made when the instruction is decoded, never when it runs.
 */
#ifndef CPU_INSN_INSN_H
#define CPU_INSN_INSN_H

#include "cpu/base/flags.h"
#include "cpu/base/types.h"
#include "cpu/memory/mem.h"

/** The selectors behind insn_int_select, one in each file. */
op_fn *alu_select(const struct insn *insn, struct op *op);
op_fn *move_select(const struct insn *insn, struct op *op);
op_fn *exchange_select(const struct insn *insn, struct op *op);
op_fn *shift_select(const struct insn *insn, struct op *op);
op_fn *bit_select(const struct insn *insn, struct op *op);
op_fn *bmi_select(const struct insn *insn, struct op *op);
op_fn *muldiv_select(const struct insn *insn, struct op *op);
op_fn *stack_select(const struct insn *insn, struct op *op);
op_fn *string_select(const struct insn *insn, struct op *op);
op_fn *line_select(const struct insn *insn, struct op *op);
op_fn *borrow_select(const struct insn *insn, struct op *op);
op_fn *misc_select(const struct insn *insn, struct op *op);
/** The selectors behind insn_sse_select; fpu/ supplies them. */
op_fn *sse_move_select(const struct insn *insn, struct op *op);
op_fn *sse_integer_select(const struct insn *insn, struct op *op);
op_fn *sse_float_select(const struct insn *insn, struct op *op);
op_fn *sse_convert_select(const struct insn *insn, struct op *op);
op_fn *mmx_select(const struct insn *insn, struct op *op);
op_fn *mmx_convert_select(const struct insn *insn, struct op *op);

/* Where the two operands of an instruction are: R register, M memory, I immediate. L: locked. */
enum form { FORM_RR, FORM_RI, FORM_RM, FORM_MR, FORM_MI, FORM_LMR, FORM_LMI, FORM_COUNT };

static inline enum form form_of(const struct insn *insn, const struct op *op)
{
	bool imm = insn->o[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;

	if (op->mem == 0)
		return op->flags & OPF_LOCK ? (imm ? FORM_LMI : FORM_LMR) : (imm ? FORM_MI : FORM_MR);
	return op->mem == 1 ? FORM_RM : imm ? FORM_RI : FORM_RR;
}

/* 0..3 for 1, 2, 4, 8 bytes: the second index of every table of handlers. 0 when there is no such operand. */
static inline unsigned size_index(unsigned size)
{
	return size ? (unsigned)__builtin_ctz(size) & 3 : 0;
}

/* One row for each size. */
#define BY_SIZE(name, suffix) { name##1##suffix, name##2##suffix, name##4##suffix, name##8##suffix }
#define BY_SIZE_WIDE(name, suffix) { NULL, name##2##suffix, name##4##suffix, name##8##suffix }

INLINE uint64_t size_mask(unsigned size)
{
	return size == 8 ? ~UINT64_C(0) : (UINT64_C(1) << (8 * size)) - 1;
}

INLINE uint64_t size_msb(uint64_t v, unsigned size)
{
	return v >> (8 * size - 1) & 1;
}

/* Operand n, which is a register. */
INLINE uint64_t operand_read(const struct cpu *cpu, const struct op *op, unsigned n, unsigned size)
{
	return reg_read(cpu, op->reg[n], size);
}

/* Read the memory operand. */
INLINE uint64_t operand_load(struct cpu *cpu, const struct op *op, unsigned size)
{
	return mem_read(cpu, op_linear(cpu, op, size, false), size);
}

INLINE void operand_store(struct cpu *cpu, const struct op *op, unsigned size, uint64_t value)
{
	mem_write(cpu, op_linear(cpu, op, size, true), size, value);
}

/* As op_linear, with the effective address moved by `extra` before it wraps. */
INLINE uint64_t op_linear_at(struct cpu *cpu, const struct op *op, uint64_t extra, unsigned size, bool write)
{
	uint64_t ea;

	if (likely(op->flags & OPF_FLAT))
		return op_linear(cpu, op, size, write) + extra;
	ea = op_ea(cpu, op) + extra;
	if (op->asize != 8)
		ea &= op->asize == 4 ? 0xffffffffu : 0xffffu;
	return seg_linear(cpu, op->seg, ea, size, write);
}

/* For shifts and multiplications: CF and OF as given, ZF, SF and PF from `res`, AF clear. */
INLINE void flags_result(struct cpu *cpu, uint64_t res, unsigned size, bool cf, bool of)
{
	cpu->fl_res = flags_extend(res, size);
	cpu->fl_aux = (uint64_t)cf << 63 | (uint64_t)(cf ^ of) << 62;
}

/* For rotates: CF and OF as given, the others kept. */
INLINE void flags_set_cf_of(struct cpu *cpu, bool cf, bool of)
{
	cpu->fl_aux = (cpu->fl_aux & ~(UINT64_C(3) << 62)) | (uint64_t)cf << 63 | (uint64_t)(cf ^ of) << 62;
}

/*
 * Host atomics on guest memory. The address may be misaligned. The host's CPU allows that and the C standard does
 * not, so the alignment check is off. seq_cst: to the guest they are what LOCK is.
 */
#define GUEST_ATOMIC INLINE __attribute__((no_sanitize("alignment")))

GUEST_ATOMIC uint64_t atomic_exchange_sized(void *at, unsigned size, uint64_t v)
{
	switch (size) {
	case 1: return __atomic_exchange_n((reg8 *)at, (uint8_t)v, __ATOMIC_SEQ_CST);
	case 2: return __atomic_exchange_n((reg16 *)at, (uint16_t)v, __ATOMIC_SEQ_CST);
	case 4: return __atomic_exchange_n((reg32 *)at, (uint32_t)v, __ATOMIC_SEQ_CST);
	default: return __atomic_exchange_n((reg64 *)at, v, __ATOMIC_SEQ_CST);
	}
}

GUEST_ATOMIC uint64_t atomic_add_sized(void *at, unsigned size, uint64_t v)
{
	switch (size) {
	case 1: return __atomic_fetch_add((reg8 *)at, (uint8_t)v, __ATOMIC_SEQ_CST);
	case 2: return __atomic_fetch_add((reg16 *)at, (uint16_t)v, __ATOMIC_SEQ_CST);
	case 4: return __atomic_fetch_add((reg32 *)at, (uint32_t)v, __ATOMIC_SEQ_CST);
	default: return __atomic_fetch_add((reg64 *)at, v, __ATOMIC_SEQ_CST);
	}
}

/* Returns: the old value, which is `expect` when the exchange happened. */
GUEST_ATOMIC uint64_t atomic_cas_sized(void *at, unsigned size, uint64_t expect, uint64_t v)
{
	uint8_t e1 = (uint8_t)expect;
	uint16_t e2 = (uint16_t)expect;
	uint32_t e4 = (uint32_t)expect;
	uint64_t e8 = expect;

	switch (size) {
	case 1:
		__atomic_compare_exchange_n((reg8 *)at, &e1, (uint8_t)v, false, __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST);
		return e1;
	case 2:
		__atomic_compare_exchange_n((reg16 *)at, &e2, (uint16_t)v, false, __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST);
		return e2;
	case 4:
		__atomic_compare_exchange_n((reg32 *)at, &e4, (uint32_t)v, false, __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST);
		return e4;
	default:
		__atomic_compare_exchange_n((reg64 *)at, &e8, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		return e8;
	}
}

#endif

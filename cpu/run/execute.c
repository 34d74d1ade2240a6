/* SPDX-License-Identifier: MIT */
/*
 * The loop: computed goto over the ops of a block, and from block to block until something asks for attention.
 *
 * Long because: the labels of a computed goto must share a function. Each label is one instruction form of
 * decode/hot.h, in a line or two.
 *
 * A form that can fault records itself in cpu->op first and changes registers and flags only after its last access.
 */
#include "cpu/base/flags.h"
#include "cpu/base/private.h"
#include "cpu/decode/block.h"
#include "cpu/decode/decode.h"
#include "cpu/decode/hot.h"
#include "cpu/memory/mem.h"
#include "cpu/run/run_int.h"
#include "cpu/translate/translate.h"

/* ---- operands ------------------------------------------------------------------------------------------------- */

#define R(n, size)         reg_read(cpu, op->reg[n], size)
#define R_SET(n, size, v)  reg_write(cpu, op->reg[n], size, v)
#define IMM(size)          ((uint64_t)op->imm)
#define EA                 \
	(reg_read(cpu, op->base, 8) + (reg_read(cpu, op->index, 8) << op->scale) + (uint64_t)op->disp)
#define RSP                (cpu->s.gpr[CPU_RSP])
#define NEXT               do { op++; goto *op->label; } while (0)

/* ---- families of forms --------------------------------------------------------------------------------- */

#define MOV_FORMS(size) \
	MOV_RR##size: R_SET(0, size, R(1, size)); NEXT; \
	MOV_RI##size: R_SET(0, size, IMM(size)); NEXT; \
	MOV_RM##size: cpu->op = op; R_SET(0, size, mem_read(cpu, EA, size)); NEXT; \
	MOV_MR##size: cpu->op = op; mem_write(cpu, EA, size, R(1, size)); NEXT; \
	MOV_MI##size: cpu->op = op; mem_write(cpu, EA, size, IMM(size)); NEXT;

/* a and b in, r and flags out. */
#define DO_ADD(size)  r = a + b; flags_add(cpu, a, b, r, size)
#define DO_SUB(size)  r = a - b; flags_sub(cpu, a, b, r, size)
#define DO_AND(size)  r = a & b; flags_logic(cpu, r, size)
#define DO_OR(size)   r = a | b; flags_logic(cpu, r, size)
#define DO_XOR(size)  r = a ^ b; flags_logic(cpu, r, size)
#define DO_CMP  DO_SUB
#define DO_TEST DO_AND

#define ALU_READ_FORMS(N, size) \
	N##_RR##size: { uint64_t a = R(0, size), b = R(1, size), r; DO_##N(size); R_SET(0, size, r); NEXT; } \
	N##_RI##size: { uint64_t a = R(0, size), b = IMM(size), r; DO_##N(size); R_SET(0, size, r); NEXT; } \
	N##_RM##size: { uint64_t a, b, r; cpu->op = op; b = mem_read(cpu, EA, size); a = R(0, size); \
		DO_##N(size); R_SET(0, size, r); NEXT; }

#define ALU_FORMS(N, size) \
	ALU_READ_FORMS(N, size) \
	N##_MR##size: { struct mem_rmw m; uint64_t a, b, r; cpu->op = op; mem_rmw_begin(cpu, EA, size, &m); \
		a = host_load(m.host, size); b = R(1, size); DO_##N(size); \
		host_store(m.host, size, r); mem_rmw_end(cpu, &m); NEXT; } \
	N##_MI##size: { struct mem_rmw m; uint64_t a, b, r; cpu->op = op; mem_rmw_begin(cpu, EA, size, &m); \
		a = host_load(m.host, size); b = IMM(size); DO_##N(size); \
		host_store(m.host, size, r); mem_rmw_end(cpu, &m); NEXT; }

/* CMP and TEST store nothing. */
#define COMPARE_FORMS(N, size) \
	N##_RR##size: { uint64_t a = R(0, size), b = R(1, size), r; DO_##N(size); NEXT; } \
	N##_RI##size: { uint64_t a = R(0, size), b = IMM(size), r; DO_##N(size); NEXT; } \
	N##_RM##size: { uint64_t a, b, r; cpu->op = op; b = mem_read(cpu, EA, size); a = R(0, size); \
		DO_##N(size); NEXT; } \
	N##_MR##size: { uint64_t a, b, r; cpu->op = op; a = mem_read(cpu, EA, size); b = R(1, size); \
		DO_##N(size); NEXT; } \
	N##_MI##size: { uint64_t a, b, r; cpu->op = op; a = mem_read(cpu, EA, size); b = IMM(size); \
		DO_##N(size); NEXT; }

#define SIZES(F, N) F(N, 1) F(N, 4) F(N, 8)

#define UNARY_FORMS(N, flags, OP, size) \
	N##_R##size: { uint64_t a = R(0, size), r = a OP 1; flags(cpu, a, r, size); R_SET(0, size, r); NEXT; } \
	N##_M##size: { struct mem_rmw m; uint64_t a, r; cpu->op = op; mem_rmw_begin(cpu, EA, size, &m); \
		a = host_load(m.host, size); r = a OP 1; flags(cpu, a, r, size); \
		host_store(m.host, size, r); mem_rmw_end(cpu, &m); NEXT; }

#define EXTEND(from, value) ((uint64_t)(int64_t)(from)(value))

/* The count is 1 .. size * 8 - 1. OF is defined for a count of 1 only; here every count uses that formula. */
INLINE void shift_flags(struct cpu *cpu, uint64_t res, unsigned size, bool cf, bool of)
{
	cpu->fl_res = flags_extend(res, size);
	cpu->fl_aux = (uint64_t)cf << 63 | (uint64_t)(cf ^ of) << 62;
}

#define SHIFT_FORMS(size) \
	SHL_##size: { uint64_t a = R(0, size), r = a << op->imm; bool cf = (a >> (8 * size - op->imm)) & 1; \
		shift_flags(cpu, r, size, cf, ((r >> (8 * size - 1)) & 1) ^ cf); R_SET(0, size, r); NEXT; } \
	SHR_##size: { uint64_t a = R(0, size), r = a >> op->imm; \
		shift_flags(cpu, r, size, (a >> (op->imm - 1)) & 1, (a >> (8 * size - 1)) & 1); \
		R_SET(0, size, r); NEXT; } \
	SAR_##size: { uint64_t a = flags_extend(R(0, size), size), r = (uint64_t)((int64_t)a >> op->imm); \
		shift_flags(cpu, r, size, ((int64_t)a >> (op->imm - 1)) & 1, false); R_SET(0, size, r); NEXT; }

INLINE uint64_t multiply(struct cpu *cpu, uint64_t a, uint64_t b, unsigned size)
{
	uint64_t r;
	bool over;

	if (size == 8) {
		int64_t product;

		over = __builtin_mul_overflow((int64_t)a, (int64_t)b, &product);
		r = (uint64_t)product;
	} else {
		int32_t product;

		over = __builtin_mul_overflow((int32_t)a, (int32_t)b, &product);
		r = (uint32_t)product;
	}
	cpu->fl_res = flags_extend(r, size);
	cpu->fl_aux = (uint64_t)over << 63; /* CF and OF */
	return r;
}

#define IMUL_FORMS(size) \
	IMUL_RR##size: { uint64_t r = multiply(cpu, R(0, size), R(1, size), size); R_SET(0, size, r); NEXT; } \
	IMUL_RM##size: { uint64_t b, r; cpu->op = op; b = mem_read(cpu, EA, size); \
		r = multiply(cpu, R(0, size), b, size); R_SET(0, size, r); NEXT; } \
	IMUL_RRI##size: { uint64_t r = multiply(cpu, R(1, size), IMM(size), size); R_SET(0, size, r); NEXT; }

#define JCC(N, cc) N: if (flags_cond(cpu, cc)) goto branch; NEXT;

/* ---- the loop ------------------------------------------------------------------------------------------ */

/*
 * `start`: an op to begin with, or NULL for the block at s.rip. With cpu NULL, only give out the labels.
 */
static enum leave loop(struct cpu *cpu, const struct op *start, const void *const **labels_out)
{
	static const void *const labels[HOT_COUNT] = {
#define HOT_LABEL(name) [HOT_##name] = &&name,
		HOT_LIST(HOT_LABEL)
#undef HOT_LABEL
	};
	const struct op *op;
	struct block *b;
	uint64_t rip;

	if (cpu == NULL) {
		*labels_out = labels;
		return LEAVE_NONE;
	}
	if (start != NULL) {
		op = start;
		goto *op->label;
	}
	goto lookup;

	/* ---- from block to block ---- */

branch: /* to op->imm: a direct branch is taken, or a block ended */
	b = op->target;
	if (likely(b != NULL && b->gen == cpu->code_gen))
		goto enter;
	cpu->s.rip = (uint64_t)op->imm;
	if (cpu->single)
		return LEAVE_DONE;
	{
		uint64_t epoch = cpu->p->arena_epoch;

		b = block_again(cpu, b);
		if (epoch == cpu->p->arena_epoch)
			((struct op *)(uintptr_t)op)->target = b;
	}
	goto enter;

indirect: /* to rip */
	cpu->s.rip = rip;
lookup: /* to s.rip */
	if (unlikely(cpu->single))
		return LEAVE_DONE;
	b = cpu->p->jump[jump_slot(cpu->s.rip)];
	if (unlikely(b == NULL || b->rip != cpu->s.rip || b->gen != cpu->code_gen || b->mode != cpu->mode))
		b = block_again(cpu, b);
enter:
	if (unlikely(vmmu_entry_must_leave(&cpu->entry))) {
		cpu->s.rip = b->rip;
		return LEAVE_NONE;
	}
	op = b->ops;
	goto *op->label;

END:
	goto branch;

CALL_FN:
	cpu->op = op;
	op->fn(cpu, op);
	NEXT;

CALL_FN_END: /* the handler sets s.rip */
	cpu->op = op;
	op->fn(cpu, op);
	goto lookup;

TRANSLATE: /* the first op of a block that has host code or may get it; that op's own label is in the block */
	{
		const struct op *next = op; /* a variable whose address is taken is in no register: 21 % of the loop */
		const void *to = translate_run(cpu, &next);

		op = next;
		if (to == NULL)
			goto lookup;
		goto *to;
	}

STOP: /* translate/check.c's */
	return LEAVE_NONE;

	/* ---- data ---- */

	MOV_FORMS(1)
	MOV_FORMS(4)
	MOV_FORMS(8)
MOV_RM2: cpu->op = op; R_SET(0, 2, mem_read(cpu, EA, 2)); NEXT;
MOV_MR2: cpu->op = op; mem_write(cpu, EA, 2, R(1, 2)); NEXT;
MOV_MI2: cpu->op = op; mem_write(cpu, EA, 2, IMM(2)); NEXT;

	SIZES(ALU_FORMS, ADD)
	SIZES(ALU_FORMS, SUB)
	SIZES(ALU_FORMS, AND)
	SIZES(ALU_FORMS, OR)
	SIZES(ALU_FORMS, XOR)
	SIZES(COMPARE_FORMS, CMP)
	SIZES(COMPARE_FORMS, TEST)

MOVZX_R1: R_SET(0, 8, R(1, 1)); NEXT;
MOVZX_R2: R_SET(0, 8, R(1, 2)); NEXT;
MOVZX_M1: cpu->op = op; R_SET(0, 8, mem_read(cpu, EA, 1)); NEXT;
MOVZX_M2: cpu->op = op; R_SET(0, 8, mem_read(cpu, EA, 2)); NEXT;
MOVSX4_R1: R_SET(0, 4, EXTEND(int8_t, R(1, 1))); NEXT;
MOVSX4_R2: R_SET(0, 4, EXTEND(int16_t, R(1, 2))); NEXT;
MOVSX4_M1: cpu->op = op; R_SET(0, 4, EXTEND(int8_t, mem_read(cpu, EA, 1))); NEXT;
MOVSX4_M2: cpu->op = op; R_SET(0, 4, EXTEND(int16_t, mem_read(cpu, EA, 2))); NEXT;
MOVSX8_R1: R_SET(0, 8, EXTEND(int8_t, R(1, 1))); NEXT;
MOVSX8_R2: R_SET(0, 8, EXTEND(int16_t, R(1, 2))); NEXT;
MOVSX8_R4: R_SET(0, 8, EXTEND(int32_t, R(1, 4))); NEXT;
MOVSX8_M1: cpu->op = op; R_SET(0, 8, EXTEND(int8_t, mem_read(cpu, EA, 1))); NEXT;
MOVSX8_M2: cpu->op = op; R_SET(0, 8, EXTEND(int16_t, mem_read(cpu, EA, 2))); NEXT;
MOVSX8_M4: cpu->op = op; R_SET(0, 8, EXTEND(int32_t, mem_read(cpu, EA, 4))); NEXT;

LEA4: R_SET(0, 4, EA); NEXT;
LEA8: R_SET(0, 8, EA); NEXT;

	UNARY_FORMS(INC, flags_inc, +, 4)
	UNARY_FORMS(INC, flags_inc, +, 8)
	UNARY_FORMS(DEC, flags_dec, -, 4)
	UNARY_FORMS(DEC, flags_dec, -, 8)
NEG_R4: { uint64_t a = R(0, 4), r = 0 - a; flags_sub(cpu, 0, a, r, 4); R_SET(0, 4, r); NEXT; }
NEG_R8: { uint64_t a = R(0, 8), r = 0 - a; flags_sub(cpu, 0, a, r, 8); R_SET(0, 8, r); NEXT; }
NOT_R4: R_SET(0, 4, ~R(0, 4)); NEXT;
NOT_R8: R_SET(0, 8, ~R(0, 8)); NEXT;

	SHIFT_FORMS(4)
	SHIFT_FORMS(8)
	IMUL_FORMS(4)
	IMUL_FORMS(8)

CMOV_RR4: { uint64_t v = flags_cond(cpu, op->sub) ? R(1, 4) : R(0, 4); R_SET(0, 4, v); NEXT; }
CMOV_RR8: { uint64_t v = flags_cond(cpu, op->sub) ? R(1, 8) : R(0, 8); R_SET(0, 8, v); NEXT; }
SETCC_R: R_SET(0, 1, flags_cond(cpu, op->sub)); NEXT;
SETCC_M: cpu->op = op; mem_write(cpu, EA, 1, flags_cond(cpu, op->sub)); NEXT;
CDQ: { uint64_t v = cpu->s.gpr[CPU_RAX]; cpu->s.gpr[CPU_RDX] = (v >> 31) & 1 ? 0xffffffffu : 0; NEXT; }
CQO: cpu->s.gpr[CPU_RDX] = (uint64_t)((int64_t)cpu->s.gpr[CPU_RAX] >> 63); NEXT;
CDQE: cpu->s.gpr[CPU_RAX] = EXTEND(int32_t, cpu->s.gpr[CPU_RAX]); NEXT;
NOP: NEXT;

	/* ---- stack ---- */

PUSH_R8: cpu->op = op; mem_write(cpu, RSP - 8, 8, R(0, 8)); RSP -= 8; NEXT;
PUSH_I8: cpu->op = op; mem_write(cpu, RSP - 8, 8, IMM(8)); RSP -= 8; NEXT;
POP_R8: { uint64_t v; cpu->op = op; v = mem_read(cpu, RSP, 8); RSP += 8; R_SET(0, 8, v); NEXT; }
LEAVE8: { uint64_t bp = cpu->s.gpr[CPU_RBP], v; cpu->op = op; v = mem_read(cpu, bp, 8); RSP = bp + 8;
	cpu->s.gpr[CPU_RBP] = v; NEXT; }

	/* ---- control ---- */

CALL_REL: cpu->op = op; mem_write(cpu, RSP - 8, 8, op->rip + op->len); RSP -= 8; goto branch;
CALL_R: cpu->op = op; rip = R(0, 8);
	if (unlikely(!canonical(cpu, rip)))
		cpu_gp(cpu);
	mem_write(cpu, RSP - 8, 8, op->rip + op->len); RSP -= 8; goto indirect;
CALL_M: cpu->op = op; rip = mem_read(cpu, EA, 8);
	if (unlikely(!canonical(cpu, rip)))
		cpu_gp(cpu);
	mem_write(cpu, RSP - 8, 8, op->rip + op->len); RSP -= 8; goto indirect;
RET: cpu->op = op; rip = mem_read(cpu, RSP, 8);
	if (unlikely(!canonical(cpu, rip)))
		cpu_gp(cpu);
	RSP += 8; goto indirect;
JMP_REL: goto branch;
JMP_R: rip = R(0, 8);
	if (unlikely(!canonical(cpu, rip))) {
		cpu->op = op;
		cpu_gp(cpu);
	}
	goto indirect;
JMP_M: cpu->op = op; rip = mem_read(cpu, EA, 8);
	if (unlikely(!canonical(cpu, rip)))
		cpu_gp(cpu);
	goto indirect;

	JCC(JO, 0) JCC(JNO, 1) JCC(JB, 2) JCC(JAE, 3) JCC(JE, 4) JCC(JNE, 5) JCC(JBE, 6) JCC(JA, 7)
	JCC(JS, 8) JCC(JNS, 9) JCC(JP, 10) JCC(JNP, 11) JCC(JL, 12) JCC(JGE, 13) JCC(JLE, 14) JCC(JG, 15)
}

/* ---- entering it --------------------------------------------------------------------------------------- */

void op_label_set(struct cpu *cpu, struct op *op, unsigned hot)
{
	if (cpu->p->labels == NULL)
		loop(NULL, NULL, &cpu->p->labels);
	if (hot == HOT_CALL_FN && (op->flags & OPF_END))
		hot = HOT_CALL_FN_END;
	op->label = cpu->p->labels[hot];
}

enum leave execute(struct cpu *cpu)
{
	return loop(cpu, NULL, NULL);
}

enum leave execute_resume(struct cpu *cpu, const struct op *op)
{
	return loop(cpu, op, NULL);
}

void translate_interpret(struct cpu *cpu, const struct op *op)
{
	loop(cpu, op, NULL);
}

enum leave execute_single(struct cpu *cpu)
{
	struct block *b = block_single(cpu);

	cpu->p->runs_alone++;
	return loop(cpu, &b->ops[0], NULL);
}

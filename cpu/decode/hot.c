/* SPDX-License-Identifier: MIT */
/*
 * Which instructions the loop does itself: instruction -> enum hot.
 */
#include "cpu/base/private.h"
#include "cpu/decode/hot.h"

static bool is_reg(const struct insn *insn, unsigned i)
{
	return insn->o[i].type == ZYDIS_OPERAND_TYPE_REGISTER;
}

static bool is_gpr(const struct insn *insn, unsigned i)
{
	ZydisRegisterClass class;

	if (!is_reg(insn, i))
		return false;
	class = ZydisRegisterGetClass(insn->o[i].reg.value);
	return class == ZYDIS_REGCLASS_GPR8 || class == ZYDIS_REGCLASS_GPR16 || class == ZYDIS_REGCLASS_GPR32 ||
	       class == ZYDIS_REGCLASS_GPR64;
}

static bool is_mem(const struct insn *insn, unsigned i)
{
	return insn->o[i].type == ZYDIS_OPERAND_TYPE_MEMORY;
}

static bool is_imm(const struct insn *insn, unsigned i)
{
	return insn->o[i].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
}

/* 0, 1, 2 for 1, 4, 8 bytes; -1 for 2. */
static int size_index(unsigned size)
{
	return size == 1 ? 0 : size == 4 ? 1 : size == 8 ? 2 : -1;
}

static unsigned alu_form(const struct insn *insn, const struct op *op, unsigned first)
{
	int size = size_index(op->size), form;

	if (size < 0)
		return 0;
	if (is_gpr(insn, 0) && is_gpr(insn, 1))
		form = 0;
	else if (is_gpr(insn, 0) && is_imm(insn, 1))
		form = 1;
	else if (is_gpr(insn, 0) && is_mem(insn, 1))
		form = 2;
	else if (is_mem(insn, 0) && is_gpr(insn, 1))
		form = 3;
	else if (is_mem(insn, 0) && is_imm(insn, 1))
		form = 4;
	else
		return 0;
	return first + (unsigned)form * 3 + (unsigned)size;
}

static unsigned mov_form(const struct insn *insn, const struct op *op)
{
	if (op->size == 2) {
		if (is_gpr(insn, 0) && is_mem(insn, 1))
			return HOT_MOV_RM2;
		if (is_mem(insn, 0) && is_gpr(insn, 1))
			return HOT_MOV_MR2;
		return is_mem(insn, 0) && is_imm(insn, 1) ? HOT_MOV_MI2 : 0;
	}
	return alu_form(insn, op, HOT_MOV_RR1);
}

static unsigned extend_form(const struct insn *insn, const struct op *op)
{
	bool mem = is_mem(insn, 1);

	if (op->size < 4)
		return 0;
	if (insn->z->mnemonic == ZYDIS_MNEMONIC_MOVZX) {
		if (op->size2 == 1)
			return mem ? HOT_MOVZX_M1 : HOT_MOVZX_R1;
		return mem ? HOT_MOVZX_M2 : HOT_MOVZX_R2;
	}
	if (op->size == 4) {
		if (op->size2 > 2)
			return 0;
		return (mem ? HOT_MOVSX4_M1 : HOT_MOVSX4_R1) + (op->size2 == 2);
	}
	return (mem ? HOT_MOVSX8_M1 : HOT_MOVSX8_R1) + (op->size2 == 2 ? 1u : op->size2 == 4 ? 2u : 0u);
}

static unsigned unary_form(const struct insn *insn, const struct op *op, unsigned first)
{
	if (op->size != 4 && op->size != 8)
		return 0;
	return first + (is_mem(insn, 0) ? 2u : 0u) + (op->size == 8);
}

static unsigned register_form(const struct insn *insn, const struct op *op, unsigned first)
{
	if (!is_gpr(insn, 0) || (op->size != 4 && op->size != 8))
		return 0;
	return first + (op->size == 8);
}

static unsigned shift_form(const struct insn *insn, struct op *op, unsigned first)
{
	unsigned count = (unsigned)op->imm & (op->size == 8 ? 63 : 31);

	/* A count of 0 changes no flags: the general handler sees to it. */
	if (!is_imm(insn, 1) || count == 0)
		return 0;
	op->imm = count;
	return register_form(insn, op, first);
}

static unsigned imul_form(const struct insn *insn, const struct op *op)
{
	if ((op->size != 4 && op->size != 8) || insn->z->operand_count_visible < 2)
		return 0;
	if (insn->z->operand_count_visible == 3)
		return is_gpr(insn, 1) ? (op->size == 8 ? HOT_IMUL_RRI8 : HOT_IMUL_RRI4) : 0;
	if (is_mem(insn, 1))
		return op->size == 8 ? HOT_IMUL_RM8 : HOT_IMUL_RM4;
	return op->size == 8 ? HOT_IMUL_RR8 : HOT_IMUL_RR4;
}

static unsigned stack_form(const struct insn *insn, const struct op *op)
{
	if (op->osize != 8)
		return 0;
	if (insn->z->mnemonic == ZYDIS_MNEMONIC_POP)
		return is_gpr(insn, 0) ? HOT_POP_R8 : 0;
	if (is_imm(insn, 0))
		return HOT_PUSH_I8;
	return is_gpr(insn, 0) ? HOT_PUSH_R8 : 0;
}

static unsigned branch_form(const struct insn *insn, const struct op *op)
{
	const ZydisDecodedInstruction *z = insn->z;

	if (z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR || op->osize != 8)
		return 0;
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_CALL:
		return is_imm(insn, 0) ? HOT_CALL_REL : is_mem(insn, 0) ? HOT_CALL_M : HOT_CALL_R;
	case ZYDIS_MNEMONIC_JMP:
		return is_imm(insn, 0) ? HOT_JMP_REL : is_mem(insn, 0) ? HOT_JMP_M : HOT_JMP_R;
	default:
		return op->imm == 0 ? HOT_RET : 0;
	}
}

static unsigned branch_or_data(const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_INC: return unary_form(insn, op, HOT_INC_R4);
	case ZYDIS_MNEMONIC_DEC: return unary_form(insn, op, HOT_DEC_R4);
	case ZYDIS_MNEMONIC_NEG: return register_form(insn, op, HOT_NEG_R4);
	case ZYDIS_MNEMONIC_NOT: return register_form(insn, op, HOT_NOT_R4);
	case ZYDIS_MNEMONIC_SHL: return shift_form(insn, op, HOT_SHL_4);
	case ZYDIS_MNEMONIC_SHR: return shift_form(insn, op, HOT_SHR_4);
	case ZYDIS_MNEMONIC_SAR: return shift_form(insn, op, HOT_SAR_4);
	case ZYDIS_MNEMONIC_IMUL: return imul_form(insn, op);
	case ZYDIS_MNEMONIC_PUSH:
	case ZYDIS_MNEMONIC_POP: return stack_form(insn, op);
	case ZYDIS_MNEMONIC_LEAVE: return op->osize == 8 ? HOT_LEAVE8 : 0;
	case ZYDIS_MNEMONIC_CDQ: return HOT_CDQ;
	case ZYDIS_MNEMONIC_CQO: return HOT_CQO;
	case ZYDIS_MNEMONIC_CDQE: return HOT_CDQE;
	case ZYDIS_MNEMONIC_CALL:
	case ZYDIS_MNEMONIC_JMP:
	case ZYDIS_MNEMONIC_RET: return branch_form(insn, op);
	case ZYDIS_MNEMONIC_NOP: return HOT_NOP;
	default: return 0;
	}
}

static unsigned flat_form(const struct insn *insn, struct op *op)
{
	const ZydisDecodedInstruction *z = insn->z;

	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_MOV: return mov_form(insn, op);
	case ZYDIS_MNEMONIC_ADD: return alu_form(insn, op, HOT_ADD_RR1);
	case ZYDIS_MNEMONIC_SUB: return alu_form(insn, op, HOT_SUB_RR1);
	case ZYDIS_MNEMONIC_AND: return alu_form(insn, op, HOT_AND_RR1);
	case ZYDIS_MNEMONIC_OR: return alu_form(insn, op, HOT_OR_RR1);
	case ZYDIS_MNEMONIC_XOR: return alu_form(insn, op, HOT_XOR_RR1);
	case ZYDIS_MNEMONIC_CMP: return alu_form(insn, op, HOT_CMP_RR1);
	case ZYDIS_MNEMONIC_TEST: return alu_form(insn, op, HOT_TEST_RR1);
	case ZYDIS_MNEMONIC_MOVZX:
	case ZYDIS_MNEMONIC_MOVSX:
	case ZYDIS_MNEMONIC_MOVSXD: return extend_form(insn, op);
	case ZYDIS_MNEMONIC_LEA: return op->size == 8 ? HOT_LEA8 : op->size == 4 ? HOT_LEA4 : 0;
	default: break;
	}
	switch (z->meta.category) {
	case ZYDIS_CATEGORY_COND_BR:
		/* JRCXZ and LOOP (E0..E3) have no form. */
		if (z->opcode >= 0xe0 && z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT)
			return 0;
		if (op->osize != 8)
			return 0;
		op->flags &= (uint8_t)~OPF_END; /* when the branch is not taken, the block goes on */
		return HOT_JO + (z->opcode & 15u);
	case ZYDIS_CATEGORY_SETCC:
		return is_mem(insn, 0) ? HOT_SETCC_M : HOT_SETCC_R;
	case ZYDIS_CATEGORY_CMOV:
		return is_gpr(insn, 1) ? register_form(insn, op, HOT_CMOV_RR4) : 0;
	default:
		return branch_or_data(insn, op);
	}
}

unsigned hot_select(const struct insn *insn, struct op *op)
{
	if (insn->bits != 64 || (op->flags & (OPF_LOCK | OPF_REP | OPF_REPNE)))
		return 0;
	if (op->mem != OP_NO_MEM && !(op->flags & OPF_FLAT))
		return 0;
	return flat_form(insn, op);
}

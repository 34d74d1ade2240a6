/* SPDX-License-Identifier: MIT */
/* How each instruction of a block is run, and which arithmetic flags live behind it. */
#include "cpu/translate/translate_int.h"

/* General instructions that run as themselves on the host, and mean the same there. */
static bool means_the_same(const struct source *s, const struct op *op)
{
	switch (s->z.mnemonic) {
	case ZYDIS_MNEMONIC_MOV: /* segment, control and debug registers: can_copy refuses them */
	case ZYDIS_MNEMONIC_MOVZX: case ZYDIS_MNEMONIC_MOVSX: case ZYDIS_MNEMONIC_MOVSXD:
	case ZYDIS_MNEMONIC_ADD: case ZYDIS_MNEMONIC_OR: case ZYDIS_MNEMONIC_ADC: case ZYDIS_MNEMONIC_SBB:
	case ZYDIS_MNEMONIC_AND: case ZYDIS_MNEMONIC_SUB: case ZYDIS_MNEMONIC_XOR: case ZYDIS_MNEMONIC_CMP:
	case ZYDIS_MNEMONIC_TEST: case ZYDIS_MNEMONIC_NOT: case ZYDIS_MNEMONIC_NEG:
	case ZYDIS_MNEMONIC_INC: case ZYDIS_MNEMONIC_DEC:
	case ZYDIS_MNEMONIC_SHL: case ZYDIS_MNEMONIC_SHR: case ZYDIS_MNEMONIC_SAR:
	case ZYDIS_MNEMONIC_ROL: case ZYDIS_MNEMONIC_ROR: case ZYDIS_MNEMONIC_RCL: case ZYDIS_MNEMONIC_RCR:
	case ZYDIS_MNEMONIC_SHLD: case ZYDIS_MNEMONIC_SHRD:
	case ZYDIS_MNEMONIC_IMUL: case ZYDIS_MNEMONIC_MUL: case ZYDIS_MNEMONIC_BSWAP:
	case ZYDIS_MNEMONIC_BSF: case ZYDIS_MNEMONIC_BSR:
	case ZYDIS_MNEMONIC_POPCNT: case ZYDIS_MNEMONIC_LZCNT: case ZYDIS_MNEMONIC_TZCNT: case ZYDIS_MNEMONIC_CRC32:
	case ZYDIS_MNEMONIC_ANDN: case ZYDIS_MNEMONIC_BLSR: case ZYDIS_MNEMONIC_BLSI: case ZYDIS_MNEMONIC_BLSMSK:
	case ZYDIS_MNEMONIC_BEXTR: case ZYDIS_MNEMONIC_BZHI: case ZYDIS_MNEMONIC_PDEP: case ZYDIS_MNEMONIC_PEXT:
	case ZYDIS_MNEMONIC_MULX: case ZYDIS_MNEMONIC_RORX:
	case ZYDIS_MNEMONIC_SARX: case ZYDIS_MNEMONIC_SHLX: case ZYDIS_MNEMONIC_SHRX:
	case ZYDIS_MNEMONIC_ADCX: case ZYDIS_MNEMONIC_ADOX: case ZYDIS_MNEMONIC_MOVBE:
	case ZYDIS_MNEMONIC_XCHG: case ZYDIS_MNEMONIC_XADD: case ZYDIS_MNEMONIC_CMPXCHG: case ZYDIS_MNEMONIC_CMPXCHG8B:
	case ZYDIS_MNEMONIC_CBW: case ZYDIS_MNEMONIC_CWDE: case ZYDIS_MNEMONIC_CDQE:
	case ZYDIS_MNEMONIC_CWD: case ZYDIS_MNEMONIC_CDQ: case ZYDIS_MNEMONIC_CQO:
	case ZYDIS_MNEMONIC_CLC: case ZYDIS_MNEMONIC_STC: case ZYDIS_MNEMONIC_CMC:
	case ZYDIS_MNEMONIC_LAHF: case ZYDIS_MNEMONIC_SAHF: case ZYDIS_MNEMONIC_MFENCE:
		return true;
	case ZYDIS_MNEMONIC_BT: case ZYDIS_MNEMONIC_BTS: case ZYDIS_MNEMONIC_BTR: case ZYDIS_MNEMONIC_BTC:
		/* With a bit number in a register, memory is a string of bits. */
		return op->mem == OP_NO_MEM || s->o[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
	case ZYDIS_MNEMONIC_LEA:
		return op->size >= 4;
	default:
		return s->z.meta.category == ZYDIS_CATEGORY_SETCC || s->z.meta.category == ZYDIS_CATEGORY_CMOV;
	}
}

/*
 * Instructions on XMM registers that run as themselves. Not those that store past the caches: guest memory is the
 * host's write-back memory, and the library's own accesses to it are not ordered with such stores.
 */
static bool is_vector(const struct source *s)
{
	if (s->z.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY || !has_xmm(s))
		return false;
	switch (s->z.mnemonic) {
	case ZYDIS_MNEMONIC_MOVNTDQ: case ZYDIS_MNEMONIC_MOVNTPS: case ZYDIS_MNEMONIC_MOVNTPD:
	case ZYDIS_MNEMONIC_MOVNTDQA: case ZYDIS_MNEMONIC_MOVNTSS: case ZYDIS_MNEMONIC_MOVNTSD:
		return false;
	default:
		break;
	}
	switch (s->z.meta.isa_set) {
	case ZYDIS_ISA_SET_SSE: case ZYDIS_ISA_SET_SSE2: case ZYDIS_ISA_SET_SSE3: case ZYDIS_ISA_SET_SSSE3:
	case ZYDIS_ISA_SET_SSE4: case ZYDIS_ISA_SET_SSE42: case ZYDIS_ISA_SET_AES: case ZYDIS_ISA_SET_PCLMULQDQ:
	case ZYDIS_ISA_SET_SHA: case ZYDIS_ISA_SET_GFNI:
		return true;
	default:
		return false;
	}
}

static bool is_gpr_operand(const struct source *s)
{
	return s->o[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       ZydisRegisterGetClass(s->o[0].reg.value) == ZYDIS_REGCLASS_GPR64;
}

static bool is_near(const struct source *s, const struct op *op)
{
	return s->z.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR && op->osize == 8;
}

static enum how choose_stack(const struct source *s, const struct op *op)
{
	if (op->osize != 8)
		return HOW_CALL;
	if (s->z.mnemonic == ZYDIS_MNEMONIC_LEAVE)
		return HOW_LEAVE_FRAME;
	if (s->z.mnemonic == ZYDIS_MNEMONIC_POP)
		return is_gpr_operand(s) ? HOW_POP : HOW_CALL;
	return is_gpr_operand(s) || s->o[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ||
	       (op->mem == 0 && s->o[0].size == 64) ? HOW_PUSH : HOW_CALL;
}

static enum how choose_other(const struct source *s, const struct op *op)
{
	switch (s->z.mnemonic) {
	case ZYDIS_MNEMONIC_NOP: case ZYDIS_MNEMONIC_ENDBR64: case ZYDIS_MNEMONIC_ENDBR32:
	case ZYDIS_MNEMONIC_LFENCE: case ZYDIS_MNEMONIC_SFENCE:
	case ZYDIS_MNEMONIC_PREFETCH: case ZYDIS_MNEMONIC_PREFETCHW: case ZYDIS_MNEMONIC_PREFETCHNTA:
	case ZYDIS_MNEMONIC_PREFETCHT0: case ZYDIS_MNEMONIC_PREFETCHT1: case ZYDIS_MNEMONIC_PREFETCHT2:
		return HOW_NOTHING;
	case ZYDIS_MNEMONIC_PUSH: case ZYDIS_MNEMONIC_POP: case ZYDIS_MNEMONIC_LEAVE:
		return choose_stack(s, op);
	case ZYDIS_MNEMONIC_DIV:
		return op->size >= 4 ? HOW_DIV : HOW_CALL;
	case ZYDIS_MNEMONIC_IDIV:
		return op->size >= 4 ? HOW_IDIV : HOW_CALL;
	default:
		return HOW_CALL;
	}
}

static enum how choose_end(const struct source *s, const struct op *op)
{
	switch (s->z.mnemonic) {
	case ZYDIS_MNEMONIC_CALL: return is_near(s, op) ? HOW_CALL_NEAR : HOW_LEAVE;
	case ZYDIS_MNEMONIC_RET: return is_near(s, op) ? HOW_RET : HOW_LEAVE;
	case ZYDIS_MNEMONIC_JMP: return is_near(s, op) ? HOW_JMP : HOW_LEAVE;
	default: return HOW_LEAVE;
	}
}

static enum how choose_one(const struct source *s, const struct op *op)
{
	enum how how;

	if (op->fn == op_undefined)
		return HOW_LEAVE;
	if (op->flags & OPF_END)
		how = choose_end(s, op);
	else if (s->z.meta.category == ZYDIS_CATEGORY_COND_BR)
		how = HOW_JCC; /* the others end a block */
	else if ((op->flags & (OPF_REP | OPF_REPNE)) && s->z.mnemonic != ZYDIS_MNEMONIC_NOP &&
	         s->z.mnemonic != ZYDIS_MNEMONIC_ENDBR64)
		how = HOW_CALL;
	else if (is_x87(s, op))
		how = HOW_X87;
	else if (means_the_same(s, op) && can_copy(s))
		how = HOW_COPY;
	else if (is_vector(s) && can_copy(s))
		how = HOW_VECTOR;
	else
		how = choose_other(s, op);
	if (how == HOW_CALL && translate_engine() == CPU_ENGINE_CHECK)
		how = HOW_LEAVE; /* handlers have effects that cannot be undone */
	return how;
}

/* ---- flags ------------------------------------------------------------------------------------------------------- */

static bool count_is_variable(const struct source *s, const struct op *op)
{
	unsigned last;

	switch (s->z.mnemonic) {
	case ZYDIS_MNEMONIC_SHL: case ZYDIS_MNEMONIC_SHR: case ZYDIS_MNEMONIC_SAR:
	case ZYDIS_MNEMONIC_ROL: case ZYDIS_MNEMONIC_ROR: case ZYDIS_MNEMONIC_RCL: case ZYDIS_MNEMONIC_RCR:
		last = 1;
		break;
	case ZYDIS_MNEMONIC_SHLD: case ZYDIS_MNEMONIC_SHRD:
		last = 2;
		break;
	default:
		return false;
	}
	/* A count of 0 changes no flag. */
	return s->o[last].type != ZYDIS_OPERAND_TYPE_IMMEDIATE ||
	       (s->o[last].imm.value.u & (op->size == 8 ? 63 : 31)) == 0;
}

static void flags_of(struct source *s, const struct op *op)
{
	const ZydisAccessedFlags *f = s->z.cpu_flags;
	uint16_t tested = 0, written = 0;

	if (f != NULL) {
		tested = (uint16_t)f->tested & ARITH;
		written = (uint16_t)(f->modified | f->set_0 | f->set_1 | f->undefined) & ARITH;
	}
	s->changes = written != 0;
	s->reads = tested;
	s->writes = count_is_variable(s, op) ? 0 : written;
	switch ((enum how)s->how) {
	case HOW_CALL:
		/* A handler finds all of them, and a string instruction may do nothing. */
		s->reads = ARITH;
		s->writes = 0;
		break;
	case HOW_LEAVE: case HOW_CALL_NEAR: case HOW_RET: case HOW_JMP: case HOW_JCC:
		s->reads = ARITH; /* of whatever comes next */
		s->writes = 0;
		s->changes = false;
		break;
	default:
		break;
	}
}

void choose(struct translation *tr)
{
	struct block *b = tr->block;
	uint16_t live = ARITH;

	for (unsigned i = 0; i < b->ops_count; i++) {
		struct source *s = &tr->source[i];

		s->how = (uint8_t)choose_one(s, &b->ops[i]);
		flags_of(s, &b->ops[i]);
	}
	for (unsigned i = b->ops_count; i-- > 0;) {
		struct source *s = &tr->source[i];

		s->live = translate_tuning()->exact ? ARITH : live;
		live = (uint16_t)((live & ~s->writes) | s->reads);
	}
	tr->live = translate_tuning()->exact ? ARITH : live;
}

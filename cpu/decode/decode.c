/* SPDX-License-Identifier: MIT */
/*
 * Bytes -> struct op, by way of Zydis. Runs once per instruction of a block.
 */
#include <string.h>

#include "cpu/base/private.h"
#include "cpu/decode/decode.h"
#include "cpu/decode/hot.h"

/* ---- handlers of what is no instruction ---------------------------------------------------------------------- */

static void op_too_long(struct cpu *cpu, const struct op *op)
{
	(void)op;
	cpu_gp(cpu);
}

static void op_unimplemented(struct cpu *cpu, const struct op *op)
{
	(void)op;
	cpu_unimplemented(cpu);
}

/* ---- operands -------------------------------------------------------------------------------------------------- */

static uint8_t gpr_offset(ZydisRegister r)
{
	if (r >= ZYDIS_REGISTER_AL && r <= ZYDIS_REGISTER_R15B) {
		unsigned n = r - ZYDIS_REGISTER_AL;

		/* AL CL DL BL, AH CH DH BH, SPL BPL SIL DIL, R8B ... */
		if (n >= 4 && n < 8)
			return (uint8_t)OPR_AH(n - 4);
		return (uint8_t)OPR(n < 4 ? n : n - 4);
	}
	if (r >= ZYDIS_REGISTER_AX && r <= ZYDIS_REGISTER_R15W)
		return (uint8_t)OPR(r - ZYDIS_REGISTER_AX);
	if (r >= ZYDIS_REGISTER_EAX && r <= ZYDIS_REGISTER_R15D)
		return (uint8_t)OPR(r - ZYDIS_REGISTER_EAX);
	if (r >= ZYDIS_REGISTER_RAX && r <= ZYDIS_REGISTER_R15)
		return (uint8_t)OPR(r - ZYDIS_REGISTER_RAX);
	return OPR_ZERO;
}

static uint8_t register_number(ZydisRegister r)
{
	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_GPR8: case ZYDIS_REGCLASS_GPR16: case ZYDIS_REGCLASS_GPR32: case ZYDIS_REGCLASS_GPR64:
		return gpr_offset(r);
	case ZYDIS_REGCLASS_SEGMENT:
		return (uint8_t)(r - ZYDIS_REGISTER_ES); /* ES CS SS DS FS GS, as encoded */
	case ZYDIS_REGCLASS_CONTROL:
		return (uint8_t)(r - ZYDIS_REGISTER_CR0);
	case ZYDIS_REGCLASS_DEBUG:
		return (uint8_t)(r - ZYDIS_REGISTER_DR0);
	case ZYDIS_REGCLASS_XMM:
		return (uint8_t)(r - ZYDIS_REGISTER_XMM0);
	case ZYDIS_REGCLASS_MMX:
		return (uint8_t)(r - ZYDIS_REGISTER_MM0);
	case ZYDIS_REGCLASS_X87:
		return (uint8_t)(r - ZYDIS_REGISTER_ST0);
	default:
		return 0;
	}
}

static uint8_t segment_number(ZydisRegister r)
{
	if (r >= ZYDIS_REGISTER_ES && r <= ZYDIS_REGISTER_GS)
		return (uint8_t)(r - ZYDIS_REGISTER_ES);
	return CPU_DS;
}

/*
 * A SIB byte that names no base: its displacement stands alone, whatever REX.B is. Zydis 4.0 takes it for R13 when the
 * address has 32 bits, and forgets the displacement.
 */
static bool has_no_base(const ZydisDecodedInstruction *z)
{
	return (z->attributes & ZYDIS_ATTRIB_HAS_SIB) && z->raw.modrm.mod == 0 && z->raw.sib.base == 5;
}

/* Returns: RELATIVE_*. */
static unsigned decode_memory(const struct insn *insn, const ZydisDecodedOperand *o, struct op *op)
{
	static const uint8_t shift[] = { 0, 0, 1, 0, 2, 0, 0, 0, 3 };
	unsigned relative = 0;

	op->seg = segment_number(o->mem.segment);
	op->disp = o->mem.disp.value;
	op->scale = shift[o->mem.scale & 15];
	op->index = gpr_offset(o->mem.index);
	if (o->mem.base == ZYDIS_REGISTER_RIP || o->mem.base == ZYDIS_REGISTER_EIP) {
		op->disp += (int64_t)(op->rip + insn->z->length);
		relative = RELATIVE_DISP;
		if (o->mem.base == ZYDIS_REGISTER_EIP)
			op->disp = (uint32_t)op->disp;
	} else if (has_no_base(insn->z)) {
		op->disp = insn->z->raw.disp.value;
	} else {
		op->base = gpr_offset(o->mem.base);
	}
	if (insn->bits == 64 && op->asize == 8 && op->seg != CPU_FS && op->seg != CPU_GS)
		op->flags |= OPF_FLAT;
	return relative;
}

static uint64_t branch_target(const struct insn *insn, const ZydisDecodedOperand *o, const struct op *op)
{
	uint64_t target = op->rip + insn->z->length + o->imm.value.u;

	if (insn->bits == 64)
		return target;
	return op->osize == 2 ? (uint16_t)target : (uint32_t)target;
}

/* Returns: RELATIVE_*. */
static unsigned decode_operand(const struct insn *insn, unsigned i, struct op *op)
{
	const ZydisDecodedOperand *o = &insn->o[i];

	switch (o->type) {
	case ZYDIS_OPERAND_TYPE_REGISTER:
		if (i < 3)
			op->reg[i] = register_number(o->reg.value);
		break;
	case ZYDIS_OPERAND_TYPE_MEMORY:
		if (o->visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN && op->mem == OP_NO_MEM) {
			op->mem = (uint8_t)i;
			return decode_memory(insn, o, op);
		}
		if (o->mem.segment != ZYDIS_REGISTER_SS)
			op->flags |= OPF_HIDDEN;
		if (gpr_offset(o->mem.base) == OPR(CPU_RSI) || gpr_offset(o->mem.base) == OPR(CPU_RBX)) {
			op->seg = segment_number(o->mem.segment); /* strings, XLAT */
		}
		break;
	case ZYDIS_OPERAND_TYPE_IMMEDIATE:
		if (o->encoding == ZYDIS_OPERAND_ENCODING_UIMM8 && i > 0 &&
		    insn->o[i - 1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
			op->imm2 = (uint8_t)o->imm.value.u;
		} else if (o->imm.is_relative) {
			op->imm = (int64_t)branch_target(insn, o, op);
			return RELATIVE_IMM;
		} else {
			op->imm = o->imm.value.s;
		}
		break;
	case ZYDIS_OPERAND_TYPE_POINTER:
		op->imm = (int64_t)(o->ptr.offset | (uint64_t)o->ptr.segment << 32);
		break;
	default:
		break;
	}
	return 0;
}

static uint8_t operand_bytes(const struct insn *insn, unsigned i)
{
	unsigned bytes = i < insn->z->operand_count ? insn->o[i].size / 8 : 0;

	return bytes > 255 ? 255 : (uint8_t)bytes;
}

/* Returns: RELATIVE_*. */
static unsigned decode_operands(const struct insn *insn, struct op *op)
{
	const ZydisDecodedInstruction *z = insn->z;
	unsigned relative = 0;

	op->asize = z->address_width / 8;
	op->osize = z->operand_width / 8;
	op->size = operand_bytes(insn, 0);
	op->size2 = operand_bytes(insn, 1);
	op->sub = z->opcode & 15;
	if (z->attributes & ZYDIS_ATTRIB_HAS_LOCK)
		op->flags |= OPF_LOCK;
	if (z->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE))
		op->flags |= OPF_REP;
	if (z->attributes & ZYDIS_ATTRIB_HAS_REPNE)
		op->flags |= OPF_REPNE;
	if (insn->bits == 64)
		op->flags |= OPF_LONG;
	for (unsigned i = 0; i < z->operand_count; i++)
		relative |= decode_operand(insn, i, op);
	return relative;
}

/* ---- the instruction ----------------------------------------------------------------------------------- */

static op_fn *select_handler(struct cpu *cpu, const struct insn *insn, struct op *op)
{
	op_fn *fn;

	if (!instruction_is_offered(insn->z)) {
		op->flags |= OPF_END;
		return op_undefined;
	}
	fn = sys_select(insn, op);
	if (fn == NULL)
		fn = fpu_select(insn, op);
	if (fn == NULL)
		fn = insn_int_select(insn, op);
	if (fn == NULL)
		fn = insn_sse_select(insn, op);
	if (fn == NULL)
		fn = vector_select(cpu, insn, op);
	return fn != NULL ? fn : op_unimplemented;
}

static void op_clear(struct op *op, uint64_t rip)
{
	*op = (struct op){ .rip = rip, .mem = OP_NO_MEM, .seg = CPU_DS };
}

/* How many bytes show that there is no instruction here: a change of any of them may make one. */
static unsigned failed_length(const ZydisDecoder *decoder, const uint8_t *bytes, unsigned available)
{
	ZydisDecodedInstruction z;
	unsigned length = 1;

	while (length < available &&
	       ZydisDecoderDecodeInstruction(decoder, NULL, bytes, length, &z) == ZYDIS_STATUS_NO_MORE_DATA)
		length++;
	return length;
}

static enum decoded decode_failed(struct cpu *cpu, ZyanStatus status, const uint8_t *bytes, unsigned available,
                                  struct op *op)
{
	if (status == ZYDIS_STATUS_NO_MORE_DATA && available < 15)
		return DECODED_MORE;
	op->fn = status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG || status == ZYDIS_STATUS_NO_MORE_DATA ? op_too_long
	                                                                                             : op_undefined;
	op->len = (uint8_t)failed_length(&cpu->p->decoder[cpu->mode & MODE_BITS], bytes, available);
	op->flags |= OPF_END;
	op_label_set(cpu, op, 0);
	return DECODED_END;
}

/*
 * AMD's way to CR8 for code without REX prefixes: LOCK MOV from or to CR0. Zydis refuses the LOCK, so decode the
 * instruction with a prefix in its place that has no meaning here.
 */
static ZyanStatus decode_locked_cr8(const ZydisDecoder *decoder, const uint8_t *bytes, unsigned available,
                                    ZydisDecodedInstruction *z, ZydisDecodedOperand *operands)
{
	uint8_t unlocked[15], *lock;
	ZyanStatus status;

	memcpy(unlocked, bytes, available);
	lock = memchr(unlocked, 0xf0, available); /* the prefix: no other stands before it */
	*lock = 0x3e;
	status = ZydisDecoderDecodeFull(decoder, unlocked, available, z, operands);
	if (!ZYAN_SUCCESS(status))
		return status;
	if (z->opcode_map != ZYDIS_OPCODE_MAP_0F || (z->opcode != 0x20 && z->opcode != 0x22))
		return ZYDIS_STATUS_ILLEGAL_LOCK;
	for (unsigned i = 0; i < 2; i++)
		if (operands[i].reg.value == ZYDIS_REGISTER_CR0)
			operands[i].reg.value = ZYDIS_REGISTER_CR8;
		else if (ZydisRegisterGetClass(operands[i].reg.value) == ZYDIS_REGCLASS_CONTROL)
			return ZYDIS_STATUS_ILLEGAL_LOCK;
	return status;
}

/* In real and virtual-8086 mode, these prefixes are instructions with operands that they cannot have. */
static bool needs_protected_mode(const ZydisDecodedInstruction *z)
{
	return z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX || z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX ||
	       z->encoding == ZYDIS_INSTRUCTION_ENCODING_XOP;
}

enum decoded decode(struct cpu *cpu, const uint8_t *bytes, unsigned available, uint64_t rip, struct op *op,
                    unsigned *relative)
{
	static const uint8_t widths[] = { 16, 32, 64, 64 };
	unsigned mode = cpu->mode & MODE_BITS, hot;
	ZydisDecodedInstruction z;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecoderContext context;
	struct insn insn = { &z, operands, widths[mode], bytes };
	ZyanStatus status;

	op_clear(op, rip);
	*relative = 0;
	if (available > 15)
		available = 15;
	status = ZydisDecoderDecodeInstruction(&cpu->p->decoder[mode], &context, bytes, available, &z);
	if (status == ZYDIS_STATUS_ILLEGAL_LOCK)
		status = decode_locked_cr8(&cpu->p->decoder[mode], bytes, available, &z, operands);
	else if (ZYAN_SUCCESS(status))
		status = ZydisDecoderDecodeOperands(&cpu->p->decoder[mode], &context, &z, operands, z.operand_count);
	if (!ZYAN_SUCCESS(status))
		return decode_failed(cpu, status, bytes, available, op);
	op->len = z.length;
	*relative = decode_operands(&insn, op);
	if (needs_protected_mode(&z) && !(cpu->mode & MODE_PROT)) {
		op->fn = op_undefined;
		op->flags |= OPF_END;
	} else {
		op->fn = select_handler(cpu, &insn, op);
	}
	hot = hot_select(&insn, op);
	op_label_set(cpu, op, hot);
	return op->flags & OPF_END ? DECODED_END : DECODED_OK;
}

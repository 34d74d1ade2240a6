/* SPDX-License-Identifier: MIT */
/*
 * An instruction of the guest, copied: prefixes, opcode and immediate stay, registers become those that hold the
 * guest's, and a memory operand becomes (%r14). A register that is in s.gpr is loaded into a temporary before the
 * instruction, and stored behind it.
 */
#include <string.h>

#include "cpu/translate/translate_int.h"

#define READS  (ZYDIS_OPERAND_ACTION_MASK_READ)
#define WRITES (ZYDIS_OPERAND_ACTION_MASK_WRITE)

unsigned guest_register(struct translation *tr, unsigned gpr, unsigned temp)
{
	if (host_of(gpr) != SPILLED)
		return host_of(gpr);
	emit_load(&tr->e, temp, H_STATE, STATE(OPR(gpr)));
	return temp;
}

void guest_register_set(struct translation *tr, unsigned gpr, unsigned from)
{
	if (host_of(gpr) != SPILLED)
		emit_mov(&tr->e, host_of(gpr), from);
	else
		emit_store(&tr->e, H_STATE, STATE(OPR(gpr)), from);
}

/* ---- which registers --------------------------------------------------------------------------------------------- */

/* The number of a general register of any size, or -1. */
static int gpr_of(const ZydisDecodedOperand *o)
{
	if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
		return -1;
	switch (ZydisRegisterGetClass(o->reg.value)) {
	case ZYDIS_REGCLASS_GPR8:
		if (o->reg.value >= ZYDIS_REGISTER_AH && o->reg.value <= ZYDIS_REGISTER_BH)
			return o->reg.value - ZYDIS_REGISTER_AH;
		return o->reg.value < ZYDIS_REGISTER_AH ? o->reg.value - ZYDIS_REGISTER_AL
		                                        : o->reg.value - ZYDIS_REGISTER_SPL + 4;
	case ZYDIS_REGCLASS_GPR16: return o->reg.value - ZYDIS_REGISTER_AX;
	case ZYDIS_REGCLASS_GPR32: return o->reg.value - ZYDIS_REGISTER_EAX;
	case ZYDIS_REGCLASS_GPR64: return o->reg.value - ZYDIS_REGISTER_RAX;
	default: return -1;
	}
}

static bool is_xmm(const ZydisDecodedOperand *o)
{
	return o->type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_XMM;
}

bool has_xmm(const struct source *s)
{
	for (unsigned i = 0; i < s->z.operand_count; i++)
		if (is_xmm(&s->o[i]))
			return true;
	return false;
}

static bool is_high_byte(const ZydisDecodedOperand *o)
{
	return o->type == ZYDIS_OPERAND_TYPE_REGISTER && o->reg.value >= ZYDIS_REGISTER_AH &&
	       o->reg.value <= ZYDIS_REGISTER_BH;
}

/* Does the encoding name the register? Others are implied. */
static bool is_named(const ZydisDecodedOperand *o)
{
	return o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG || o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM ||
	       o->encoding == ZYDIS_OPERAND_ENCODING_OPCODE || o->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD;
}

static bool has_memory(const struct source *s)
{
	for (unsigned i = 0; i < s->z.operand_count; i++)
		if (s->o[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			return true;
	return false;
}

/* A register that has no host register, or one whose high byte is named, limits what the rest can be. */
static bool registers_fit(const struct source *s)
{
	unsigned spilled = 0, temporaries = has_memory(s) ? 2 : 3;
	bool high = false, extended = has_memory(s) || (s->z.attributes & ZYDIS_ATTRIB_HAS_REX);
	uint32_t seen = 0;

	for (unsigned i = 0; i < s->z.operand_count; i++) {
		int n = gpr_of(&s->o[i]);

		if (n < 0)
			continue;
		high |= is_high_byte(&s->o[i]);
		if (!is_named(&s->o[i]) && host_of((unsigned)n) != (unsigned)n)
			return false;
		extended |= host_of((unsigned)n) >= 8;
		if (host_of((unsigned)n) == SPILLED && !(seen >> n & 1))
			spilled++;
		seen |= 1u << n;
	}
	return spilled <= temporaries && !(high && extended);
}

bool can_copy(const struct source *s)
{
	const ZydisDecodedInstruction *z = &s->z;

	if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY && z->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX)
		return false;
	if (z->opcode_map > ZYDIS_OPCODE_MAP_0F3A)
		return false;
	for (unsigned i = 0; i < z->operand_count; i++) {
		const ZydisDecodedOperand *o = &s->o[i];

		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && o->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM)
			return false;
		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && gpr_of(o) < 0 && !is_xmm(o) &&
		    ZydisRegisterGetClass(o->reg.value) != ZYDIS_REGCLASS_FLAGS)
			return false;
	}
	return registers_fit(s);
}

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

/* What the instruction is to have in its fields. */
struct fields {
	unsigned reg, rm, vvvv;
	bool memory, opcode_register;
};

static void put_prefixes(struct emit *e, const ZydisDecodedInstruction *z)
{
	if (z->attributes & ZYDIS_ATTRIB_HAS_LOCK)
		EMIT(e, 0xf0);
	for (unsigned i = 0; i < z->raw.prefix_count; i++) {
		uint8_t value = z->raw.prefixes[i].value;

		if (z->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY ||
		    (z->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_EFFECTIVE && value == 0x66))
			EMIT(e, value);
	}
}

static void put_legacy(struct emit *e, const ZydisDecodedInstruction *z, const struct fields *f)
{
	uint8_t rex = (uint8_t)(z->raw.rex.W << 3 | f->reg >> 3 << 2 | f->rm >> 3);

	put_prefixes(e, z);
	if (rex != 0 || (z->attributes & ZYDIS_ATTRIB_HAS_REX))
		EMIT(e, 0x40 | rex);
	if (z->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
		EMIT(e, 0x0f);
	if (z->opcode_map == ZYDIS_OPCODE_MAP_0F38)
		EMIT(e, 0x38);
	if (z->opcode_map == ZYDIS_OPCODE_MAP_0F3A)
		EMIT(e, 0x3a);
	EMIT(e, (uint8_t)(f->opcode_register ? (z->opcode & 0xf8) | (f->rm & 7) : z->opcode));
}

/* R, X, B and vvvv are stored inverted. */
static void put_vex(struct emit *e, const ZydisDecodedInstruction *z, const struct fields *f)
{
	EMIT(e, 0xc4, (uint8_t)((f->reg >> 3 ? 0 : 0x80) | 0x40 | (f->rm >> 3 ? 0 : 0x20) | z->raw.vex.m_mmmm),
	     (uint8_t)(z->raw.vex.W << 7 | (~f->vvvv & 15) << 3 | z->raw.vex.L << 2 | z->raw.vex.pp), z->opcode);
}

static void put_instruction(struct emit *e, const struct source *s, const struct fields *f)
{
	const ZydisDecodedInstruction *z = &s->z;

	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
		put_vex(e, z, f);
	else
		put_legacy(e, z, f);
	if (z->attributes & ZYDIS_ATTRIB_HAS_MODRM)
		EMIT(e, (uint8_t)((f->memory ? 0 : 0xc0) | (f->reg & 7) << 3 | (f->rm & 7)));
	if (z->raw.imm[0].size != 0)
		emit_bytes(e, s->bytes + z->raw.imm[0].offset, z->length - z->raw.imm[0].offset);
}

/* ---- with its registers ------------------------------------------------------------------------------------------ */

/* Is the whole register written, whatever it was? */
static bool only_written(const struct source *s, const ZydisDecodedOperand *o)
{
	switch (s->z.mnemonic) {
	case ZYDIS_MNEMONIC_MOV: case ZYDIS_MNEMONIC_MOVZX: case ZYDIS_MNEMONIC_MOVSX: case ZYDIS_MNEMONIC_MOVSXD:
		return !(o->actions & READS) && o->size >= 32;
	default:
		return false;
	}
}

/* Temporaries that hold registers of the guest while one instruction runs. */
struct borrowed {
	unsigned gpr[3], host[3], count;
	bool loaded[3], store[3];
	unsigned free[3];
};

static unsigned borrow(struct translation *tr, const struct source *s, const ZydisDecodedOperand *o, unsigned gpr,
                       struct borrowed *b)
{
	unsigned i = 0;

	if (host_of(gpr) != SPILLED)
		return host_of(gpr);
	while (i < b->count && b->gpr[i] != gpr)
		i++;
	if (i == b->count) {
		b->gpr[i] = gpr;
		b->host[i] = b->free[i];
		b->count++;
	}
	if (!b->loaded[i] && !only_written(s, o)) {
		b->loaded[i] = true;
		emit_load(&tr->e, b->host[i], H_STATE, STATE(OPR(gpr)));
	}
	b->store[i] |= (o->actions & WRITES) != 0;
	return b->host[i];
}

void copy_instruction(struct translation *tr, unsigned number)
{
	const struct source *s = &tr->source[number];
	struct fields f = { .reg = s->z.raw.modrm.reg, .rm = s->z.raw.modrm.rm };
	struct borrowed b = { .free = { TEMP_VALUE, TEMP_TARGET, TEMP_ADDRESS } };

	for (unsigned i = 0; i < s->z.operand_count; i++) {
		const ZydisDecodedOperand *o = &s->o[i];
		int gpr = gpr_of(o);

		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			f.memory = true;
			f.rm = TEMP_ADDRESS;
		}
		if ((gpr < 0 && !is_xmm(o)) || !is_named(o))
			continue;
		unsigned host = gpr < 0 ? (unsigned)(o->reg.value - ZYDIS_REGISTER_XMM0)
		                        : borrow(tr, s, o, (unsigned)gpr, &b);

		if (is_high_byte(o))
			host += 4;
		if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
			f.reg = host;
		else if (o->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD)
			f.vvvv = host;
		else
			f.rm = host;
		f.opcode_register |= o->encoding == ZYDIS_OPERAND_ENCODING_OPCODE;
	}
	put_instruction(&tr->e, s, &f);
	for (unsigned i = 0; i < b.count; i++)
		if (b.store[i])
			emit_store(&tr->e, H_STATE, STATE(OPR(b.gpr[i])), b.host[i]);
}

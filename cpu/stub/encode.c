/* SPDX-License-Identifier: MIT */
/*
 * A decoded instruction of the guest, in whatever mode it runs, as bytes for the host's 64-bit mode.
 *
 * Prefix, map, opcode, immediate and the numbers of vector registers stay. What changes: a memory operand becomes
 * (%rsi), general registers become others, and bits that mean nothing outside 64-bit mode get their neutral value.
 */
#include "cpu/stub/stub.h"

struct encoding {
	uint8_t modrm;
	bool reg_is_gpr, rm_is_free; /* rm_is_free: memory or a general register, so that no extension bit applies */
	bool long_mode;
};

static bool is_gpr(const ZydisDecodedOperand *o)
{
	if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	switch (ZydisRegisterGetClass(o->reg.value)) {
	case ZYDIS_REGCLASS_GPR8: case ZYDIS_REGCLASS_GPR16: case ZYDIS_REGCLASS_GPR32: case ZYDIS_REGCLASS_GPR64:
		return true;
	default:
		return false;
	}
}

static const ZydisDecodedOperand *find(const struct insn *insn, ZydisOperandEncoding encoding)
{
	for (unsigned i = 0; i < insn->z->operand_count_visible; i++)
		if (insn->o[i].encoding == encoding)
			return &insn->o[i];
	return NULL;
}

static bool gpr_in(const struct insn *insn, ZydisOperandEncoding encoding)
{
	const ZydisDecodedOperand *o = find(insn, encoding);

	return o != NULL && is_gpr(o);
}

static struct encoding analyse(const struct insn *insn)
{
	const ZydisDecodedInstruction *z = insn->z;
	struct encoding e = { .long_mode = insn->bits == 64 };
	uint8_t reg = z->raw.modrm.reg, rm = z->raw.modrm.rm, mod = 3;

	e.reg_is_gpr = gpr_in(insn, ZYDIS_OPERAND_ENCODING_MODRM_REG);
	if (e.reg_is_gpr)
		reg = ENCODE_REG;
	if (z->raw.modrm.mod != 3) {
		e.rm_is_free = true;
		mod = 0;
		rm = ENCODE_MEMORY;
	} else if (gpr_in(insn, ZYDIS_OPERAND_ENCODING_MODRM_RM)) {
		e.rm_is_free = true;
		rm = ENCODE_RM;
	}
	e.modrm = (uint8_t)(mod << 6 | reg << 3 | rm);
	return e;
}

/*
 * Non-temporal stores become plain ones. Guest memory is write-back memory of the host, and the library's own accesses
 * to it are not ordered with such weakly ordered stores.
 */
static uint8_t opcode_of(const ZydisDecodedInstruction *z)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_VMOVNTDQ: return 0x7f; /* VMOVDQA */
	case ZYDIS_MNEMONIC_VMOVNTPS: case ZYDIS_MNEMONIC_VMOVNTPD: return 0x29; /* VMOVAPS, VMOVAPD */
	case ZYDIS_MNEMONIC_MOVNTSS: case ZYDIS_MNEMONIC_MOVNTSD: return 0x11; /* MOVSS, MOVSD */
	default: return z->opcode;
	}
}

/*
 * W is the size of a general register or of its counterpart in memory. Outside 64-bit mode, where it is ignored there,
 * the size is 32 bits.
 */
static bool w_is_size(const struct insn *insn, const struct encoding *e, unsigned pp)
{
	const ZydisDecodedInstruction *z = insn->z;

	if (e->reg_is_gpr || (e->rm_is_free && z->raw.modrm.mod == 3))
		return true;
	if (z->opcode_map == ZYDIS_OPCODE_MAP_0F3A && (z->opcode & ~1u) == 0x60) /* VPCMPESTRM, VPCMPESTRI: RAX, RDX */
		return true;
	if (z->raw.modrm.mod == 3)
		return false;
	if (z->opcode_map == ZYDIS_OPCODE_MAP_0F) {
		if (pp == 1) /* VMOVD */
			return z->opcode == 0x6e || z->opcode == 0x7e;
		return pp >= 2 && (z->opcode == 0x2a || z->opcode == 0x7b); /* from an integer */
	}
	return z->opcode_map == ZYDIS_OPCODE_MAP_0F3A && (z->opcode == 0x16 || z->opcode == 0x22);
}

static uint8_t *put_legacy(const struct insn *insn, const struct encoding *e, uint8_t *to)
{
	const ZydisDecodedInstruction *z = insn->z;
	uint8_t rex = 0;

	for (unsigned i = 0; i < z->raw.prefix_count; i++)
		if (z->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY)
			*to++ = z->raw.prefixes[i].value;
	if (z->attributes & ZYDIS_ATTRIB_HAS_REX)
		rex = (uint8_t)(z->raw.rex.W << 3 | (e->reg_is_gpr ? 0 : z->raw.rex.R << 2) |
				(e->rm_is_free ? 0 : z->raw.rex.B));
	if (rex)
		*to++ = 0x40 | rex;
	*to++ = 0x0f;
	if (z->opcode_map == ZYDIS_OPCODE_MAP_0F38)
		*to++ = 0x38;
	if (z->opcode_map == ZYDIS_OPCODE_MAP_0F3A)
		*to++ = 0x3a;
	*to++ = opcode_of(z);
	return to;
}

/* Always the form of three bytes. R, X, B and vvvv are stored inverted. */
static uint8_t *put_vex(const struct insn *insn, const struct encoding *e, uint8_t *to)
{
	const ZydisDecodedInstruction *z = insn->z;
	const uint8_t *vex = insn->bytes + z->raw.vex.offset;
	uint8_t first, second;

	if (z->raw.vex.size == 2) {
		first = (vex[1] & 0x80) | 0x61;
		second = vex[1] & 0x7f;
	} else {
		first = vex[1];
		second = vex[2];
	}
	if (!e->long_mode) {
		first |= 0xe0; /* no registers above 7; B and the top bit of vvvv are ignored */
		second |= 0x40;
		if (w_is_size(insn, e, z->raw.vex.pp))
			second &= 0x7f;
	}
	if (e->reg_is_gpr)
		first |= 0x80;
	if (e->rm_is_free)
		first |= 0x60;
	if (gpr_in(insn, ZYDIS_OPERAND_ENCODING_NDSNDD))
		second = (uint8_t)((second & ~0x78) | (~ENCODE_VVVV & 15) << 3);
	*to++ = 0xc4;
	*to++ = first;
	*to++ = second;
	*to++ = opcode_of(z);
	return to;
}

/* The same with R' and V' for registers above 15. */
static uint8_t *put_evex(const struct insn *insn, const struct encoding *e, uint8_t *to)
{
	const uint8_t *evex = insn->bytes + insn->z->raw.evex.offset;
	uint8_t first = evex[1], second = evex[2], third = evex[3];

	if (!e->long_mode) {
		first |= 0xf0;
		second |= 0x40;
		third |= 0x08;
		if (w_is_size(insn, e, insn->z->raw.evex.pp))
			second &= 0x7f;
	}
	if (e->reg_is_gpr)
		first |= 0x90;
	if (e->rm_is_free)
		first |= 0x60;
	*to++ = 0x62;
	*to++ = first;
	*to++ = second;
	*to++ = third;
	*to++ = opcode_of(insn->z);
	return to;
}

unsigned encode(const struct insn *insn, uint8_t *to)
{
	const ZydisDecodedInstruction *z = insn->z;
	struct encoding e = analyse(insn);
	uint8_t *at = to;

	switch (z->encoding) {
	case ZYDIS_INSTRUCTION_ENCODING_LEGACY: at = put_legacy(insn, &e, at); break;
	case ZYDIS_INSTRUCTION_ENCODING_VEX: at = put_vex(insn, &e, at); break;
	default: at = put_evex(insn, &e, at); break;
	}
	*at++ = e.modrm;
	if (z->raw.imm[0].size != 0) {
		/* One byte, or the two of EXTRQ and INSERTQ. */
		for (unsigned i = z->raw.imm[0].offset; i < z->length; i++)
			*at++ = insn->bytes[i];
		/* A register in the immediate: its top bit is ignored where there are but eight. */
		if (!e.long_mode && find(insn, ZYDIS_OPERAND_ENCODING_IS4) != NULL)
			at[-1] &= 0x7f;
	}
	return (unsigned)(at - to);
}

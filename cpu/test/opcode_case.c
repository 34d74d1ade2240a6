/* SPDX-License-Identifier: MIT */
#include "opcode_case.h"
#include "opcode_int.h"

#include <string.h>

#define ATTEMPTS 4000

/* The kind decides how the older part of the generator fills x87 state. */
static const struct gen_row rows[] = {
	{ .kind = GEN_PLAIN }, { .kind = GEN_MMX }, { .kind = GEN_X87 },
};

static const struct gen_row *row_of(ZydisISASet set)
{
	switch (set) {
	case ZYDIS_ISA_SET_X87:
	case ZYDIS_ISA_SET_FCMOV:
	case ZYDIS_ISA_SET_SSE3X87:
		return &rows[2];
	case ZYDIS_ISA_SET_PENTIUMMMX:
	case ZYDIS_ISA_SET_SSE2MMX:
	case ZYDIS_ISA_SET_SSSE3MMX:
		return &rows[1];
	default:
		return &rows[0];
	}
}

static unsigned int pick_bits(struct gen_rand *r, unsigned int modes)
{
	unsigned int v = (unsigned int)gen_below(r, 20);

	if (v == 0 && (modes & GEN_16))
		return 16;
	return v < 5 && (modes & GEN_32) ? 32 : 64;
}

static struct opcode_fields pick_fields(struct gen_rand *r, const struct opcode_form *f, unsigned int bits)
{
	uint64_t v = gen_next(r);
	struct opcode_fields fields = { .aaa = v & 1 ? v >> 1 & 7 : 0, .vvvv = v & 0x10 ? v >> 5 & 15 : 0 };

	fields.z = fields.aaa && (v & 0x200);
	fields.b = v & 0x400;
	if (bits == 64) {
		fields.r = v & 0x800;
		fields.x = v & 0x1000;
		fields.r2 = v & 0x2000;
		fields.v2 = (v & 0x10 || v & 0x8000) && (v & 0x4000);
	}
	if (bits != 64 && f->space == OPCODE_LEGACY)
		fields.b = false;
	fields.mod = f->memory ? (uint8_t)gen_below(r, 3) : 3;
	fields.reg = f->reg == OPCODE_ANY ? v >> 16 & 7 : f->reg;
	fields.rm = f->rm == OPCODE_ANY ? v >> 19 & 7 : f->rm;
	fields.sib = (uint8_t)(v >> 24);
	for (unsigned int i = 0; i < sizeof(fields.tail); i++)
		fields.tail[i] = (uint8_t)gen_next(r);
	if (f->memory && bits == 64 && gen_percent(r, 5))
		fields.segment = 0x65;
	fields.address_size = f->memory && gen_percent(r, bits == 16 ? 40 : 6);
	return fields;
}

static bool decode(struct opcode_build *c, const uint8_t *bytes, unsigned int length)
{
	ZydisMachineMode mode = c->b.c->bits == 64   ? ZYDIS_MACHINE_MODE_LONG_64
				: c->b.c->bits == 32 ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32
						     : ZYDIS_MACHINE_MODE_LONG_COMPAT_16;
	ZydisStackWidth width = c->b.c->bits == 64 ? ZYDIS_STACK_WIDTH_64 : ZYDIS_STACK_WIDTH_32;
	ZydisDecoder decoder;

	ZydisDecoderInit(&decoder, mode, c->b.c->bits == 16 ? ZYDIS_STACK_WIDTH_16 : width);
	return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, length, &c->z, c->o));
}

/* Zydis 4.0 takes a base that is not there for R13 when an address has 32 bits, and forgets the displacement. */
static void forget_base(struct opcode_build *c)
{
	ZydisDecodedOperandMem *m = &c->o[c->memory].mem;

	if ((c->z.attributes & ZYDIS_ATTRIB_HAS_SIB) && c->z.raw.modrm.mod == 0 && c->z.raw.sib.base == 5) {
		m->base = ZYDIS_REGISTER_NONE;
		m->disp.value = c->z.raw.disp.value;
	}
}

static void find_memory(struct opcode_build *c)
{
	c->memory = -1;
	c->gather = c->masked = false;
	for (unsigned int i = 0; i < c->z.operand_count && c->memory < 0; i++)
		if (c->o[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			c->memory = (int)i;
	if (c->memory < 0)
		return;
	forget_base(c);
	c->gather = c->o[c->memory].mem.type == ZYDIS_MEMOP_TYPE_VSIB;
	c->masked = c->gather || c->z.avx.mask.reg > ZYDIS_REGISTER_K0 ||
		    c->o[c->memory].visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN ||
		    (c->o[c->memory].actions & (ZYDIS_OPERAND_ACTION_CONDREAD | ZYDIS_OPERAND_ACTION_CONDWRITE));
}

/* What no other CPU can repeat: random numbers, the number of the processor. */
static void mark_undefined(struct opcode_build *c)
{
	ZydisRegister r = c->o[0].reg.value;

	if (c->z.cpu_flags)
		c->b.c->flags_undefined = c->z.cpu_flags->undefined & GEN_STATUS;
	switch (c->z.meta.isa_set) {
	case ZYDIS_ISA_SET_RDRAND:
	case ZYDIS_ISA_SET_RDSEED:
		if (c->o[0].type == ZYDIS_OPERAND_TYPE_REGISTER)
			c->b.c->gpr_undefined = 1u << ZydisRegisterGetId(r);
		/* There may be no random number at the time. */
		c->b.c->flags_undefined |= GEN_CF;
		break;
	case ZYDIS_ISA_SET_RDPID:
		c->b.c->gpr_undefined = 1u << ZydisRegisterGetId(r);
		break;
	default:
		break;
	}
}

static bool try_case(struct opcode_build *c, const struct opcode_form *f, struct gen_case *out, unsigned int slot,
                     unsigned int bits)
{
	uint8_t bytes[24];
	struct opcode_fields fields = pick_fields(&c->b.rand, f, bits);
	unsigned int length = opcode_bytes(f, &fields, bits, bytes);

	gen_build_init(&c->b, out, bits);
	gen_place(&c->b, out, slot);
	if (length == 0 || !decode(c, bytes, length < 15 ? length : 15) || c->z.mnemonic != f->mnemonic ||
	    c->z.meta.isa_set != f->set)
		return false;
	out->length = c->z.length;
	memcpy(out->bytes, bytes, out->length);
	find_memory(c);
	gen_fill_registers(&c->b);
	opcode_fill_vectors(c);
	if (c->memory >= 0 && !opcode_point(c))
		return false;
	opcode_fill_memory(c);
	opcode_fill_control(c);
	mark_undefined(c);
	return true;
}

bool opcode_case(uint64_t seed, const struct opcode_list *list, const struct opcode_set *set, unsigned int number,
                 unsigned int modes, struct gen_case *out, const struct opcode_form **form)
{
	const struct opcode_mnemonic *m = &list->mnemonic[set->first + number % set->count];
	struct opcode_build c = { .b = { .row = row_of(set->set) } };

	c.b.rand.state = seed ^ number;
	for (const char *name = ZydisISASetGetString(set->set); *name; name++)
		c.b.rand.state = gen_next(&c.b.rand) ^ (unsigned char)*name;
	for (unsigned int i = 0; i < ATTEMPTS; i++) {
		const struct opcode_form *f = &list->form[m->first + gen_below(&c.b.rand, m->count)];
		unsigned int bits = pick_bits(&c.b.rand, modes);

		*form = f;
		if (try_case(&c, f, out, number % GEN_SLOT_MAX, bits))
			return true;
	}
	return false;
}

static struct opcode_form random_form(struct gen_rand *r)
{
	uint64_t v = gen_next(r);
	struct opcode_form f = { .space = v % 5 / 2, .opcode = v >> 8 & 0xff, .pp = v >> 16 & 3, .w = v >> 18 & 1,
				 .memory = v >> 19 & 1, .reg = OPCODE_ANY, .rm = OPCODE_ANY };

	switch (f.space) {
	case OPCODE_LEGACY:
		f.map = 2 + (v >> 20 & 1);
		break;
	case OPCODE_VEX: /* five bits, of which three maps are in use */
		f.map = v >> 20 & 1 ? 1 + (v >> 21) % 3 : v >> 23 & 31;
		f.l = v >> 28 & 1;
		break;
	default:
		f.map = v >> 20 & 7;
		f.l = v >> 28 & 3;
		/*
		 * Between registers EVEX.b is rounding. Where an instruction has none, Intel's processors answer #UD
		 * (SDM vol. 2, 2.7.11.2), AMD's Zen 4 runs it as if the bit were clear.
		 */
		f.b = f.memory && (v >> 30 & 1);
		break;
	}
	return f;
}

/*
 * Encodings that Zydis, and so the software CPU, refuses, and that AMD's Zen 4 takes: it ignores the fourth bit of a
 * number of a mask register, and VEX.W of VPERMQ and VPERMPD. No compiler or assembler writes them.
 */
static bool is_taken_by_some(const struct opcode_form *f)
{
	if (f->space != OPCODE_VEX)
		return false;
	if (f->map == 1)
		return (f->opcode >= 0x41 && f->opcode <= 0x4b) || (f->opcode >= 0x90 && f->opcode <= 0x99);
	return f->map == 3 && ((f->opcode >= 0x30 && f->opcode <= 0x33) || f->opcode <= 1);
}

bool opcode_case_invalid(uint64_t seed, unsigned int number, unsigned int modes, struct gen_case *out)
{
	struct opcode_build c = { .b = { .row = &rows[0], .rand.state = ~seed ^ (uint64_t)number << 32 } };

	for (unsigned int i = 0; i < ATTEMPTS; i++) {
		struct opcode_form f = random_form(&c.b.rand);
		unsigned int bits = pick_bits(&c.b.rand, modes), length;
		struct opcode_fields fields = pick_fields(&c.b.rand, &f, bits);
		uint8_t bytes[24];

		length = opcode_bytes(&f, &fields, bits, bytes);
		gen_build_init(&c.b, out, bits);
		gen_place(&c.b, out, number % GEN_SLOT_MAX);
		if (length == 0 || is_taken_by_some(&f) || decode(&c, bytes, length < 15 ? length : 15))
			continue;
		out->length = length < 15 ? length : 15;
		memcpy(out->bytes, bytes, out->length);
		gen_fill_registers(&c.b);
		return true;
	}
	return false;
}

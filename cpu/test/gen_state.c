/* SPDX-License-Identifier: MIT */
/*
 * The state a case starts from: random, except that the memory operand points at its target and
 * implicit operands have values on which the instruction does something.
 *
 * Long because: a choice among the kinds of instruction is one switch, each kind a few lines.
 */
#include "gen_build.h"
#include "gen_corner.h"

#include <string.h>

static uint64_t *gpr(struct build *b, unsigned int reg)
{
	return &b->c->in.gpr[reg];
}

static bool addresses_with(const struct build *b, unsigned int reg)
{
	return b->base == reg || b->index == reg;
}

/* Writes the low @bytes of a register, as an address register of that size. */
static void set_low(struct build *b, unsigned int reg, unsigned int bytes, uint64_t value)
{
	uint64_t m = gen_mask(bytes);

	*gpr(b, reg) = (*gpr(b, reg) & ~m) | (value & m);
}

/* Bytes that are at @linear when the case starts.  Later pokes win. */
static void poke(struct build *b, int n, uint64_t linear, const void *bytes, unsigned int size)
{
	struct gen_poke *p = &b->c->poke[n];

	if (linear < GEN_DATA || linear + size > GEN_DATA + GEN_DATA_RW)
		return;
	p->offset = (uint32_t)(linear - GEN_DATA);
	p->size = size;
	memcpy(p->bytes, bytes, size);
}

static uint64_t operand_value(struct build *b, int n)
{
	uint64_t v = 0;

	if (b->memory == n) {
		uint64_t at = b->target - GEN_DATA;
		const struct gen_poke *p = &b->c->poke[0];

		if (p->size && at == p->offset)
			memcpy(&v, p->bytes, 8);
		return v & gen_mask(b->size);
	}
	if (b->reg[n] == NO_REG)
		return 0;
	if (b->reg[n] >= 20)
		return *gpr(b, b->reg[n] - 20) >> 8 & 0xff;
	return *gpr(b, b->reg[n]) & gen_mask(b->size);
}

static void solve_address(struct build *b)
{
	uint64_t offset = b->target - gen_segment_base(b), disp, scale;

	if (b->memory < 0 || b->base == RIP_REG || (b->base == NO_REG && b->index == NO_REG))
		return;
	disp = (uint64_t)b->req.operands[b->memory].mem.displacement;
	scale = b->req.operands[b->memory].mem.scale;
	if (b->base == NO_REG)
		set_low(b, b->index, b->address_bytes, (offset - disp) / scale);
	else if (b->base == b->index)
		set_low(b, b->index, b->address_bytes, (offset - disp) / (scale + 1));
	else if (b->index == NO_REG)
		set_low(b, b->base, b->address_bytes, offset - disp);
	else
		set_low(b, b->base, b->address_bytes, offset - disp - *gpr(b, b->index) * scale);
}

static uint64_t stack_linear(struct build *b)
{
	uint64_t sp = GEN_DATA + 0x600 + gen_below(&b->rand, 0x1400);

	if (gen_percent(&b->rand, 3))
		return GEN_DATA + gen_below(&b->rand, 40);
	if (gen_percent(&b->rand, 3))
		return GEN_DATA + GEN_DATA_SIZE - gen_below(&b->rand, 40);
	if (gen_percent(&b->rand, 3))
		return GEN_DATA + GEN_PAGE + gen_below(&b->rand, 8);
	return gen_percent(&b->rand, 70) ? sp & ~UINT64_C(7) : sp;
}

/* A random place for the stack, as an offset in SS. */
static uint64_t stack_address(struct build *b)
{
	return stack_linear(b) - b->data_base;
}

/* Sets the stack pointer or rbp. A memory operand that is based on it moves with it. */
static void set_stack(struct build *b, unsigned int reg)
{
	*gpr(b, reg) = stack_address(b);
	if (b->base == reg)
		b->target = *gpr(b, reg) + (uint64_t)b->req.operands[b->memory].mem.displacement +
			    gen_segment_base(b);
}

static uint64_t landing(struct build *b)
{
	if (b->mode16)
		return GEN_LANDING16 + gen_below(&b->rand, 0xff0);
	return GEN_LANDING + gen_below(&b->rand, GEN_LANDING_SIZE - 16);
}

static unsigned int count_operand(struct build *b)
{
	const char *f = b->row->form;
	size_t n = strlen(f);
	unsigned int count = (unsigned int)(f[n - 2] == 'C' ? *gpr(b, RCX) : b->immediate);

	return count & (b->size == 8 ? 63 : 31);
}

uint64_t gen_shift_undefined(const struct build *b, unsigned int count)
{
	bool rotate = b->row->kind == GEN_ROTATE;
	uint64_t undefined = 0;

	if (count == 0)
		return 0;
	if (!rotate)
		undefined |= GEN_AF;
	if (count != 1)
		undefined |= GEN_OF;
	if (!rotate && count >= b->size * 8 && b->row->mnemonic != ZYDIS_MNEMONIC_SAR)
		undefined |= GEN_CF;
	return undefined;
}

static bool fill_shift(struct build *b)
{
	unsigned int count = count_operand(b);

	b->c->flags_undefined = gen_shift_undefined(b, count);
	return b->row->kind != GEN_SHIFT2 || count <= b->size * 8;
}

/* A dividend whose quotient is the last that fits, or the first that does not. */
static void fill_quotient_edge(struct build *b, bool is_signed, uint64_t divisor)
{
	unsigned int size = b->size;
	uint64_t edge = is_signed ? UINT64_C(1) << (8 * size - 1) : gen_mask(size);
	__int128 d = is_signed ? (__int128)(int64_t)gen_sign_extend(divisor, size) : (__int128)divisor, q, n;

	q = (__int128)edge + (int64_t)gen_below(&b->rand, 3) - 1;
	if (is_signed && gen_percent(&b->rand, 50))
		q = -q;
	n = (__int128)((unsigned __int128)q * (unsigned __int128)d); /* may wrap: only the bits count */
	if (gen_percent(&b->rand, 50)) /* a remainder with the sign of the dividend */
		n = (__int128)((unsigned __int128)n + (n < 0 ? -(unsigned __int128)gen_below(&b->rand, divisor)
		                                             : gen_below(&b->rand, divisor)));
	if (addresses_with(b, RAX) || b->reg[0] == RAX)
		return;
	set_low(b, RAX, size, (uint64_t)n);
	set_low(b, RDX, size, (uint64_t)(n >> (8 * size)));
}

static void fill_divide(struct build *b)
{
	bool is_signed = b->row->mnemonic == ZYDIS_MNEMONIC_IDIV;
	unsigned int size = b->size;
	uint64_t divisor = operand_value(b, 0), high, sign;

	if (divisor == 0)
		divisor = 1;
	if (size == 1) {
		if (addresses_with(b, RAX))
			return;
		high = *gpr(b, RAX) & 0xff;
		if (gen_percent(&b->rand, 60))
			high = is_signed ? gen_sign_extend(high, 1) : high;
		else
			high += gen_below(&b->rand, divisor) << 8;
		if (!gen_percent(&b->rand, 10))
			set_low(b, RAX, 2, high);
		return;
	}
	if (addresses_with(b, RDX) || b->reg[0] == RDX)
		return;
	sign = gen_sign_extend(*gpr(b, RAX), size) >> 63 ? ~UINT64_C(0) : 0;
	switch (gen_below(&b->rand, 12)) {
	case 0:
		return;
	case 10:
	case 11:
		fill_quotient_edge(b, is_signed, divisor);
		return;
	case 1:
	case 2:
	case 3:
		high = gen_below(&b->rand, divisor);
		if (is_signed)
			high = (high >> 1) ^ sign;
		break;
	default:
		high = is_signed ? sign : 0;
		break;
	}
	set_low(b, RDX, size, high);
}

static void fill_compare(struct build *b)
{
	if (gen_percent(&b->rand, 50) && !addresses_with(b, RAX))
		set_low(b, RAX, b->size, operand_value(b, 0));
}

static void fill_compare2(struct build *b)
{
	unsigned int half = b->memory_size / 2;
	const struct gen_poke *p = &b->c->poke[0];
	uint64_t v[2] = { 0, 0 };

	if (gen_percent(&b->rand, 40) || b->target - GEN_DATA != p->offset)
		return;
	memcpy(&v[0], p->bytes, half);
	memcpy(&v[1], p->bytes + half, half);
	if (!addresses_with(b, RAX))
		set_low(b, RAX, half, v[0]);
	if (!addresses_with(b, RDX))
		set_low(b, RDX, half, v[1]);
}

static bool fill_bit(struct build *b)
{
	int64_t bit = (int64_t)gen_below(&b->rand, 16000) - 8000;
	uint64_t at = GEN_DATA + GEN_PAGE - 1500 + gen_below(&b->rand, 2000);

	if (b->memory != 0 || b->reg[1] == NO_REG)
		return true;
	if (addresses_with(b, b->reg[1]))
		return false;
	set_low(b, b->reg[1], b->size, (uint64_t)bit);
	if (b->base == RIP_REG || b->base == NO_REG || b->base == b->index || gen_percent(&b->rand, 4))
		return true; /* keep the target, which is sometimes near an edge */
	b->target = at;
	solve_address(b);
	return true;
}

static void fill_string(struct build *b)
{
	unsigned int a = b->address_bytes, size = b->row->sizes;
	bool df = b->c->in.rflags & GEN_DF;
	uint64_t count = gen_below(&b->rand, 24), span, si, di;

	if (b->req.prefixes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)) {
		if (gen_percent(&b->rand, 15))
			count = gen_below(&b->rand, GEN_PAGE / size);
		span = count * size;
	} else {
		span = size;
	}
	si = GEN_DATA + 16 + gen_below(&b->rand, GEN_DATA_RW - 32 - span);
	di = GEN_DATA + 16 + gen_below(&b->rand, GEN_DATA_RW - 32 - span);
	if (gen_percent(&b->rand, 25)) /* overlapping */
		di = si + gen_below(&b->rand, 40) - 20;
	else if (gen_percent(&b->rand, 40)) /* the second page is nearly the first */
		di = si < GEN_DATA + GEN_PAGE ? si + GEN_PAGE : si - GEN_PAGE;
	if (gen_percent(&b->rand, 8))
		di = GEN_DATA + GEN_DATA_RW - span / 2;
	else if (gen_percent(&b->rand, 5)) /* only one of them may fault: the order of two faults is undefined */
		si = GEN_DATA + GEN_DATA_SIZE - span / 2;
	else if (gen_percent(&b->rand, 3))
		di = GEN_DATA - span / 2;
	else if (gen_percent(&b->rand, 2) && b->c->bits == 64) /* not canonical */
		*(gen_percent(&b->rand, 50) ? &si : &di) ^= UINT64_C(1) << 47;
	if (df) {
		si += span - size;
		di += span - size;
	}
	if (gen_percent(&b->rand, 60)) {
		si &= ~UINT64_C(7);
		di &= ~UINT64_C(7);
	}
	if (gen_percent(&b->rand, 60))
		set_low(b, RAX, 8, 0);
	set_low(b, RCX, a, count);
	set_low(b, RSI, a, si - b->data_base);
	set_low(b, RDI, a, di - b->data_base);
}

static void fill_branch(struct build *b)
{
	if (gen_percent(&b->rand, 50))
		set_low(b, RCX, b->address_bytes, gen_below(&b->rand, 3));
}

static bool fill_indirect(struct build *b)
{
	uint64_t to = landing(b);

	*gpr(b, RSP) = stack_address(b);
	if (b->memory >= 0) {
		poke(b, 1, b->target, &to, b->size);
		/* Nothing was written there, and the read does not fault: the jump would go to a random place. */
		if (!b->c->poke[1].size && b->target >= GEN_DATA && b->target + b->size <= GEN_DATA + GEN_DATA_SIZE)
			return false;
	} else if (b->reg[0] == RSP)
		return false;
	else
		*gpr(b, b->reg[0]) = b->size == 2 && !b->mode16 ? *gpr(b, b->reg[0]) : to;
	if (b->base == RSP)
		return false;
	return true;
}

/*
 * FXRSTOR finds an MXCSR that it takes, or not, and pointers of 47 bits: a processor keeps as many as its addresses
 * have. A fault may come when a part is done.
 */
static void fill_fxsave(struct build *b)
{
	ZydisMnemonic m = b->row->mnemonic;
	uint64_t image[3] = { gen_next(&b->rand) >> 17, gen_next(&b->rand) >> 17,
	                      gen_next(&b->rand) & (gen_percent(&b->rand, 95) ? 0xffff : 0x4ffff) };

	if (m == ZYDIS_MNEMONIC_FXRSTOR || m == ZYDIS_MNEMONIC_FXRSTOR64)
		poke(b, 1, b->target + 8, image, 20);
	else if (m != ZYDIS_MNEMONIC_FXSAVE && m != ZYDIS_MNEMONIC_FXSAVE64)
		return;
	else
		b->c->fxsave = b->target >= GEN_DATA && b->target <= GEN_DATA + GEN_DATA_RW - 512;
	b->c->image = (uint32_t)(b->target - GEN_DATA);
	b->c->partial = true;
}

static bool fill_kind(struct build *b)
{
	uint64_t v;

	switch ((enum gen_kind)b->row->kind) {
	case GEN_SHIFT:
	case GEN_ROTATE:
	case GEN_SHIFT2:
		return fill_shift(b);
	case GEN_SCAN:
		if (operand_value(b, 1) == 0)
			b->c->gpr_undefined |= 1u << b->reg[0];
		return true;
	case GEN_BIT:
		return fill_bit(b);
	case GEN_DIVIDE:
		fill_divide(b);
		return true;
	case GEN_COMPARE:
		fill_compare(b);
		return true;
	case GEN_COMPARE2:
		fill_compare2(b);
		return true;
	case GEN_STACK:
		set_stack(b, RSP);
		if (b->mode16 && b->base == NO_REG)
			*gpr(b, RSP) |= gen_next(&b->rand) & 0x7fff0000; /* not part of a 16-bit stack pointer */
		if (b->row->mnemonic == ZYDIS_MNEMONIC_ENTER)
			*gpr(b, RBP) = stack_address(b) |
			               (gen_percent(&b->rand, 30) ? gen_next(&b->rand) & 0x7fff0000 : 0);
		b->c->partial = b->row->mnemonic == ZYDIS_MNEMONIC_ENTER ||
				b->row->mnemonic == ZYDIS_MNEMONIC_PUSHA ||
				b->row->mnemonic == ZYDIS_MNEMONIC_PUSHAD ||
				b->row->mnemonic == ZYDIS_MNEMONIC_POPA ||
				b->row->mnemonic == ZYDIS_MNEMONIC_POPAD;
		return true;
	case GEN_RETURN:
		set_stack(b, RSP);
		v = landing(b);
		poke(b, 1, *gpr(b, RSP) + b->data_base, &v, 8);
		return b->c->poke[1].size != 0;
	case GEN_POPF:
		set_stack(b, RSP);
		v = gen_next(&b->rand) & 0xbeff; /* no TF, NT, AC, ID, which would outlive the case */
		poke(b, 1, *gpr(b, RSP) + b->data_base, &v, 8);
		return b->c->poke[1].size != 0;
	case GEN_LEAVE:
		*gpr(b, RBP) = stack_address(b) | (b->mode16 ? gen_next(&b->rand) & 0x7fff0000 : 0);
		return true;
	case GEN_BRANCH:
		fill_branch(b);
		if (b->row->mnemonic == ZYDIS_MNEMONIC_CALL)
			*gpr(b, RSP) = stack_address(b);
		return true;
	case GEN_INDIRECT:
		return fill_indirect(b);
	case GEN_STRING:
		fill_string(b);
		return true;
	case GEN_XLAT:
		v = b->c->bits == 64 && gen_percent(&b->rand, 2) ? UINT64_C(1) << 47 : 0;
		set_low(b, RBX, b->address_bytes,
			GEN_DATA + gen_below(&b->rand, GEN_DATA_SIZE) - (*gpr(b, RAX) & 0xff) - b->data_base + v);
		return true;
	case GEN_EXTRACT:
		if (!addresses_with(b, b->reg[2]) && gen_percent(&b->rand, 80))
			set_low(b, b->reg[2], 2, gen_next(&b->rand) & (gen_percent(&b->rand, 80) ? 0x3f3f : 0x7f7f));
		return true;
	case GEN_RANDOM:
		b->c->gpr_undefined |= 1u << b->reg[0];
		return true;
	case GEN_LINE:
		set_low(b, RAX, b->size, GEN_DATA + gen_below(&b->rand, GEN_DATA_SIZE + 64) - b->data_base);
		return true;
	case GEN_MASKMOV:
		set_low(b, RDI, b->address_bytes,
			GEN_DATA + gen_below(&b->rand, GEN_DATA_RW - 16) - b->data_base);
		return true;
	case GEN_X87:
		fill_fxsave(b);
		return true;
	case GEN_FLOAT:
		if (b->row->mnemonic == ZYDIS_MNEMONIC_LDMXCSR && !gen_percent(&b->rand, 20)) {
			v = gen_next(&b->rand) & 0xffff;
			poke(b, 1, b->target, &v, 4);
		}
		return true;
	default:
		return true;
	}
}

static void fill_mxcsr(struct build *b)
{
	struct gen_state *s = &b->c->in;

	s->mxcsr = 0x1f80;
	if (b->row->kind != GEN_FLOAT)
		return;
	s->mxcsr |= (uint32_t)gen_below(&b->rand, 4) << 13;
	if (gen_percent(&b->rand, 30))
		s->mxcsr |= (uint32_t)gen_below(&b->rand, 64);
	if (gen_percent(&b->rand, 15))
		s->mxcsr |= 0x8000;
	if (gen_percent(&b->rand, 15))
		s->mxcsr |= 0x40;
	if (gen_percent(&b->rand, 15))
		s->mxcsr &= ~((uint32_t)gen_below(&b->rand, 64) << 7);
}

static uint64_t lane(struct build *b)
{
	return b->row->kind == GEN_FLOAT && !gen_percent(&b->rand, 10) ? gen_float(&b->rand)
								       : gen_lane(&b->rand);
}

/* An 80-bit number: random bits, or near one, or from an integer, or with a special exponent. */
static struct gen_extended extended(struct build *b)
{
	uint64_t fraction = gen_lane(&b->rand), sign = gen_next(&b->rand) & 0x8000;

	switch (gen_below(&b->rand, 12)) {
	case 8: /* TestFloat's corners, normal numbers and denormals */
	case 9:
	case 10:
		sign = gen_corner_extended(&b->rand);
		fraction = gen_corner_fraction(&b->rand, 63);
		return (struct gen_extended){ { fraction | (uint64_t)((sign & 0x7fff) != 0) << 63, sign } };
	case 11: /* also what no operation makes: unnormals and pseudo-denormals */
		sign = gen_corner_extended(&b->rand);
		fraction = gen_corner_fraction(&b->rand, 63);
		return (struct gen_extended){ { fraction | gen_next(&b->rand) << 63, sign } };
	case 0:
		return (struct gen_extended){ { fraction, gen_next(&b->rand) & 0xffff } };
	case 1:
		return (struct gen_extended){ { fraction | UINT64_C(1) << 63, sign | 0x7fff } };
	case 2:
		return (struct gen_extended){ { gen_percent(&b->rand, 50) ? 0 : fraction >> 1, sign } };
	default:
		return (struct gen_extended){ { fraction | UINT64_C(1) << 63,
					   sign | (0x3fff - 40 + gen_below(&b->rand, 110)) } };
	}
}

static void fill_x87(struct build *b)
{
	static const uint8_t precision[] = { 0, 2, 3 }; /* of 24, 53 and 64 bits */
	struct gen_state *s = &b->c->in;

	for (int i = 0; i < 8; i++)
		s->st[i] = extended(b);
	s->ftw = gen_percent(&b->rand, 70) ? 0xff : (uint8_t)gen_next(&b->rand);
	s->fsw = (uint16_t)(gen_next(&b->rand) & 0x7f00); /* TOP and conditions */
	s->fcw = 0x37f;
	if (b->row->kind == GEN_X87) { /* rounding, and every legal precision */
		s->fcw = (uint16_t)(0x7f | gen_below(&b->rand, 4) << 10);
		s->fcw |= (uint16_t)(precision[gen_below(&b->rand, 3)] << 8);
		if (gen_percent(&b->rand, 30))
			s->fsw |= gen_next(&b->rand) & 0x3f;
		if (gen_percent(&b->rand, 40))
			s->fcw &= (uint16_t)~(gen_next(&b->rand) & 0x3f);
	} else if (gen_percent(&b->rand, 3)) { /* #MF for MMX, nothing for others */
		s->fcw &= (uint16_t)~(1u << gen_below(&b->rand, 6));
		s->fsw |= gen_next(&b->rand) & 0x3f;
	}
	/* AMD's processors lose the pointers in a context switch unless an exception is pending. */
	if (s->fsw & ~s->fcw & 0x3f) {
		s->fop = (uint16_t)(s->st[0].q[0] & 0x7ff);
		s->fip = s->st[1].q[0] & 0x7fffffffffff;
		s->fdp = s->st[2].q[0] & 0x7fffffffffff;
	}
}

void gen_fill_registers(struct build *b)
{
	struct gen_state *s = &b->c->in;

	for (int i = 0; i < 16; i++)
		s->gpr[i] = gen_integer(&b->rand) & gen_mask(b->mode32 ? 4 : 8);
	if (b->mode16) /* the kernel keeps no more of a 16-bit stack pointer */
		s->gpr[RSP] &= 0xffff;
	for (int i = 0; i < 16; i++)
		for (int q = 0; q < 2; q++)
			s->v[i].q[q] = lane(b);
	fill_x87(b);
	s->rflags = 0x202 | (gen_next(&b->rand) & GEN_STATUS);
	if (gen_percent(&b->rand, 25))
		s->rflags |= GEN_DF;
	fill_mxcsr(b);
	b->c->flags_undefined = b->row->undefined;
}

bool gen_fill_state(struct build *b)
{
	uint64_t bytes[4];

	gen_fill_registers(b);
	solve_address(b);
	for (int i = 0; i < 4; i++)
		bytes[i] = b->row->kind >= GEN_FLOAT ? lane(b) : gen_integer(&b->rand);
	if (b->memory >= 0)
		poke(b, 0, b->target, bytes, 32);
	b->c->pieces = b->memory >= 0 && (b->memory_size > 16 || b->memory_size == 14);
	return fill_kind(b);
}

void gen_pattern(uint64_t seed, uint8_t pattern[GEN_DATA_SIZE])
{
	struct gen_rand r = { seed };

	for (unsigned int i = 0; i < GEN_DATA_SIZE; i++)
		pattern[i] = i / 128 % 3 == 1 ? 0 : (uint8_t)gen_next(&r);
	for (unsigned int i = 0; i < GEN_PAGE; i++)
		if (!gen_percent(&r, 1))
			pattern[GEN_PAGE + i] = pattern[i];
}

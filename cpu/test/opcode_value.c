/* SPDX-License-Identifier: MIT */
/* What is in the registers and in memory: for each operand values of its own type. */
#include "opcode_int.h"
#include "gen_corner.h"

#include <string.h>

/* The width of an operand's floating-point elements in bits, or 0. */
static unsigned int float_bits(const ZydisDecodedOperand *o)
{
	switch (o->element_type) {
	case ZYDIS_ELEMENT_TYPE_FLOAT16:
		return 16;
	case ZYDIS_ELEMENT_TYPE_FLOAT32:
		return 32;
	case ZYDIS_ELEMENT_TYPE_FLOAT64:
		return 64;
	default:
		return 0;
	}
}

/* @near: another operand of the same case. */
static void fill_floats(struct opcode_build *c, uint8_t bytes[64], const uint8_t near[64], unsigned int bits)
{
	for (unsigned int i = 0; i < 64; i += bits / 8) {
		uint64_t other = 0, v;

		memcpy(&other, near + i, bits / 8);
		v = gen_corner(&c->b.rand, bits, other);
		memcpy(bytes + i, &v, bits / 8);
	}
}

static void fill_integers(struct opcode_build *c, uint8_t bytes[64])
{
	bool same = gen_percent(&c->b.rand, 10);
	uint64_t v = gen_lane(&c->b.rand);

	for (unsigned int i = 0; i < 64; i += 8) {
		memcpy(bytes + i, &v, 8);
		if (!same)
			v = gen_lane(&c->b.rand);
	}
	if (gen_percent(&c->b.rand, 5))
		memset(bytes, gen_percent(&c->b.rand, 50) ? 0 : 0xff, 64);
}

static void fill_extended(struct opcode_build *c, uint8_t bytes[64])
{
	uint16_t exponent = gen_corner_extended(&c->b.rand);
	uint64_t fraction = gen_corner_fraction(&c->b.rand, 63);

	fill_integers(c, bytes);
	if ((exponent & 0x7fff) != 0 && !gen_percent(&c->b.rand, 5))
		fraction |= UINT64_C(1) << 63;
	memcpy(bytes, &fraction, sizeof(fraction));
	memcpy(bytes + sizeof(fraction), &exponent, sizeof(exponent));
}

static void fill_operand(struct opcode_build *c, const ZydisDecodedOperand *o, uint8_t bytes[64],
                         const uint8_t near[64])
{
	unsigned int bits = float_bits(o);

	if (o->element_type == ZYDIS_ELEMENT_TYPE_FLOAT80)
		fill_extended(c, bytes);
	else if (bits && !gen_percent(&c->b.rand, 3))
		fill_floats(c, bytes, near, bits);
	else
		fill_integers(c, bytes);
}

static uint64_t mask(struct gen_rand *r)
{
	uint64_t v = gen_next(r);

	switch (v % 8) {
	case 0:
		return 0;
	case 1:
	case 2:
		return ~UINT64_C(0);
	case 3:
		return UINT64_C(1) << (v >> 8) % 64;
	case 4: /* the first n elements */
		return (UINT64_C(1) << (v >> 8) % 64) - 1;
	default:
		return gen_next(r);
	}
}

void opcode_fill_vectors(struct opcode_build *c)
{
	struct gen_state *s = &c->b.c->in;
	const uint8_t *near = s->v[0].byte;
	unsigned int size;

	for (unsigned int i = 0; i < 32; i++)
		for (unsigned int q = 0; q < 8; q++)
			s->v[i].q[q] = gen_next(&c->b.rand);
	for (unsigned int i = 0; i < 8; i++)
		s->k[i] = mask(&c->b.rand);
	for (unsigned int i = 0; i < c->z.operand_count; i++) {
		int v = c->o[i].type == ZYDIS_OPERAND_TYPE_REGISTER ? opcode_vector(c->o[i].reg.value, &size) : -1;

		if (v < 0)
			continue;
		fill_operand(c, &c->o[i], s->v[v].byte, near);
		near = s->v[v].byte;
	}
}

/* Writes of the data area that are not in its read-write pages are cut off. */
static void poke(struct opcode_build *c, uint64_t linear, const uint8_t bytes[64], unsigned int size)
{
	struct gen_poke *p = &c->b.c->poke[0];

	if (linear < GEN_DATA || linear >= GEN_DATA + GEN_DATA_RW)
		return;
	p->offset = (uint32_t)(linear - GEN_DATA);
	p->size = size < GEN_DATA_RW - p->offset ? size : GEN_DATA_RW - p->offset;
	memcpy(p->bytes, bytes, p->size);
}

void opcode_fill_memory(struct opcode_build *c)
{
	const struct gen_state *s = &c->b.c->in;
	const uint8_t *near = s->v[0].byte;
	uint8_t bytes[64];
	unsigned int size;

	if (c->memory < 0 || c->gather)
		return;
	for (unsigned int i = 0; i < c->z.operand_count; i++)
		if (c->o[i].type == ZYDIS_OPERAND_TYPE_REGISTER && opcode_vector(c->o[i].reg.value, &size) >= 0)
			near = s->v[opcode_vector(c->o[i].reg.value, &size)].byte;
	fill_operand(c, &c->o[c->memory], bytes, near);
	poke(c, c->b.target, bytes, c->b.memory_size < 64 ? c->b.memory_size : 64);
	c->b.c->pieces = c->masked || c->b.memory_size > 16 || c->b.memory_size == 14;
}

/* Rounding, flushing, flags and masks of MXCSR. LDMXCSR finds such values in memory. */
static uint32_t mxcsr(struct gen_rand *r)
{
	uint64_t v = gen_next(r);
	uint32_t m = 0x1f80 | (uint32_t)(v & 3) << 13;

	if (v >> 2 & 1)
		m |= (uint32_t)gen_next(r) & 0x3f;
	if ((v >> 3 & 7) == 0)
		m |= 0x8000; /* FTZ */
	if ((v >> 6 & 7) == 0)
		m |= 0x40; /* DAZ */
	switch (v >> 9 & 15) {
	case 0:
		return m & ~0x1f80u;
	case 1:
	case 2:
		return m & ~(0x80u << (v >> 16) % 6);
	case 3:
		return m & ~((uint32_t)gen_next(r) & 0x1f80);
	default:
		return m;
	}
}

void opcode_fill_control(struct opcode_build *c)
{
	uint8_t bytes[64] = { 0 };
	uint32_t value = mxcsr(&c->b.rand);

	c->b.c->in.mxcsr = mxcsr(&c->b.rand);
	if (c->z.mnemonic == ZYDIS_MNEMONIC_LDMXCSR || c->z.mnemonic == ZYDIS_MNEMONIC_VLDMXCSR) {
		if (gen_percent(&c->b.rand, 10))
			value ^= 0x80000000;
		memcpy(bytes, &value, sizeof(value));
		poke(c, c->b.target, bytes, 4);
	}
}

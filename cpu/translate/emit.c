/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "cpu/translate/emit.h"

void emit_bytes(struct emit *e, const void *bytes, size_t n)
{
	memcpy(e->at, bytes, n);
	e->at += n;
}

void emit_32(struct emit *e, uint32_t value)
{
	emit_bytes(e, &value, sizeof(value));
}

void emit_64(struct emit *e, uint64_t value)
{
	emit_bytes(e, &value, sizeof(value));
}

/* The ModRM byte says which displacement follows. RBP and R13 have no form without one. */
static unsigned place_mod(unsigned base, int32_t disp)
{
	if (disp == 0 && (base & 7) != H_RBP)
		return 0;
	return disp >= -128 && disp <= 127 ? 1 : 2;
}

static void put_displacement(struct emit *e, unsigned mod, int32_t disp)
{
	if (mod == 1)
		EMIT(e, (uint8_t)disp);
	else if (mod == 2)
		emit_32(e, (uint32_t)disp);
}

void emit_place(struct emit *e, unsigned reg, unsigned base, int32_t disp)
{
	unsigned mod = place_mod(base, disp);

	EMIT(e, (uint8_t)(mod << 6 | (reg & 7) << 3 | (base & 7)));
	if ((base & 7) == H_RSP)
		EMIT(e, 0x24); /* a SIB byte without index */
	put_displacement(e, mod, disp);
}

void emit_place_indexed(struct emit *e, unsigned reg, unsigned base, unsigned index, unsigned scale, int32_t disp)
{
	unsigned mod = place_mod(base, disp);

	EMIT(e, (uint8_t)(mod << 6 | (reg & 7) << 3 | 4), (uint8_t)(scale << 6 | (index & 7) << 3 | (base & 7)));
	put_displacement(e, mod, disp);
}

static void put_rex(struct emit *e, bool wide, unsigned reg, unsigned index, unsigned base)
{
	uint8_t rex = (uint8_t)((wide ? 8 : 0) | (reg >> 3) << 2 | (index >> 3) << 1 | base >> 3);

	if (rex != 0)
		EMIT(e, 0x40 | rex);
}

void emit_reg_mem(struct emit *e, bool wide, uint8_t opcode, unsigned reg, unsigned base, int32_t disp)
{
	put_rex(e, wide, reg, 0, base);
	EMIT(e, opcode);
	emit_place(e, reg, base, disp);
}

void emit_reg_indexed(struct emit *e, bool wide, uint8_t opcode, unsigned reg, unsigned base, unsigned index,
                      unsigned scale, int32_t disp)
{
	put_rex(e, wide, reg, index, base);
	EMIT(e, opcode);
	emit_place_indexed(e, reg, base, index, scale, disp);
}

void emit_reg_reg(struct emit *e, bool wide, uint8_t opcode, unsigned reg, unsigned rm)
{
	put_rex(e, wide, reg, 0, rm);
	EMIT(e, opcode, (uint8_t)(0xc0 | (reg & 7) << 3 | (rm & 7)));
}

void emit_mov(struct emit *e, unsigned to, unsigned from)
{
	if (to != from)
		emit_reg_reg(e, true, 0x89, from, to);
}

void emit_load(struct emit *e, unsigned to, unsigned base, int32_t disp)
{
	emit_reg_mem(e, true, 0x8b, to, base, disp);
}

void emit_store(struct emit *e, unsigned base, int32_t disp, unsigned from)
{
	emit_reg_mem(e, true, 0x89, from, base, disp);
}

void emit_lea(struct emit *e, unsigned to, unsigned base, int32_t disp)
{
	if (disp == 0)
		emit_mov(e, to, base);
	else
		emit_reg_mem(e, true, 0x8d, to, base, disp);
}

void emit_mov_constant(struct emit *e, unsigned to, uint64_t value)
{
	if (value <= UINT32_MAX) {
		put_rex(e, false, 0, 0, to);
		EMIT(e, (uint8_t)(0xb8 | (to & 7)));
		emit_32(e, (uint32_t)value);
	} else if ((uint64_t)(int64_t)(int32_t)value == value) {
		emit_reg_reg(e, true, 0xc7, 0, to);
		emit_32(e, (uint32_t)value);
	} else {
		put_rex(e, true, 0, 0, to);
		EMIT(e, (uint8_t)(0xb8 | (to & 7)));
		emit_64(e, value);
	}
}

void emit_aim(const struct emit *e, uint8_t *displacement, const void *to)
{
	int32_t distance = (int32_t)((const uint8_t *)to - (displacement + e->to_run + 4));

	memcpy(displacement, &distance, sizeof(distance));
}

static uint8_t *put_distance(struct emit *e, const void *to)
{
	uint8_t *displacement = e->at;

	emit_32(e, 0);
	if (to != NULL)
		emit_aim(e, displacement, to);
	return displacement;
}

uint8_t *emit_jmp(struct emit *e, const void *to)
{
	EMIT(e, 0xe9);
	return put_distance(e, to);
}

uint8_t *emit_jcc(struct emit *e, unsigned condition, const void *to)
{
	EMIT(e, 0x0f, (uint8_t)(0x80 | condition));
	return put_distance(e, to);
}

uint8_t *emit_call(struct emit *e, const void *to)
{
	EMIT(e, 0xe8);
	return put_distance(e, to);
}

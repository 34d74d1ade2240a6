/* SPDX-License-Identifier: MIT */
/* Where the memory operand points: mostly into the middle of the data, sometimes over the edge of a page. */
#include "opcode_int.h"

#include <string.h>

int opcode_vector(ZydisRegister r, unsigned int *bytes)
{
	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_XMM:
		*bytes = 16;
		return r - ZYDIS_REGISTER_XMM0;
	case ZYDIS_REGCLASS_YMM:
		*bytes = 32;
		return r - ZYDIS_REGISTER_YMM0;
	case ZYDIS_REGCLASS_ZMM:
		*bytes = 64;
		return r - ZYDIS_REGISTER_ZMM0;
	default:
		return -1;
	}
}

static uint64_t pick_target(struct opcode_build *c, unsigned int size)
{
	struct gen_rand *r = &c->b.rand;
	uint64_t t = GEN_DATA + 64 + gen_below(r, GEN_DATA_RW - 256), over = gen_below(r, size + 1);

	switch (gen_below(r, 32)) {
	case 0: /* across the two read-write pages */
	case 1:
		return GEN_DATA + GEN_PAGE - over;
	case 2: /* into the read-only page */
	case 3:
		return GEN_DATA + GEN_DATA_RW - over;
	case 4: /* into nothing */
	case 5:
		return GEN_DATA + GEN_DATA_SIZE - over;
	case 6: /* begins in nothing */
		return GEN_DATA - gen_below(r, 2 * size + 1);
	case 7: /* a page end at a legal alignment */
		return (GEN_DATA + GEN_PAGE * (1 + gen_below(r, 3)) - over) & ~UINT64_C(15);
	case 8:
		if (c->b.c->bits == 64 && c->z.address_width == 64)
			return UINT64_C(0x00008000deadbee0) + t;
		return t;
	default:
		return gen_percent(r, 75) ? t & ~UINT64_C(63) : gen_percent(r, 50) ? t & ~UINT64_C(15) : t;
	}
}

static int gpr_number(ZydisRegister r)
{
	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_GPR16:
		return r - ZYDIS_REGISTER_AX;
	case ZYDIS_REGCLASS_GPR32:
		return r - ZYDIS_REGISTER_EAX;
	case ZYDIS_REGCLASS_GPR64:
		return r - ZYDIS_REGISTER_RAX;
	default:
		return -1;
	}
}

static uint64_t register_value(const struct opcode_build *c, int reg, unsigned int bytes)
{
	return reg < 0 ? 0 : c->b.c->in.gpr[reg] & gen_mask(bytes);
}

static void set_register(struct opcode_build *c, int reg, unsigned int bytes, uint64_t value)
{
	uint64_t m = gen_mask(bytes), *r = &c->b.c->in.gpr[reg];

	*r = (*r & ~m) | (value & m);
}

/* Without a base the displacement decides. It is 32 bits, or 16. */
static bool set_displacement(struct opcode_build *c, uint64_t value)
{
	unsigned int bytes = c->z.raw.disp.size / 8;

	if (bytes != 4 && bytes != 2)
		return false;
	memcpy(c->b.c->bytes + c->z.raw.disp.offset, &value, bytes);
	return bytes == 2 || c->z.address_width == 32 || (uint64_t)(int32_t)value == value;
}

static bool point_plain(struct opcode_build *c, uint64_t offset)
{
	const ZydisDecodedOperandMem *m = &c->o[c->memory].mem;
	unsigned int bytes = c->z.address_width / 8;
	int base = gpr_number(m->base), index = gpr_number(m->index);
	uint64_t indexed;

	/* The kernel keeps 16 bits of a stack pointer in 16-bit code. */
	if (c->b.c->bits == 16 && (base == RSP || index == RSP))
		return false;
	if (m->base == ZYDIS_REGISTER_RIP || m->base == ZYDIS_REGISTER_EIP)
		return set_displacement(c, offset - (c->b.c->in.rip + c->z.length));
	if (base < 0 && index >= 0)
		set_register(c, index, bytes, gen_below(&c->b.rand, 0x1000));
	indexed = register_value(c, index, bytes) * m->scale;
	if (base < 0)
		return set_displacement(c, offset - indexed);
	if (base == index) {
		if (m->scale != 1 || ((offset - (uint64_t)m->disp.value) & 1))
			return false;
		set_register(c, base, bytes, (offset - (uint64_t)m->disp.value) / 2);
		return true;
	}
	set_register(c, base, bytes, offset - (uint64_t)m->disp.value - indexed);
	return true;
}

/* An element that faults, reading or writing or both. */
static uint64_t pick_fault(struct opcode_build *c)
{
	uint64_t over = gen_below(&c->b.rand, 8);

	switch (gen_below(&c->b.rand, 4)) {
	case 0:
		return GEN_DATA + GEN_DATA_SIZE - over;
	case 1:
		return GEN_DATA - over;
	case 2:
		return GEN_DATA + GEN_DATA_RW + gen_below(&c->b.rand, GEN_PAGE - 8);
	default:
		return pick_target(c, 8);
	}
}

/* The base is somewhere near the data. Each index is the way from there to a target of its own. */
static bool point_gather(struct opcode_build *c, uint64_t segment)
{
	const ZydisDecodedOperandMem *m = &c->o[c->memory].mem;
	unsigned int bytes = c->z.address_width / 8, index_bytes = c->z.opcode & 1 ? 8 : 4, size;
	uint64_t anchor = GEN_DATA + gen_below(&c->b.rand, GEN_DATA_RW) - segment, target, index;
	int base = gpr_number(m->base), v = opcode_vector(m->index, &size);
	bool faults = gen_percent(&c->b.rand, 40);

	if (base >= 0)
		set_register(c, base, bytes, anchor - (uint64_t)m->disp.value);
	else if (!set_displacement(c, anchor))
		return false;
	if (v < 0)
		return false;
	for (unsigned int i = 0; i < 64; i += index_bytes) {
		target = GEN_DATA + gen_below(&c->b.rand, GEN_DATA_RW - 8);
		if (faults && gen_percent(&c->b.rand, 30))
			target = pick_fault(c);
		/* So far an index of 32 bits does not reach. It would hit the kernel, of which the two sides differ. */
		if (index_bytes == 4 && target > UINT32_MAX)
			target = GEN_DATA - 8;
		index = (uint64_t)((int64_t)(target - segment - anchor) / (int64_t)m->scale);
		memcpy(c->b.c->in.v[v].byte + i, &index, index_bytes);
	}
	return true;
}

bool opcode_point(struct opcode_build *c)
{
	const ZydisDecodedOperandMem *m = &c->o[c->memory].mem;
	uint64_t segment = m->segment == ZYDIS_REGISTER_GS && c->b.c->bits == 64 ? GEN_GS_BASE : c->b.data_base;

	if (m->segment == ZYDIS_REGISTER_FS || m->segment == ZYDIS_REGISTER_CS)
		return false;
	c->b.memory_size = c->o[c->memory].size / 8;
	if (c->b.memory_size == 0 || c->b.memory_size > 512)
		c->b.memory_size = 64;
	if (c->gather)
		return point_gather(c, segment);
	c->b.target = pick_target(c, c->b.memory_size);
	return point_plain(c, c->b.target - segment);
}

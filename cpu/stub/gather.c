/* SPDX-License-Identifier: MIT */
/*
 * Gathers and scatters: a vector of addresses, an access for each element whose mask is set.
 *
 * An element's mask is cleared when its access is done. So a fault leaves a vector that is done in part, and the
 * instruction goes on with the rest when it is run again. Elements come in the order of their numbers: of two that
 * write to one place, the later one stays. The mask of an AVX2 gather is a vector register, whose elements' top bits
 * count; that of AVX-512 is a mask register.
 */
#include "cpu/stub/gather.h"

#include "cpu/stub/stub.h"

/* What gather_select makes of a struct op. */
#define DATA(op)       ((op)->reg[0]) /* vector register */
#define MASK(op)       ((op)->reg[1]) /* vector or mask register */
#define INDEX(op)      ((op)->reg[2]) /* vector register */
#define ELEMENT(op)    ((op)->size)   /* bytes */
#define COUNT(op)      ((op)->size2)  /* of elements */
#define INDEX_BYTES(op) ((op)->sub)   /* 4 or 8 */

static uint64_t element_linear(struct cpu *cpu, const struct op *op, unsigned i, bool write)
{
	const uint8_t *at = cpu->s.vectors.v[INDEX(op)] + i * INDEX_BYTES(op);
	uint64_t index, ea;
	int32_t narrow;

	if (INDEX_BYTES(op) == 8) {
		memcpy(&index, at, 8);
	} else {
		memcpy(&narrow, at, 4);
		index = (uint64_t)(int64_t)narrow;
	}
	ea = reg_read(cpu, op->base, 8) + (index << op->scale) + (uint64_t)op->disp;
	if (likely(op->flags & OPF_FLAT))
		return ea;
	return seg_linear(cpu, op->seg, op->asize == 4 ? (uint32_t)ea : ea, ELEMENT(op), write);
}

static void clear_above(struct cpu *cpu, unsigned reg, unsigned bytes)
{
	memset(cpu->s.vectors.v[reg] + bytes, 0, sizeof(cpu->s.vectors.v[reg]) - bytes);
}

static void element_load(struct cpu *cpu, const struct op *op, unsigned i)
{
	uint64_t tag = mem_alignment_off(cpu), value = mem_read(cpu, element_linear(cpu, op, i, false), ELEMENT(op));

	mem_alignment_on(cpu, tag);
	memcpy(cpu->s.vectors.v[DATA(op)] + i * ELEMENT(op), &value, ELEMENT(op));
}

/* As AMD's processors have it, what is above the vector is 0 from the first element on. */
static void element_load_avx512(struct cpu *cpu, const struct op *op, unsigned i)
{
	unsigned widest = INDEX_BYTES(op) > ELEMENT(op) ? INDEX_BYTES(op) : ELEMENT(op);

	element_load(cpu, op, i);
	clear_above(cpu, DATA(op), COUNT(op) * widest);
}

/* As AMD's processors have it, the alignment of elements is not checked. */
static void element_store(struct cpu *cpu, const struct op *op, unsigned i)
{
	uint64_t tag = mem_alignment_off(cpu), value = 0;

	memcpy(&value, cpu->s.vectors.v[DATA(op)] + i * ELEMENT(op), ELEMENT(op));
	mem_write(cpu, element_linear(cpu, op, i, true), ELEMENT(op), value);
	mem_alignment_on(cpu, tag);
}

static void gather_avx2(struct cpu *cpu, const struct op *op)
{
	uint8_t *mask = cpu->s.vectors.v[MASK(op)];

	stub_unit_check(cpu, UNIT_AVX);
	for (unsigned i = 0; i < COUNT(op); i++) {
		uint8_t *element = mask + i * ELEMENT(op);

		bool set = element[ELEMENT(op) - 1] & 0x80;

		if (set)
			element_load(cpu, op, i);
		memset(element, 0, ELEMENT(op));
		if (set)
			element_done(cpu);
	}
	clear_above(cpu, DATA(op), COUNT(op) * ELEMENT(op));
	clear_above(cpu, MASK(op), 0);
}

INLINE void each_element(struct cpu *cpu, const struct op *op, void element(struct cpu *, const struct op *, unsigned))
{
	uint64_t *mask = &cpu->s.vectors.k[MASK(op)];

	stub_unit_check(cpu, UNIT_AVX512);
	for (unsigned i = 0; i < COUNT(op); i++) {
		if (!(*mask >> i & 1))
			continue;
		element(cpu, op, i);
		*mask &= ~(UINT64_C(1) << i);
		element_done(cpu);
	}
	*mask = 0;
}

static void gather_avx512(struct cpu *cpu, const struct op *op)
{
	each_element(cpu, op, element_load_avx512);
	clear_above(cpu, DATA(op), COUNT(op) * ELEMENT(op));
}

static void scatter_avx512(struct cpu *cpu, const struct op *op)
{
	each_element(cpu, op, element_store);
}

/* ---- which instruction it is ------------------------------------------------------------------------------------ */

#define GATHER_FIRST  0x90u /* of the opcodes in map 0F38: by index of 4 and 8 bytes, twice */
#define SCATTER_FIRST 0xa0u

op_fn *gather_select(const struct insn *insn, struct op *op)
{
	const ZydisDecodedInstruction *z = insn->z;
	const ZydisDecodedOperand *data, *mask, *memory;
	bool evex = z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX, scatter;
	unsigned bytes, element;

	if (op->mem == OP_NO_MEM || insn->o[op->mem].mem.type != ZYDIS_MEMOP_TYPE_VSIB)
		return NULL;
	scatter = (z->opcode & ~3u) == SCATTER_FIRST;
	if (!scatter && (z->opcode & ~3u) != GATHER_FIRST)
		return NULL;
	/* In the order in which they are written: data, memory, mask; data, mask, memory; memory, mask, data. */
	memory = &insn->o[op->mem];
	data = &insn->o[scatter ? 2 : 0];
	mask = &insn->o[evex ? 1 : 2];
	element = memory->size / 8u;
	bytes = evex ? 16u << (z->raw.evex.L2 << 1 | z->raw.evex.L) : 16u << z->raw.vex.L;
	op->reg[0] = (uint8_t)ZydisRegisterGetId(data->reg.value);
	op->reg[1] = (uint8_t)ZydisRegisterGetId(mask->reg.value);
	op->reg[2] = (uint8_t)ZydisRegisterGetId(memory->mem.index);
	op->size = (uint8_t)element;
	op->sub = z->opcode & 1 ? 8 : 4;
	op->size2 = (uint8_t)(bytes / (op->sub > element ? op->sub : element));
	op->index = OPR_ZERO;
	if (scatter)
		return scatter_avx512;
	return evex ? gather_avx512 : gather_avx2;
}

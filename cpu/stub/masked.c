/* SPDX-License-Identifier: MIT */
#include "cpu/stub/masked.h"

#include "cpu/stub/stub.h"

/* ---- what the instruction says -------------------------------------------------------------------------------- */

/* How many elements a broadcast makes: of the vector, so of the mask. 0: no broadcast. */
static unsigned broadcast_elements(ZydisBroadcastMode mode)
{
	switch (mode) {
	case ZYDIS_BROADCAST_MODE_1_TO_2: return 2;
	case ZYDIS_BROADCAST_MODE_1_TO_4:
	case ZYDIS_BROADCAST_MODE_2_TO_4: return 4;
	case ZYDIS_BROADCAST_MODE_1_TO_8:
	case ZYDIS_BROADCAST_MODE_2_TO_8:
	case ZYDIS_BROADCAST_MODE_4_TO_8: return 8;
	case ZYDIS_BROADCAST_MODE_1_TO_16:
	case ZYDIS_BROADCAST_MODE_2_TO_16:
	case ZYDIS_BROADCAST_MODE_4_TO_16:
	case ZYDIS_BROADCAST_MODE_8_TO_16: return 16;
	case ZYDIS_BROADCAST_MODE_1_TO_32: return 32;
	case ZYDIS_BROADCAST_MODE_1_TO_64: return 64;
	default: return 0;
	}
}

static bool is_packed(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_VCOMPRESSPS: case ZYDIS_MNEMONIC_VCOMPRESSPD:
	case ZYDIS_MNEMONIC_VPCOMPRESSB: case ZYDIS_MNEMONIC_VPCOMPRESSW:
	case ZYDIS_MNEMONIC_VPCOMPRESSD: case ZYDIS_MNEMONIC_VPCOMPRESSQ:
	case ZYDIS_MNEMONIC_VEXPANDPS: case ZYDIS_MNEMONIC_VEXPANDPD:
	case ZYDIS_MNEMONIC_VPEXPANDB: case ZYDIS_MNEMONIC_VPEXPANDW:
	case ZYDIS_MNEMONIC_VPEXPANDD: case ZYDIS_MNEMONIC_VPEXPANDQ: return true;
	default: return false;
	}
}

static bool is_signs(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_VMASKMOVPS: case ZYDIS_MNEMONIC_VMASKMOVPD:
	case ZYDIS_MNEMONIC_VPMASKMOVD: case ZYDIS_MNEMONIC_VPMASKMOVQ: return true;
	default: return false;
	}
}

static bool has_no_suppression(const ZydisDecodedInstruction *z)
{
	switch (z->meta.exception_class) {
	case ZYDIS_EXCEPTION_CLASS_E1NF: case ZYDIS_EXCEPTION_CLASS_E2NF: case ZYDIS_EXCEPTION_CLASS_E3NF:
	case ZYDIS_EXCEPTION_CLASS_E4NF: case ZYDIS_EXCEPTION_CLASS_E5NF: case ZYDIS_EXCEPTION_CLASS_E6NF:
	case ZYDIS_EXCEPTION_CLASS_E9NF: case ZYDIS_EXCEPTION_CLASS_E10NF: case ZYDIS_EXCEPTION_CLASS_E11NF:
		return true;
	default:
		break;
	}
	/* Processors check their whole operand, which the decoder does not know. test/native_masked.c finds them. */
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_VGF2P8AFFINEQB: case ZYDIS_MNEMONIC_VGF2P8AFFINEINVQB:
	case ZYDIS_MNEMONIC_VCVTNE2PS2BF16: case ZYDIS_MNEMONIC_VDBPSADBW:
		return true;
	default:
		return false;
	}
}

struct masked masked_describe(const struct insn *insn, const ZydisDecodedOperand *o)
{
	const ZydisDecodedInstruction *z = insn->z;
	unsigned element = o->element_size / 8;
	struct masked m = { .kind = MASKED_NOT, .elements = 1 };
	unsigned broadcast;

	m.shift = element == 8 ? 3 : element == 4 ? 2 : element == 2 ? 1 : 0;
	m.elements = (uint8_t)(o->size / 8u >> m.shift);
	if (is_signs(z->mnemonic)) {
		m.kind = MASKED_SIGNS;
		m.reg = (uint8_t)ZydisRegisterGetId(insn->o[1].reg.value);
	} else if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX && z->raw.evex.aaa != 0) {
		m.kind = is_packed(z->mnemonic) ? MASKED_PACKED : MASKED_BITS;
		m.reg = z->raw.evex.aaa;
		m.faults = has_no_suppression(z);
	}
	broadcast = broadcast_elements(z->avx.broadcast.mode);
	m.bits = (uint8_t)(broadcast != 0 ? broadcast : m.elements);
	return m;
}

/* ---- the mask as it is ---------------------------------------------------------------------------------------- */

static uint64_t elements_of_bits(const struct masked *m, uint64_t mask)
{
	uint64_t elements = 0;

	mask &= masked_all(m->bits);
	if (m->kind == MASKED_PACKED)
		return masked_all((unsigned)__builtin_popcountll(mask));
	for (unsigned at = 0; at < m->bits; at += m->elements)
		elements |= mask >> at;
	return elements & masked_all(m->elements);
}

static uint64_t elements_of_signs(const struct masked *m, const uint8_t *vector)
{
	uint64_t elements = 0;

	for (unsigned i = 0; i < m->elements; i++)
		elements |= (uint64_t)(vector[((i + 1) << m->shift) - 1] >> 7) << i;
	return elements;
}

uint64_t masked_bytes(const struct cpu *cpu, const struct masked *m)
{
	uint64_t elements, bytes = 0;

	switch (m->kind) {
	case MASKED_NOT: elements = masked_all(m->elements); break;
	case MASKED_SIGNS: elements = elements_of_signs(m, cpu->s.vectors.v[m->reg]); break;
	default: elements = elements_of_bits(m, cpu->s.vectors.k[m->reg]); break;
	}
	for (unsigned i = 0; i < m->elements; i++)
		if (elements >> i & 1)
			bytes |= masked_all(1u << m->shift) << (i << m->shift);
	return bytes;
}

/* ---- memory ----------------------------------------------------------------------------------------------------- */

struct run {
	unsigned at, size;
};

/* Take the lowest run of set bits out of *bytes, which has one. */
static struct run run_take(uint64_t *bytes)
{
	struct run run = { .at = (unsigned)__builtin_ctzll(*bytes) };
	uint64_t rest = ~(*bytes >> run.at);

	run.size = rest == 0 ? 64 : (unsigned)__builtin_ctzll(rest);
	*bytes &= ~(masked_all(run.size) << run.at);
	return run;
}

/* What lies before the run need not be in the segment. */
static uint64_t run_linear(struct cpu *cpu, const struct op *op, struct run run, bool write)
{
	if (op->flags & OPF_FLAT)
		return op_linear(cpu, op, run.size, write) + run.at;
	return seg_linear(cpu, op->seg, op_ea(cpu, op) + run.at, run.size, write);
}

bool masked_is_aligned(struct cpu *cpu, const struct op *op, uint64_t bytes, unsigned align, bool write)
{
	struct run run;

	if (bytes == 0)
		return true;
	run = run_take(&bytes);
	return ((run_linear(cpu, op, run, write) - run.at) & (align - 1u)) == 0;
}

void masked_read(struct cpu *cpu, const struct op *op, uint64_t bytes, uint8_t *to)
{
	uint64_t check = bytes;

	while (check != 0) {
		struct run run = run_take(&check);

		mem_check_read(cpu, run_linear(cpu, op, run, false), run.size);
	}
	while (bytes != 0) {
		struct run run = run_take(&bytes);

		mem_read_bytes(cpu, run_linear(cpu, op, run, false), to + run.at, run.size);
	}
}

void masked_check_write(struct cpu *cpu, const struct op *op, uint64_t bytes)
{
	while (bytes != 0) {
		struct run run = run_take(&bytes);

		mem_check_write(cpu, run_linear(cpu, op, run, true), run.size);
	}
}

void masked_write(struct cpu *cpu, const struct op *op, uint64_t bytes, const uint8_t *from)
{
	masked_check_write(cpu, op, bytes);
	while (bytes != 0) {
		struct run run = run_take(&bytes);

		mem_write_bytes(cpu, run_linear(cpu, op, run, true), from + run.at, run.size);
	}
}

/* ---- VMASKMOVDQU ------------------------------------------------------------------------------------------------ */

/* As AMD's processors have it, the whole operand must be writable, whatever the mask is. */
static void vmaskmovdqu(struct cpu *cpu, const struct op *op)
{
	struct masked m = { .kind = MASKED_SIGNS, .reg = op->reg[1], .elements = 16 };
	const struct run whole = { 0, 16 };
	uint64_t tag;

	stub_unit_check(cpu, UNIT_AVX);
	mem_check_alignment(cpu, run_linear(cpu, op, whole, true), 8);
	tag = mem_alignment_off(cpu);
	masked_check_write(cpu, op, masked_all(16));
	masked_write(cpu, op, masked_bytes(cpu, &m), cpu->s.vectors.v[op->reg[0]]);
	mem_alignment_on(cpu, tag);
}

op_fn *masked_select(const struct insn *insn, struct op *op)
{
	const ZydisDecodedOperand *memory = &insn->o[2];

	if (insn->z->mnemonic != ZYDIS_MNEMONIC_VMASKMOVDQU)
		return NULL;
	op->base = OPR(CPU_RDI);
	op->seg = (uint8_t)(memory->mem.segment - ZYDIS_REGISTER_ES);
	if (insn->bits == 64 && op->asize == 8 && op->seg != CPU_FS && op->seg != CPU_GS)
		op->flags |= OPF_FLAT;
	return vmaskmovdqu;
}

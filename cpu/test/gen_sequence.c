/* SPDX-License-Identifier: MIT */
/*
 * Sequences of instructions. They show how one instruction takes over the flags of another, which single instructions
 * cannot: the software CPU keeps flags in a form of its own.
 *
 * A flag that an instruction leaves undefined must not be read before it is defined again. This file tracks that,
 * with what Zydis says about the flags that an instruction reads and writes.
 */
#include "gen_build.h"

#include <string.h>

#define STEPS 10

static bool is_usable(const struct gen_row *row, unsigned int bits)
{
	if (!gen_row_has(row, bits))
		return false;
	switch (row->mnemonic) {
	case ZYDIS_MNEMONIC_UD2:
	case ZYDIS_MNEMONIC_AAM: /* may divide by zero */
	case ZYDIS_MNEMONIC_LZCNT:
	case ZYDIS_MNEMONIC_TZCNT:
	case ZYDIS_MNEMONIC_POPCNT:
	case ZYDIS_MNEMONIC_MOVBE:
		return false;
	default:
		break;
	}
	return row->kind == GEN_PLAIN || row->kind == GEN_SHIFT || row->kind == GEN_ROTATE;
}

static const struct gen_row *pick_row(struct build *b)
{
	const struct gen_row *row;

	do {
		row = &gen_table_int.row[gen_below(&b->rand, gen_table_int.count)];
	} while (!is_usable(row, b->c->bits));
	return row;
}

static unsigned int pick_size(struct build *b)
{
	unsigned int size;

	if (b->row->sizes == 0)
		return 0;
	do {
		size = 1u << gen_below(&b->rand, b->mode32 ? 3 : 4);
	} while (!(b->row->sizes & size));
	return size;
}

/* Update the set of undefined flags for an instruction. Returns: false when the instruction reads one of them. */
static bool undefined_after(const struct build *b, uint64_t *undefined)
{
	ZydisDecoder decoder;
	ZydisDecodedInstruction z;
	uint64_t written;

	ZydisDecoderInit(&decoder, b->req.machine_mode, b->mode32 ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_64);
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, NULL, b->c->bytes, b->c->length, &z)))
		return false;
	if (z.cpu_flags->tested & *undefined)
		return false;
	written = z.cpu_flags->modified | z.cpu_flags->set_0 | z.cpu_flags->set_1;
	if (b->row->kind == GEN_PLAIN) {
		*undefined = (*undefined & ~written) | b->row->undefined;
	} else if (b->req.operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER) {
		/* CL may hold any count. A count of zero writes no flag. */
		*undefined |= gen_shift_undefined(b, b->size * 8);
	} else {
		unsigned int count = b->immediate & (b->size == 8 ? 63 : 31);

		if (b->row->kind == GEN_SHIFT && count != 0)
			*undefined &= ~written;
		*undefined |= gen_shift_undefined(b, count);
	}
	return true;
}

bool gen_sequence(uint64_t seed, unsigned int bits, unsigned int number, unsigned int slot, struct gen_case *out)
{
	struct build b = { .in_sequence = true };
	struct gen_case one = { .bits = bits };
	uint64_t undefined = 0;

	b.rand.state = seed;
	b.rand.state = gen_next(&b.rand) ^ number;
	b.rand.state = gen_next(&b.rand) ^ bits;
	gen_build_init(&b, out, bits);
	gen_place(&b, out, slot);
	b.row = pick_row(&b);
	gen_fill_registers(&b);
	b.c = &one;
	for (int attempt = 0, steps = 0; steps < STEPS && attempt < 200; attempt++) {
		one.in.rip = out->in.rip + out->length;
		b.row = pick_row(&b);
		b.size = pick_size(&b);
		if (!gen_choose_instruction(&b) || out->length + one.length > GEN_BYTES ||
		    !undefined_after(&b, &undefined))
			continue;
		memcpy(out->bytes + out->length, one.bytes, one.length);
		out->length += one.length;
		steps++;
	}
	out->flags_undefined = undefined;
	return out->length > 0;
}

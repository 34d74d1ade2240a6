/* SPDX-License-Identifier: MIT */
/* The bytes of a form, and the search for forms: every encoding is decoded, in 64-bit code. */
#include "opcode.h"

#include <stdlib.h>
#include <string.h>

static unsigned int put_legacy(const struct opcode_form *f, const struct opcode_fields *v, unsigned int bits,
                               uint8_t *out)
{
	static const uint8_t prefix[6][2] = { { 0 }, { 0x66 }, { 0xf3 }, { 0xf2 }, { 0x66, 0xf3 }, { 0x66, 0xf2 } };
	uint8_t rex = (uint8_t)(f->w << 3 | v->r << 2 | v->x << 1 | v->b);
	unsigned int n = 0;

	for (unsigned int i = 0; i < 2; i++)
		if (prefix[f->pp][i])
			out[n++] = prefix[f->pp][i];
	if (rex && bits != 64)
		return 0;
	if (rex)
		out[n++] = 0x40 | rex;
	if (f->map >= 1)
		out[n++] = 0x0f;
	if (f->map >= 2)
		out[n++] = f->map == 2 ? 0x38 : 0x3a;
	return n;
}

/* Outside 64-bit code these bytes are LDS, LES and BOUND unless the first two bits are set. */
static unsigned int put_vex(const struct opcode_form *f, const struct opcode_fields *v, unsigned int bits,
                            uint8_t *out)
{
	uint8_t last = (uint8_t)((~v->vvvv & 15) << 3 | f->l << 2 | f->pp);

	if (bits != 64 && (v->r || v->x))
		return 0;
	if (f->map == 1 && !f->w && !v->x && !v->b && (v->tail[7] & 1)) {
		out[0] = 0xc5;
		out[1] = (uint8_t)(!v->r << 7) | last;
		return 2;
	}
	out[0] = 0xc4;
	out[1] = (uint8_t)(!v->r << 7 | !v->x << 6 | !v->b << 5 | f->map);
	out[2] = (uint8_t)(f->w << 7) | last;
	return 3;
}

static unsigned int put_evex(const struct opcode_form *f, const struct opcode_fields *v, unsigned int bits,
                             uint8_t *out)
{
	if (bits != 64 && (v->r || v->x))
		return 0;
	out[0] = 0x62;
	out[1] = (uint8_t)(!v->r << 7 | !v->x << 6 | !v->b << 5 | !v->r2 << 4 | f->map);
	out[2] = (uint8_t)(f->w << 7 | (~v->vvvv & 15) << 3 | 4 | f->pp);
	out[3] = (uint8_t)(v->z << 7 | f->l << 5 | f->b << 4 | !v->v2 << 3 | v->aaa);
	return 4;
}

unsigned int opcode_bytes(const struct opcode_form *f, const struct opcode_fields *v, unsigned int bits,
                          uint8_t bytes[24])
{
	unsigned int n = 0, prefix;

	if (v->segment)
		bytes[n++] = v->segment;
	if (v->address_size)
		bytes[n++] = 0x67;
	prefix = f->space == OPCODE_LEGACY ? put_legacy(f, v, bits, bytes + n)
		 : f->space == OPCODE_VEX  ? put_vex(f, v, bits, bytes + n)
					   : put_evex(f, v, bits, bytes + n);
	if (prefix == 0 && (f->space != OPCODE_LEGACY || f->map != 0 || f->w || v->r || v->x || v->b))
		return 0;
	n += prefix;
	bytes[n++] = f->opcode;
	bytes[n++] = (uint8_t)(v->mod << 6 | v->reg << 3 | v->rm);
	if (v->mod != 3 && v->rm == 4)
		bytes[n++] = v->sib;
	memcpy(bytes + n, v->tail, sizeof(v->tail));
	return n + sizeof(v->tail);
}

/* ---- the search -------------------------------------------------------------------------------------------- */

/* Operands that some form must or must not have: vvvv, and a mask. They differ, for gathers. */
static const struct opcode_fields tried[] = {
	{ .sib = 0x08 }, { .sib = 0x08, .vvvv = 2 }, { .sib = 0x08, .aaa = 1 }, { .sib = 0x08, .vvvv = 2, .aaa = 1 },
};

static bool try_form(const ZydisDecoder *decoder, struct opcode_form *f, unsigned int reg, unsigned int rm)
{
	unsigned int variants = f->space == OPCODE_LEGACY ? 1 : f->space == OPCODE_VEX ? 2 : 4;
	ZydisDecodedInstruction z;
	uint8_t bytes[24] = { 0 };

	for (unsigned int i = 0; i < variants; i++) {
		struct opcode_fields v = tried[i];

		v.mod = f->memory ? 0 : 3;
		v.reg = (uint8_t)reg;
		v.rm = (uint8_t)(f->memory ? 4 : rm);
		opcode_bytes(f, &v, 64, bytes);
		if (ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(decoder, NULL, bytes, 15, &z))) {
			f->mnemonic = z.mnemonic;
			f->set = z.meta.isa_set;
			return true;
		}
	}
	f->mnemonic = ZYDIS_MNEMONIC_INVALID;
	f->set = ZYDIS_ISA_SET_INVALID;
	return false;
}

struct search {
	ZydisDecoder decoder;
	struct opcode_list *list;
	size_t room;
	bool (*wanted)(ZydisISASet set);
};

static void add(struct search *s, const struct opcode_form *f)
{
	if (s->list->forms == s->room) {
		s->room = s->room ? 2 * s->room : 4096;
		s->list->form = realloc(s->list->form, s->room * sizeof(*f));
		if (!s->list->form)
			abort();
	}
	s->list->form[s->list->forms++] = *f;
}

/* One form if every value of ModRM.reg is the same instruction, otherwise one for each. */
static void search_reg(struct search *s, const struct opcode_form *base, unsigned int rm)
{
	struct opcode_form f[8];
	bool same = true;

	for (unsigned int reg = 0; reg < 8; reg++) {
		f[reg] = *base;
		f[reg].reg = (uint8_t)reg;
		f[reg].rm = (uint8_t)rm;
		try_form(&s->decoder, &f[reg], reg, rm == OPCODE_ANY ? 0 : rm);
		same = same && f[reg].mnemonic == f[0].mnemonic && f[reg].set == f[0].set;
	}
	if (same)
		f[0].reg = OPCODE_ANY;
	for (unsigned int reg = 0; reg < (same ? 1 : 8); reg++)
		if (f[reg].mnemonic != ZYDIS_MNEMONIC_INVALID && s->wanted(f[reg].set))
			add(s, &f[reg]);
}

static void search_opcodes(struct search *s, struct opcode_form f)
{
	unsigned int first = f.map == 0 ? 0xd8 : 0, last = f.map == 0 ? 0xdf : 0xff;

	for (unsigned int opcode = first; opcode <= last; opcode++)
		for (unsigned int memory = 0; memory < 2; memory++) {
			f.opcode = (uint8_t)opcode;
			f.memory = memory;
			/* Among registers of x87 all of ModRM is opcode. */
			for (unsigned int rm = 0; f.map == 0 && !memory && rm < 8; rm++)
				search_reg(s, &f, rm);
			if (f.map != 0 || memory)
				search_reg(s, &f, OPCODE_ANY);
		}
}

static void search_map(struct search *s, struct opcode_form f, unsigned int pp, unsigned int l, unsigned int b)
{
	for (unsigned int i = 0; i < pp * l * b * 2; i++) {
		f.w = i & 1;
		f.b = (uint8_t)(i / 2 % b);
		f.l = (uint8_t)(i / 2 / b % l);
		f.pp = (uint8_t)(i / 2 / b / l);
		search_opcodes(s, f);
	}
}

static int by_set(const void *a, const void *b)
{
	const struct opcode_form *x = a, *y = b;

	return x->set != y->set ? (int)x->set - (int)y->set : (int)x->mnemonic - (int)y->mnemonic;
}

static void make_index(struct opcode_list *list)
{
	list->mnemonic = calloc(list->forms, sizeof(*list->mnemonic));
	list->set = calloc(list->forms, sizeof(*list->set));
	if (!list->mnemonic || !list->set)
		abort();
	for (size_t i = 0; i < list->forms; i++) {
		const struct opcode_form *f = &list->form[i];
		bool new_set = i == 0 || f[-1].set != f->set;

		if (new_set)
			list->set[list->sets++] = (struct opcode_set){ f->set, (uint32_t)list->mnemonics, 0 };
		if (new_set || f[-1].mnemonic != f->mnemonic) {
			list->mnemonic[list->mnemonics++] = (struct opcode_mnemonic){ f->mnemonic, (uint32_t)i, 0 };
			list->set[list->sets - 1].count++;
		}
		list->mnemonic[list->mnemonics - 1].count++;
	}
}

void opcode_list_make(struct opcode_list *list, bool (*wanted)(ZydisISASet set))
{
	/* Maps, prefixes and vector lengths of each encoding; EVEX maps 5 and 6 are half precision. */
	static const struct {
		uint8_t maps, pp, l, b;
	} space[] = { { 0x0f, 6, 1, 1 }, { 0x0e, 4, 2, 1 }, { 0x6e, 4, 4, 2 } };
	struct search s = { .list = list, .wanted = wanted };
	struct opcode_form f = { 0 };

	*list = (struct opcode_list){ 0 };
	ZydisDecoderInit(&s.decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (f.space = 0; f.space < 3; f.space++)
		for (f.map = 0; f.map < 7; f.map++)
			if (space[f.space].maps >> f.map & 1)
				search_map(&s, f, space[f.space].pp, space[f.space].l, space[f.space].b);
	qsort(list->form, list->forms, sizeof(*list->form), by_set);
	make_index(list);
}

void opcode_list_free(struct opcode_list *list)
{
	free(list->form);
	free(list->mnemonic);
	free(list->set);
	*list = (struct opcode_list){ 0 };
}

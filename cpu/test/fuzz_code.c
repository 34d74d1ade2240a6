/* SPDX-License-Identifier: MIT */
/*
 * Random programs. An instruction is random bytes that Zydis takes for one; only its memory operand is chosen, so that
 * it finds memory. A program has parts: branches lead to the beginnings of parts, backward ones as often as a counter
 * in memory allows.
 *
 * Flags that an instruction leaves undefined must not be seen. So what reads them, or might, has an instruction in
 * front of it that defines all, and a part ends with defined flags.
 */
#include "fuzz.h"

#include <stdio.h>
#include <string.h>

#include <Zydis/Zydis.h>

struct decoded {
	ZydisDecodedInstruction z;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
};

static ZydisDecoder decoders[2];

void fuzz_code_init(void)
{
	ZydisDecoderInit(&decoders[0], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisDecoderInit(&decoders[1], ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
}

static bool decode_at(const struct program *p, const uint8_t *bytes, unsigned length, struct decoded *d)
{
	return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoders[p->bits == 32], bytes, length, &d->z, d->o));
}

/* ---- flags ------------------------------------------------------------------------------------------------------- */

static bool is_shift(const struct decoded *d)
{
	return d->z.meta.category == ZYDIS_CATEGORY_SHIFT || d->z.meta.category == ZYDIS_CATEGORY_ROTATE;
}

static uint16_t undefined_after(const struct decoded *d, uint16_t before)
{
	const ZydisAccessedFlags *f = d->z.cpu_flags;

	if (f == NULL)
		return before;
	if (is_shift(d)) /* a count of 0 changes nothing, and one of the operand's size and more leaves CF undefined */
		return before | 0x810 | (d->z.operand_width < 32 ? 1 : 0) | ((uint16_t)f->undefined & ARITHMETIC);
	before &= (uint16_t)~(f->modified | f->set_0 | f->set_1);
	return before | ((uint16_t)f->undefined & ARITHMETIC);
}

/* Does it do nothing with flags but what Zydis says? */
static bool is_simple(const struct decoded *d)
{
	switch (d->z.meta.category) {
	case ZYDIS_CATEGORY_BINARY: case ZYDIS_CATEGORY_LOGICAL: case ZYDIS_CATEGORY_DATAXFER:
	case ZYDIS_CATEGORY_SHIFT: case ZYDIS_CATEGORY_ROTATE: case ZYDIS_CATEGORY_SETCC: case ZYDIS_CATEGORY_CMOV:
	case ZYDIS_CATEGORY_MISC: case ZYDIS_CATEGORY_SSE: case ZYDIS_CATEGORY_CONVERT: case ZYDIS_CATEGORY_BITBYTE:
	case ZYDIS_CATEGORY_X87_ALU: case ZYDIS_CATEGORY_LOGICAL_FP: case ZYDIS_CATEGORY_BMI1:
	case ZYDIS_CATEGORY_BMI2: case ZYDIS_CATEGORY_AVX: case ZYDIS_CATEGORY_AVX2: case ZYDIS_CATEGORY_MMX:
		return true;
	case ZYDIS_CATEGORY_PUSH: case ZYDIS_CATEGORY_POP:
		return d->z.mnemonic == ZYDIS_MNEMONIC_PUSH || d->z.mnemonic == ZYDIS_MNEMONIC_POP;
	default:
		return false;
	}
}

static bool sees(const struct decoded *d, uint16_t undefined)
{
	if (undefined == 0)
		return false;
	if (d->z.cpu_flags != NULL && (d->z.cpu_flags->tested & undefined))
		return true;
	return !is_simple(d) || d->z.mnemonic == ZYDIS_MNEMONIC_LAHF;
}

/* ---- items ------------------------------------------------------------------------------------------------------- */

struct maker {
	struct gen_rand *r;
	struct program *p;
	uint16_t undefined;
	unsigned constants; /* items of the form mov $imm32,%reg */
	uint16_t constant[ITEMS];
};

static struct item *add_item(struct maker *m, const uint8_t *bytes, unsigned length)
{
	struct program *p = m->p;
	struct item *item = &p->item[p->items++];
	struct decoded d;

	*item = (struct item){ .length = (uint8_t)length, .part = (uint16_t)p->parts };
	memcpy(item->bytes, bytes, length);
	if (decode_at(p, bytes, length, &d))
		m->undefined = undefined_after(&d, m->undefined);
	return item;
}
#define ADD(m, ...) add_item(m, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static void define_flags(struct maker *m)
{
	if (m->undefined != 0)
		ADD(m, 0x39, (uint8_t)(0xc0 | gen_below(m->r, 64))); /* cmp */
}

static void add_constant(struct maker *m, unsigned gpr, uint32_t value)
{
	uint8_t bytes[6] = { 0x41, (uint8_t)(0xb8 | (gpr & 7)) };

	memcpy(bytes + 2, &value, 4);
	m->constant[m->constants++] = (uint16_t)m->p->items;
	add_item(m, gpr < 8 ? bytes + 1 : bytes, gpr < 8 ? 5 : 6);
}

static uint32_t pick_address(struct gen_rand *r)
{
	/* Often the same page, so that accesses find it in the TLB. */
	uint32_t page = gen_percent(r, 40) ? 4096 : (uint32_t)gen_below(r, DATA_PAGES) * 4096;
	uint32_t offset = (uint32_t)gen_below(r, 4096);

	switch (gen_below(r, 24)) {
	case 0: case 1: case 2: /* about the end of a page */
		return DATA_AT + page + 4096 - (uint32_t)gen_below(r, 20);
	case 3: case 4:
		return DATA_AT + page + 4096 - (uint32_t)gen_below(r, 8);
	case 5: return DATA_ALIAS + page + offset;
	case 6: return STACK_AT + (uint32_t)gen_below(r, 2 * 4096);
	case 7: return (uint32_t)gen_next(r);
	default:
		return DATA_AT + page + (gen_percent(r, 60) ? offset & ~15u : offset);
	}
}

/* ---- random instructions ----------------------------------------------------------------------------------------- */

static bool is_allowed(struct maker *m, const struct decoded *d)
{
	switch (d->z.mnemonic) {
	case ZYDIS_MNEMONIC_RDTSC: case ZYDIS_MNEMONIC_RDTSCP: case ZYDIS_MNEMONIC_RDPMC:
	case ZYDIS_MNEMONIC_RDRAND: case ZYDIS_MNEMONIC_RDSEED: case ZYDIS_MNEMONIC_RDMSR: case ZYDIS_MNEMONIC_WRMSR:
	case ZYDIS_MNEMONIC_RDPRU: case ZYDIS_MNEMONIC_VMRUN: case ZYDIS_MNEMONIC_VMLOAD: case ZYDIS_MNEMONIC_VMSAVE:
		return false;
	case ZYDIS_MNEMONIC_SHLD: case ZYDIS_MNEMONIC_SHRD: case ZYDIS_MNEMONIC_BSWAP:
		return d->z.operand_width != 16; /* no result, for some counts */
	case ZYDIS_MNEMONIC_POPF: case ZYDIS_MNEMONIC_POPFD: case ZYDIS_MNEMONIC_POPFQ:
	case ZYDIS_MNEMONIC_INT1: case ZYDIS_MNEMONIC_STI: case ZYDIS_MNEMONIC_IRET: case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ: case ZYDIS_MNEMONIC_SYSCALL: case ZYDIS_MNEMONIC_SYSRET: case ZYDIS_MNEMONIC_HLT:
		m->p->no_step = true;
		return gen_percent(m->r, 10);
	default:
		break;
	}
	switch (d->z.meta.category) {
	case ZYDIS_CATEGORY_COND_BR: case ZYDIS_CATEGORY_UNCOND_BR: case ZYDIS_CATEGORY_CALL: case ZYDIS_CATEGORY_RET:
		return d->z.mnemonic == ZYDIS_MNEMONIC_RET && gen_percent(m->r, 50);
	case ZYDIS_CATEGORY_SYSTEM: case ZYDIS_CATEGORY_INTERRUPT: case ZYDIS_CATEGORY_IO:
	case ZYDIS_CATEGORY_SEGOP: case ZYDIS_CATEGORY_IOSTRINGOP:
		m->p->no_step = true;
		return gen_percent(m->r, 6);
	case ZYDIS_CATEGORY_STRINGOP:
		return gen_percent(m->r, 40);
	default:
		break;
	}
	for (unsigned i = 0; i < d->z.operand_count; i++) {
		const ZydisDecodedOperand *o = &d->o[i];

		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
		    o->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT &&
		    ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, o->reg.value) == ZYDIS_REGISTER_RSP)
			return gen_percent(m->r, 8);
		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
		    ZydisRegisterGetClass(o->reg.value) >= ZYDIS_REGCLASS_SEGMENT &&
		    ZydisRegisterGetClass(o->reg.value) <= ZYDIS_REGCLASS_DEBUG) {
			m->p->no_step = true;
			return gen_percent(m->r, 6);
		}
	}
	return true;
}

/* The bytes in front of the ModRM byte. Returns: how many; *vex: R, X and B are in the byte at that place. */
static unsigned random_head(struct maker *m, uint8_t *at, unsigned *rex)
{
	static const uint8_t mandatory[] = { 0x66, 0x66, 0xf3, 0xf2 };
	static const uint8_t maps[] = { 0x38, 0x3a };
	struct gen_rand *r = m->r;
	bool wide = m->p->bits == 64;
	unsigned n = 0, map = (unsigned)gen_below(r, 100);

	*rex = 0;
	if (gen_percent(r, 3))
		at[n++] = 0xf0;
	if (gen_percent(r, 5))
		at[n++] = gen_percent(r, 50) ? 0x64 : 0x65;
	if (wide && gen_percent(r, 3))
		at[n++] = 0x67;
	if (map >= 90 && gen_percent(r, 90)) { /* VEX */
		at[n++] = 0xc4;
		*rex = n;
		at[n++] = (uint8_t)((wide ? gen_next(r) & 0xe0 : 0xe0) | (1 + gen_below(r, 3)));
		at[n++] = (uint8_t)(gen_next(r) | (wide ? 0 : 0x40));
		at[n++] = (uint8_t)gen_next(r);
		return n;
	}
	if (gen_percent(r, map >= 50 ? 60 : 35)) /* behind 0F: most of SSE */
		at[n++] = mandatory[gen_below(r, 4)];
	if (wide && gen_percent(r, 60)) {
		*rex = n;
		at[n++] = (uint8_t)(0x40 | gen_below(r, 16));
	}
	if (map >= 50)
		at[n++] = 0x0f;
	if (map >= 82)
		at[n++] = maps[gen_below(r, 2)];
	at[n++] = (uint8_t)gen_next(r);
	return n;
}

/*
 * Give the instruction at bytes, whose ModRM byte is at `modrm`, an operand in memory. Fills in registers before it.
 * Returns: the place of a displacement that is to be relative to the next instruction, or 0; *target: what it leads to.
 */
static unsigned random_memory(struct maker *m, uint8_t *bytes, unsigned modrm, unsigned rex, bool vex, uint32_t *target)
{
	struct gen_rand *r = m->r;
	unsigned reg = (unsigned)gen_below(r, 8), base = (unsigned)gen_below(r, 8), index = (unsigned)gen_below(r, 8);
	unsigned high_base = rex == 0 ? 0 : vex ? !(bytes[rex] & 0x20) : bytes[rex] & 1;
	unsigned high_index = rex == 0 ? 0 : vex ? !(bytes[rex] & 0x40) : bytes[rex] >> 1 & 1;
	uint32_t address = pick_address(r), disp = (uint32_t)gen_below(r, 256) - 128;
	unsigned how = (unsigned)gen_below(r, 10);

	bytes[modrm] = (uint8_t)(reg << 3);
	if (how == 0) { /* without a base */
		bytes[modrm] |= m->p->bits == 64 ? 4 : 5;
		bytes[modrm + 1] = 0x25;
		memcpy(bytes + modrm + (m->p->bits == 64 ? 2 : 1), &address, 4);
		if (rex != 0 && m->p->bits == 64) { /* no index, then */
			if (vex)
				bytes[rex] |= 0x40;
			else
				bytes[rex] &= (uint8_t)~2;
		}
		return 0;
	}
	if (how == 1 && m->p->bits == 64) {
		bytes[modrm] |= 5;
		*target = address;
		return modrm + 1;
	}
	if (how <= 3) { /* base and index */
		bytes[modrm] |= 0x44;
		bytes[modrm + 1] = (uint8_t)(gen_below(r, 4) << 6 | index << 3 | base);
		bytes[modrm + 2] = (uint8_t)disp;
		if (gen_percent(r, 70) && (index | high_index << 3) != CPU_RSP)
			add_constant(m, index | high_index << 3, (uint32_t)gen_below(r, 16));
	} else {
		bool sib = base == CPU_RSP;

		bytes[modrm] |= (uint8_t)((how <= 7 ? 0x40 : 0x80) | base);
		if (sib)
			bytes[modrm + 1] = 0x24;
		if (how <= 7)
			bytes[modrm + 1 + sib] = (uint8_t)disp;
		else
			memcpy(bytes + modrm + 1 + sib, &disp, 4);
	}
	base |= high_base << 3;
	if (base != CPU_RSP && gen_percent(r, 80))
		add_constant(m, base, address - disp);
	return 0;
}

static void add_random(struct maker *m)
{
	for (unsigned tries = 0; tries < 200; tries++) {
		unsigned rex, n, items = m->p->items, constants = m->constants, near = 0;
		bool vex, no_step = m->p->no_step;
		uint16_t undefined = m->undefined;
		uint32_t target = 0;
		uint8_t bytes[40];
		struct decoded d;

		for (unsigned i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)gen_next(m->r);
		n = random_head(m, bytes, &rex);
		vex = rex != 0 && bytes[rex - 1] == 0xc4 && rex + 3 == n;
		if (gen_percent(m->r, 55))
			near = random_memory(m, bytes, n, rex, vex, &target);
		else
			bytes[n] |= 0xc0;
		if (decode_at(m->p, bytes, 15, &d) && is_allowed(m, &d) && (near == 0 || near < d.z.length)) {
			struct item *item;

			if (sees(&d, m->undefined))
				define_flags(m);
			item = add_item(m, bytes, d.z.length);
			if (near != 0 && d.z.raw.modrm.offset == near - 1) {
				item->kind = ITEM_NEAR;
				item->field = (uint8_t)near;
				item->target = target;
			}
			return;
		}
		m->p->items = items;
		m->constants = constants;
		m->p->no_step = no_step;
		m->undefined = undefined;
	}
}

/* ---- branches ---------------------------------------------------------------------------------------------------- */

#define LAST_PART 0xffffu

static void add_branch(struct maker *m, unsigned to, const uint8_t *bytes, unsigned length)
{
	struct item *item;

	if (to <= m->p->parts) { /* sub $1,counter; js the end */
		uint8_t sub[8] = { 0x83, 0x2c, 0x25 };
		uint32_t counter = COUNTER_AT;

		sub[1] = m->p->bits == 64 ? 0x2c : 0x2d;
		memcpy(sub + (m->p->bits == 64 ? 3 : 2), &counter, 4);
		sub[m->p->bits == 64 ? 7 : 6] = 1;
		add_item(m, sub, m->p->bits == 64 ? 8 : 7);
		item = ADD(m, 0x0f, 0x88, 0, 0, 0, 0);
		item->kind = ITEM_RELATIVE;
		item->to = LAST_PART;
	}
	item = add_item(m, bytes, length);
	item->kind = ITEM_RELATIVE;
	item->to = (uint16_t)to;
}

static void end_part(struct maker *m, unsigned parts)
{
	unsigned to = (unsigned)gen_below(m->r, parts), kind = (unsigned)gen_below(m->r, 10);
	uint8_t condition = (uint8_t)(0x80 | gen_below(m->r, 16)), gpr = (uint8_t)gen_below(m->r, 8);
	struct item *item;

	define_flags(m);
	if (kind < 5) {
		add_branch(m, to, (const uint8_t[]){ 0x0f, condition, 0, 0, 0, 0 }, 6);
	} else if (kind == 5) {
		add_branch(m, to, (const uint8_t[]){ 0xe9, 0, 0, 0, 0 }, 5);
	} else if (kind == 6) {
		add_branch(m, to, (const uint8_t[]){ 0xe8, 0, 0, 0, 0 }, 5);
	} else if (kind == 7 && to > m->p->parts && gpr != CPU_RSP) {
		item = ADD(m, (uint8_t)(0xb8 | gpr), 0, 0, 0, 0);
		item->kind = ITEM_ADDRESS;
		item->to = (uint16_t)to;
		ADD(m, 0xff, (uint8_t)((gen_percent(m->r, 50) ? 0xe0 : 0xd0) | gpr)); /* jmp, call */
	} else if (kind == 8 && to > m->p->parts) {
		item = ADD(m, 0x68, 0, 0, 0, 0);
		item->kind = ITEM_ADDRESS;
		item->to = (uint16_t)to;
		ADD(m, 0xc3);
	} else if (kind == 9) {
		ADD(m, 0xc3);
	}
}

/* Bring pages into the TLBs, for reading and for writing. */
static void add_touches(struct maker *m)
{
	for (unsigned i = 0; i < 2 * DATA_PAGES; i++) {
		uint32_t at = DATA_AT + i / 2 * 4096 + 64;
		uint8_t bytes[8] = { 0x80 }, modrm = i % 2 == 0 ? 0x3c : 0x0c; /* cmpb $0, orb $0 */
		unsigned n = 1;

		if (gen_percent(m->r, 35))
			continue;
		bytes[n++] = m->p->bits == 64 ? modrm : modrm | 1;
		if (m->p->bits == 64)
			bytes[n++] = 0x25;
		memcpy(bytes + n, &at, 4);
		add_item(m, bytes, n + 5);
		define_flags(m);
	}
}

/* Let a string instruction write over the immediate of another one; and open or close user pages to the kernel. */
static void add_by_handler(struct maker *m)
{
	struct item *item;

	define_flags(m);
	if (gen_percent(m->r, 50)) {
		ADD(m, 0x0f, 0x01, gen_percent(m->r, 50) ? 0xca : 0xcb);
	} else if (m->constants != 0) {
		uint16_t to = m->constant[gen_below(m->r, m->constants)];

		item = ADD(m, 0xbf, 0, 0, 0, 0); /* mov $..,%edi */
		item->kind = ITEM_PLACE;
		item->to = to;
		item->alias = gen_percent(m->r, 50);
		ADD(m, 0xaa); /* stosb */
	}
}

/* A vector register changes, and is stored where perhaps no memory is. */
static void add_vector_store(struct maker *m)
{
	uint8_t n = (uint8_t)gen_below(m->r, 8), bytes[8] = { 0x0f, 0x11 };
	uint32_t at = pick_address(m->r);
	unsigned used = 2;

	ADD(m, 0x66, 0x0f, 0x76, (uint8_t)(0xc0 | n * 9)); /* pcmpeqd */
	bytes[used++] = (uint8_t)(n << 3 | (m->p->bits == 64 ? 4 : 5));
	if (m->p->bits == 64)
		bytes[used++] = 0x25;
	memcpy(bytes + used, &at, 4);
	add_item(m, bytes, used + 4);
}

/* A store into the immediate of another instruction. */
static void add_patch(struct maker *m)
{
	bool long_mode = m->p->bits == 64;
	uint8_t bytes[11] = { 0xc7, 0x04, 0x25 };
	uint32_t value = pick_address(m->r);
	struct item *item;

	if (m->constants == 0)
		return;
	bytes[1] = long_mode ? 0x04 : 0x05;
	memcpy(bytes + (long_mode ? 7 : 6), &value, 4);
	item = add_item(m, bytes, long_mode ? 11 : 10);
	item->kind = ITEM_PATCH;
	item->to = m->constant[gen_below(m->r, m->constants)];
	item->alias = gen_percent(m->r, 50);
}

void fuzz_program(struct gen_rand *r, struct program *p)
{
	struct maker m = { .r = r, .p = p };
	unsigned parts = 1 + (unsigned)gen_below(r, 8);

	*p = (struct program){ .bits = gen_percent(r, 75) ? 64 : 32 };
	p->start = CODE_AT + 4096 * (uint32_t)(1 + gen_below(r, CODE_PAGES - 1)) - (uint32_t)gen_below(r, 300);
	if (gen_percent(r, 60))
		add_touches(&m);
	for (p->parts = 0; p->parts < parts; p->parts++) {
		unsigned wanted = 1 + (unsigned)gen_below(r, 8);

		if (p->items >= ITEMS - 64)
			continue; /* a part adds fewer than 64 */
		for (unsigned i = 0; i < wanted && p->items < ITEMS - 64; i++)
			add_random(&m);
		if (gen_percent(r, 10))
			add_patch(&m);
		if (gen_percent(r, 8))
			add_by_handler(&m);
		if (gen_percent(r, 10))
			add_vector_store(&m);
		for (unsigned i = 0; gen_percent(r, 15) && i < wanted; i++)
			add_random(&m);
		if (gen_percent(r, 10))
			define_flags(&m);
		end_part(&m, parts);
	}
	define_flags(&m);
}

/* ---- from items to bytes ----------------------------------------------------------------------------------------- */

static unsigned put_item(struct program *p, unsigned i, const uint32_t *part_at, uint32_t end)
{
	struct item *item = &p->item[i];
	uint32_t at = p->at[i], next = at + item->length, value;

	switch ((enum item_kind)item->kind) {
	case ITEM_PLAIN:
		break;
	case ITEM_RELATIVE: case ITEM_ADDRESS:
		value = item->to == LAST_PART ? end : part_at[item->to];
		value -= item->kind == ITEM_RELATIVE ? next : 0;
		memcpy(item->bytes + item->length - 4, &value, 4);
		break;
	case ITEM_PATCH:
		if (p->item[item->to].gone)
			return 0;
		value = p->at[item->to] + p->item[item->to].length - 4 + (item->alias ? CODE_ALIAS - CODE_AT : 0);
		memcpy(item->bytes + (p->bits == 64 ? 3 : 2), &value, 4);
		break;
	case ITEM_PLACE:
		if (p->item[item->to].gone)
			return 0;
		value = p->at[item->to] + p->item[item->to].length - 4 + (item->alias ? CODE_ALIAS - CODE_AT : 0);
		memcpy(item->bytes + 1, &value, 4);
		break;
	case ITEM_NEAR:
		value = item->target - next;
		memcpy(item->bytes + item->field, &value, 4);
		break;
	}
	memcpy(p->bytes + (at - p->start), item->bytes, item->length);
	return item->length;
}

static bool flags_follow(struct program *p)
{
	uint16_t undefined = 0;

	for (unsigned i = 0; i < p->items; i++) {
		const struct item *item = &p->item[i];
		struct decoded d;

		if (i != 0 && item->part != p->item[i - 1].part && undefined != 0)
			return false;
		p->undefined[i] = undefined;
		if (item->gone)
			continue;
		if (!decode_at(p, item->bytes, item->length, &d) || sees(&d, undefined))
			return false;
		undefined = undefined_after(&d, undefined);
	}
	return undefined == 0;
}

bool fuzz_assemble(struct program *p)
{
	uint32_t part_at[64], at = p->start;
	unsigned part = 0;

	for (unsigned i = 0; i < p->items; i++) {
		while (part <= p->item[i].part)
			part_at[part++] = at;
		p->at[i] = at;
		at += p->item[i].gone ? 0 : p->item[i].length;
	}
	while (part <= p->parts)
		part_at[part++] = at;
	for (unsigned i = 0; i < p->items; i++)
		if (!p->item[i].gone && put_item(p, i, part_at, at) == 0)
			return false;
	p->bytes[at - p->start] = 0xcc; /* int3 */
	p->length = at - p->start + 1;
	return flags_follow(p);
}

uint16_t fuzz_undefined(const struct program *p, uint64_t rip)
{
	if (rip == p->start + p->length - 1 || rip == p->start + p->length)
		return 0;
	for (unsigned i = 0; i < p->items; i++)
		if (!p->item[i].gone && p->at[i] == rip)
			return p->undefined[i];
	return ARITHMETIC;
}

unsigned fuzz_skip(const struct program *p, uint64_t rip)
{
	for (unsigned i = 0; i < p->items; i++)
		if (!p->item[i].gone && p->at[i] == rip)
			return p->undefined[i] == 0 ? p->item[i].length : 0;
	return 0;
}

void fuzz_print(const struct program *p)
{
	ZydisMachineMode mode = p->bits == 64 ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LONG_COMPAT_32;
	ZydisDisassembledInstruction d;

	printf("%u-bit code\n", p->bits);
	for (unsigned i = 0; i < p->items; i++) {
		const struct item *item = &p->item[i];

		if (item->gone)
			continue;
		printf("  %2u %08x:", item->part, p->at[i]);
		for (unsigned n = 0; n < item->length; n++)
			printf(" %02x", item->bytes[n]);
		if (ZYAN_SUCCESS(ZydisDisassembleIntel(mode, p->at[i], item->bytes, item->length, &d)))
			printf("  %s", d.text);
		printf("\n");
	}
}

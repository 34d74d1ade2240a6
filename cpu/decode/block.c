/* SPDX-License-Identifier: MIT */
/*
 * The basic-block cache: finding, making, validating and forgetting blocks. One cache per CPU, no locks.
 *
 * A block is straight-line code. It is entered at its first instruction, and left by a taken branch or at its end. An
 * instruction that reaches into the next page is a block of its own, so that no fetch fault comes early.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/base/private.h"
#include "cpu/decode/block.h"
#include "cpu/decode/decode.h"
#include "cpu/memory/codemap.h"
#include "cpu/memory/mem.h"
#include "cpu/memory/walk.h"

#define BLOCK_BYTES 128u /* of code; the last instruction may exceed it by 14 */
#define BLOCK_MOST  (sizeof(struct block) + (BLOCK_OPS + 1) * sizeof(struct op) + BLOCK_BYTES + 32)

/* The front of the arena, which is never given out: blocks of one instruction, each with its bytes behind its ops. */
#define SINGLE_BYTES 512u
#define ARENA_FRONT  (SINGLES * SINGLE_BYTES)
_Static_assert(sizeof(struct block) + 2 * sizeof(struct op) + 15 <= SINGLE_BYTES, "a single instruction");
_Static_assert(BLOCK_OPS <= 32, "relative_imm and relative_disp");

/* The tables of pointers to blocks, which are one mapping: hash, jump, origins. */
#define TABLES_BYTES ((BLOCK_HASH + JUMP_CACHE + ORIGINS) * sizeof(struct block *))

/* ---- memory --------------------------------------------------------------------------------------------------- */

static void *map_zeroed(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

bool block_memory_init(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;

	if (p->arena != NULL)
		return true;
	p->hash = map_zeroed(TABLES_BYTES);
	if (p->hash == NULL)
		return false;
	p->jump = p->hash + BLOCK_HASH;
	p->arena = map_zeroed(ARENA_BYTES);
	if (p->arena == NULL || !stubs_init(cpu)) {
		block_memory_fini(cpu);
		return false;
	}
	p->single_block = (struct block *)p->arena;
	p->arena_used = ARENA_FRONT;
	decoder_init(&p->decoder[MODE_BITS_16], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
	decoder_init(&p->decoder[MODE_BITS_32], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
	decoder_init(&p->decoder[MODE_BITS_64], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	return true;
}

void block_memory_fini(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;

	if (p->hash != NULL)
		munmap(p->hash, TABLES_BYTES);
	if (p->arena != NULL)
		munmap(p->arena, ARENA_BYTES);
	stubs_fini(cpu);
	translate_fini(cpu);
	p->hash = NULL;
	p->arena = NULL;
}

static struct block *single_slot(struct cpu *cpu, unsigned slot)
{
	return (struct block *)((uint8_t *)cpu->p->single_block + slot * SINGLE_BYTES);
}

/* At a block boundary no op but fetch_op is in use. */
void blocks_forget(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;

	memset(p->hash, 0, TABLES_BYTES);
	for (unsigned i = 0; i < SINGLES; i++)
		single_slot(cpu, i)->ops_count = 0;
	p->arena_used = ARENA_FRONT;
	p->arena_epoch++;
	stubs_forget(cpu);
	translate_forget(cpu);
	code_gen_next_all(cpu);
}

/* ---- fetching ------------------------------------------------------------------------------------------ */

static const uint8_t *fetch_host(struct cpu *cpu, uint64_t linear)
{
	const uint8_t *host = tlb_find(cpu, TLB_EXEC, linear, 1);

	if (host != NULL)
		return host;
	return walk(cpu, linear, ACCESS_EXEC).host;
}

static void fetch_begin(struct cpu *cpu)
{
	cpu->p->fetch_op = (struct op){ .rip = cpu->s.rip, .mem = OP_NO_MEM };
	cpu->op = &cpu->p->fetch_op;
}

static uint64_t code_linear(const struct cpu *cpu, uint64_t rip)
{
	return (cpu->seg_base[CPU_CS] + rip) & cpu->lin_mask;
}

/* Do `length` bytes at rip lie inside the code segment? */
static bool inside_cs(const struct cpu *cpu, uint64_t rip, unsigned length)
{
	return cpu_is_64(cpu) || rip + length - 1 <= cpu->s.seg[CPU_CS].limit;
}

GUEST_RACY static void copy_code(uint8_t *to, const uint8_t *from, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		to[i] = ((const volatile uint8_t *)from)[i];
}

GUEST_RACY static bool same_code(const uint8_t *saved, const uint8_t *now, unsigned bytes)
{
	return memcmp(saved, now, bytes) == 0;
}

/* ---- making -------------------------------------------------------------------------------------------- */

/* The bytes that were fetched for one block. */
struct fetched {
	uint8_t bytes[BLOCK_BYTES + 16 + 16];
	unsigned available; /* in the first page */
	const uint8_t *host2;
};

/* ops[n] was decoded. Note what of it depends on its RIP. */
static void block_relative(struct block *b, unsigned n, unsigned relative)
{
	if (relative & RELATIVE_IMM)
		b->relative_imm |= UINT32_C(1) << n;
	if (relative & RELATIVE_DISP)
		b->relative_disp |= UINT32_C(1) << n;
}

static void block_end(struct cpu *cpu, struct block *b, uint64_t rip)
{
	struct op *end = &b->ops[b->ops_count];

	*end = (struct op){ .rip = rip, .imm = (int64_t)rip, .mem = OP_NO_MEM };
	op_label_set(cpu, end, 1);
}

/* The first instruction reaches into the next page: fetch that too and make a block of it alone. */
static void block_crossing(struct cpu *cpu, struct block *b, struct fetched *f)
{
	unsigned first = f->available, relative;
	uint64_t next = code_linear(cpu, b->rip + first);

	b->host2 = fetch_host(cpu, next);
	b->page2 = codemap_mark(cpu, b->host2, 16, &b->version2);
	copy_code(f->bytes + first, b->host2, 15 - first);
	decode(cpu, f->bytes, 15, b->rip, &b->ops[0], &relative);
	block_relative(b, 0, relative);
	b->ops_count = 1;
	b->length = (uint8_t)first;
	b->length2 = (uint8_t)(b->ops[0].len > first ? b->ops[0].len - first : 0);
}

static void block_decode(struct cpu *cpu, struct block *b, struct fetched *f)
{
	unsigned at = 0;

	while (b->ops_count < BLOCK_OPS && at < BLOCK_BYTES) {
		struct op *op = &b->ops[b->ops_count];
		enum decoded got;
		unsigned relative;

		if (at != 0 && debug_breaks(cpu, code_linear(cpu, b->rip + at)))
			break;
		got = decode(cpu, f->bytes + at, f->available - at, b->rip + at, op, &relative);

		if (got == DECODED_MORE) {
			if (at == 0)
				block_crossing(cpu, b, f);
			break;
		}
		if (!inside_cs(cpu, b->rip + at, op->len)) {
			if (at == 0)
				cpu_gp(cpu);
			break;
		}
		block_relative(b, b->ops_count, relative);
		at += op->len;
		b->ops_count++;
		b->length = (uint8_t)at;
		if (got == DECODED_END)
			break;
	}
	block_end(cpu, b, (b->rip + b->length + b->length2) & cpu->lin_mask);
}

static uint64_t block_slot(const uint8_t *host, uint64_t rip, uint8_t mode)
{
	uint64_t h = (uint64_t)(uintptr_t)host ^ rip << 20 ^ rip >> 44 ^ (uint64_t)mode << 56;

	return h * UINT64_C(0x9e3779b97f4a7c15) >> 40 & (BLOCK_HASH - 1);
}

static struct block **origin_of(struct cpu *cpu, const uint8_t *host)
{
	struct block **origins = cpu->p->jump + JUMP_CACHE;

	return &origins[(uint64_t)(uintptr_t)host * UINT64_C(0x9e3779b97f4a7c15) >> 40 & (ORIGINS - 1)];
}

static void arena_have_room(struct cpu *cpu)
{
	if (cpu->p->arena_used + BLOCK_MOST > ARENA_BYTES || !stubs_have_room(cpu, BLOCK_OPS))
		blocks_forget(cpu);
}

/* The block that is being made at the end of the arena ends at `end`. */
static void arena_take(struct cpu *cpu, struct block *b, const void *end)
{
	cpu->p->arena_used += (size_t)((const uint8_t *)end - (uint8_t *)b + 63) & ~(size_t)63;
}

static struct block *block_make(struct cpu *cpu, const uint8_t *host)
{
	struct cpu_private *p = cpu->p;
	unsigned left = 4096 - ((uintptr_t)host & 0xfff);
	struct fetched f;
	struct block *b = (struct block *)(p->arena + p->arena_used);

	*b = (struct block){ .rip = cpu->s.rip, .mode = cpu->mode, .host = host, .run_serial = p->run_serial };
	f.available = left < BLOCK_BYTES + 16 ? left : BLOCK_BYTES + 16;
	b->page = codemap_mark(cpu, host, f.available, &b->version);
	copy_code(f.bytes, host, f.available);
	block_decode(cpu, b, &f);
	b->lines = codemap_lines(host, b->length);
	b->lines2 = b->length2 != 0 ? codemap_lines(b->host2, b->length2) : 0;
	b->bytes = (uint8_t *)&b->ops[b->ops_count + 1];
	memcpy(b->bytes, f.bytes, b->length + b->length2);
	translate_offer(cpu, b);
	arena_take(cpu, b, b->bytes + b->length + b->length2);
	return b;
}

/* ---- finding ------------------------------------------------------------------------------------------- */

/* Is an instruction breakpoint in the block? */
static bool block_breaks(const struct cpu *cpu, const struct block *b)
{
	for (unsigned i = 0; i < b->ops_count; i++) {
		if (debug_breaks(cpu, code_linear(cpu, b->ops[i].rip)))
			return true;
	}
	return false;
}

bool block_unchanged(struct cpu *cpu, struct block *b)
{
	struct cpu_private *p = cpu->p;

	if (unlikely(p->armed_breakpoints.code) && block_breaks(cpu, b))
		return false;
	if (!codemap_alive(b->page, b->version, b->lines) ||
	    (b->length2 != 0 && !codemap_alive(b->page2, b->version2, b->lines2)))
		return false;
	if (b->run_serial == p->run_serial)
		return true;
	/* The program may have written the code while the CPU was outside. */
	if (!same_code(b->bytes, b->host, b->length) ||
	    (b->length2 != 0 && !same_code(b->bytes + b->length, b->host2, b->length2)))
		return false;
	b->run_serial = p->run_serial;
	return true;
}

static bool block_valid(struct cpu *cpu, struct block *b)
{
	if (!inside_cs(cpu, b->rip, b->length + b->length2))
		return false;
	/* What is in the first page now may need nothing of the second, where a fetch would fault. */
	if (b->length2 != 0 && (!same_code(b->bytes, b->host, b->length) ||
	                        fetch_host(cpu, code_linear(cpu, b->rip + b->length)) != b->host2))
		return false;
	return block_unchanged(cpu, b);
}

/*
 * The code at `host` was decoded for another RIP: a program runs once more, and lies elsewhere in its address space. A
 * copy costs a tenth of decoding. In 64-bit mode only: there nothing wraps but addresses relative to EIP, which are cut
 * off when they are used; and code segments have no limit.
 * Returns: NULL when there is no such block, or it is not good any more.
 */
static struct block *block_copy(struct cpu *cpu, const uint8_t *host)
{
	struct cpu_private *p = cpu->p;
	struct block *b, *from = *origin_of(cpu, host);
	uint64_t by;

	if (from == NULL || from->host != host || from->mode != cpu->mode || !cpu_is_64(cpu) ||
	    from->length2 != 0 || p->armed_breakpoints.code || !block_valid(cpu, from))
		return NULL;
	b = (struct block *)(p->arena + p->arena_used);
	*b = (struct block){ .rip = cpu->s.rip, .mode = from->mode, .length = from->length,
		             .ops_count = from->ops_count, .run_serial = from->run_serial, .host = host,
		             .page = from->page, .version = from->version, .lines = from->lines, .bytes = from->bytes,
		             .relative_imm = from->relative_imm, .relative_disp = from->relative_disp };
	by = b->rip - from->rip;
	for (unsigned i = 0; i < b->ops_count; i++) {
		struct op *op = &b->ops[i];

		*op = from->ops[i];
		op->rip += by;
		if (b->relative_disp >> i & 1)
			op->disp += (int64_t)by;
		if (b->relative_imm >> i & 1) {
			op->imm += (int64_t)by;
			op->target = NULL;
		}
	}
	if (from->first_label != NULL)
		b->ops[0].label = from->first_label;
	block_end(cpu, b, b->rip + b->length);
	translate_offer(cpu, b);
	arena_take(cpu, b, &b->ops[b->ops_count + 1]);
	return b;
}

static struct block *block_find(struct cpu *cpu, const uint8_t *host, struct block **chain)
{
	for (struct block **at = chain; *at != NULL; at = &(*at)->next) {
		struct block *b = *at;

		if (b->host != host || b->rip != cpu->s.rip || b->mode != cpu->mode)
			continue;
		if (block_valid(cpu, b))
			return b;
		*at = b->next;
		return NULL;
	}
	return NULL;
}

struct block *block_get(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;
	const uint8_t *host;
	struct block *b, **chain;
	/* A request served in codemap_mark raises the generation: then this block is validated again next time. */
	uint64_t gen = cpu->code_gen;

	fetch_begin(cpu);
	if (debug_breaks(cpu, code_linear(cpu, cpu->s.rip))) {
		/* No block begins at a breakpoint: debug_before looks at it, before the fetch can fault. */
		p->single_next = true;
		cpu_leave(cpu, LEAVE_RESTART);
	}
	if (!inside_cs(cpu, cpu->s.rip, 1))
		cpu_gp(cpu);
	host = fetch_host(cpu, code_linear(cpu, cpu->s.rip));
	chain = &p->hash[block_slot(host, cpu->s.rip, cpu->mode)];
	b = block_find(cpu, host, chain);
	if (b == NULL) {
		arena_have_room(cpu);
		b = block_copy(cpu, host);
		if (b == NULL)
			b = block_make(cpu, host);
		*origin_of(cpu, host) = b;
		b->next = *chain;
		*chain = b;
	}
	b->gen = gen;
	p->jump[jump_slot(cpu->s.rip)] = b;
	return b;
}

struct block *block_again(struct cpu *cpu, struct block *b)
{
	uint64_t rip = cpu->s.rip;

	/* The host may have no page there any more: then it is this instruction that was not begun. */
	fetch_begin(cpu);
	/* A block of two pages may fault. With instruction breakpoints there is more to see. */
	if (b == NULL || b->rip != rip || b->mode != cpu->mode || b->length2 != 0 || cpu->p->armed_breakpoints.code ||
	    tlb_find(cpu, TLB_EXEC, code_linear(cpu, rip), 1) != b->host || !block_valid(cpu, b))
		return block_get(cpu);
	b->gen = cpu->code_gen;
	cpu->p->jump[jump_slot(rip)] = b;
	return b;
}

/* Decode the instruction at s.rip, whose first byte the host has at `host`. */
static void single_make(struct cpu *cpu, struct block *b, const uint8_t *host)
{
	unsigned left = 4096 - ((uintptr_t)host & 0xfff), relative;
	struct fetched f = { .available = left < 15 ? left : 15 };

	b->ops_count = 0; /* until it is complete: a fetch may fault */
	copy_code(f.bytes, host, f.available);
	*b = (struct block){ .rip = cpu->s.rip, .mode = cpu->mode };
	if (decode(cpu, f.bytes, f.available, cpu->s.rip, &b->ops[0], &relative) == DECODED_MORE) {
		host = fetch_host(cpu, code_linear(cpu, cpu->s.rip + f.available));
		copy_code(f.bytes + f.available, host, 15 - f.available);
		decode(cpu, f.bytes, 15, cpu->s.rip, &b->ops[0], &relative);
		b->length2 = 1; /* not to be kept */
	}
	if (!inside_cs(cpu, cpu->s.rip, b->ops[0].len))
		cpu_gp(cpu);
	block_relative(b, 0, relative);
	b->length = b->ops[0].len;
	b->bytes = (uint8_t *)&b->ops[2];
	memcpy(b->bytes, f.bytes, b->length);
	b->ops_count = 1;
	block_end(cpu, b, (cpu->s.rip + b->ops[0].len) & cpu->lin_mask);
}

/* Is this still the instruction at s.rip? Its bytes alone say so, whoever wrote them. */
static bool single_valid(struct cpu *cpu, const struct block *b, const uint8_t *host)
{
	return b->ops_count == 1 && b->length2 == 0 && b->rip == cpu->s.rip && b->mode == cpu->mode &&
	       b->length <= 4096 - ((uintptr_t)host & 0xfff) && inside_cs(cpu, b->rip, b->length) &&
	       same_code(b->bytes, host, b->length);
}

struct block *block_single(struct cpu *cpu)
{
	uint64_t rip = cpu->s.rip;
	struct block *b = single_slot(cpu, (rip ^ rip >> 4) % SINGLES);
	const uint8_t *host;

	if (!stubs_have_room(cpu, 1))
		blocks_forget(cpu);
	fetch_begin(cpu);
	if (!inside_cs(cpu, rip, 1))
		cpu_gp(cpu);
	host = fetch_host(cpu, code_linear(cpu, rip));
	if (!single_valid(cpu, b, host)) {
		single_make(cpu, b, host);
		return b;
	}
	/* No block follows: after the instruction the loop looks around. */
	b->ops[1].target = NULL;
	if (b->relative_imm & 1)
		b->ops[0].target = NULL;
	return b;
}

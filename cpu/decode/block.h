/* SPDX-License-Identifier: MIT */
/* The cache of decoded blocks. block.c describes it. */
#ifndef CPU_DECODE_BLOCK_H
#define CPU_DECODE_BLOCK_H

#include "cpu/base/private.h"
#include "cpu/memory/codemap.h"

#define BLOCK_OPS    32u
#define BLOCK_HASH   65536u
#define JUMP_CACHE   16384u
#define ORIGINS      32768u
#define SINGLES      16u
#define ARENA_BYTES  (128u << 20)

/*
 * Instructions decoded in a row, of one page; the last may reach into the next page. Key: host address of the first
 * byte, RIP, mode. Valid when `gen` equals cpu->code_gen. Otherwise block_get checks that the fetch TLB still leads
 * to `host`, that the page was not written, and that the bytes are what they were.
 */
struct block {
	uint64_t rip;
	uint64_t gen;
	uint8_t mode;
	uint8_t length;    /* bytes of code in the first page */
	uint8_t length2;   /* in the second */
	bool dead;
	uint16_t ops_count;
	uint64_t run_serial; /* of the cpu_run in which the bytes were last compared */
	const uint8_t *host, *host2;
	struct code_page *page, *page2;
	uint64_t version, version2;
	uint64_t lines, lines2; /* lines of the page that the code lies in */
	struct block *next; /* hash chain */
	struct translated *translated[2]; /* translate/'s: host code; [1]: for supervisor accesses that SMAP limits */
	const void *first_label; /* of the first op, if that has translate/'s */
	uint32_t runs;
	/* Bit n: the immediate or the displacement of ops[n] was computed from its RIP. */
	uint32_t relative_imm, relative_disp;
	uint8_t *bytes;     /* length + length2 of them, as decoded */
	struct op ops[] __attribute__((aligned(64)));
};

/** The valid block at s.rip. May leave (fetch faults). */
struct block *block_get(struct cpu *cpu);
/**
 * The same, where `b` was found for this RIP before, or is NULL: a block of this arena. It is the answer if it is still
 * good, without a search.
 */
struct block *block_again(struct cpu *cpu, struct block *b);
/** The instruction at s.rip alone, in a block of its own that is good until the next call. */
struct block *block_single(struct cpu *cpu);
/**
 * Is the code that was decoded still what memory has, and no breakpoint in it? Not asked: whether the block's addresses
 * still lead there.
 */
bool block_unchanged(struct cpu *cpu, struct block *b);
/** Forget every block. At a block boundary only. */
void blocks_forget(struct cpu *cpu);
bool block_memory_init(struct cpu *cpu);
void block_memory_fini(struct cpu *cpu);
INLINE unsigned jump_slot(uint64_t rip)
{
	return (unsigned)((rip ^ rip >> 14) % JUMP_CACHE);
}

#endif

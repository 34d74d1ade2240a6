/* SPDX-License-Identifier: MIT */
/*
 * Random programs on two CPUs: one interprets, the other translates. Both begin in the same state, and everything must
 * be the same at every exit and at the end.
 *
 * fuzz_code.c makes a program, fuzz_machine.c is a machine that runs it, fuzz.c chooses, compares and shrinks.
 */
#ifndef VMMU_CPU_TEST_FUZZ_H
#define VMMU_CPU_TEST_FUZZ_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu/cpu.h"
#include "gen_rand.h"

#define ARITHMETIC 0x8d5u

/* Linear addresses: a window of 2 MiB with one page table. Everything that is not listed is not mapped. */
#define WINDOW       0x10000000u
#define CODE_PAGES   4u
#define DATA_PAGES   6u
#define STACK_PAGES  2u
#define CODE_AT      (WINDOW + 0x0000u)
#define DATA_AT      (WINDOW + 0x8000u)
#define STACK_AT     (WINDOW + 0x10000u)
#define CODE_ALIAS   (WINDOW + 0x14000u) /* the same pages once more */
#define DATA_ALIAS   (WINDOW + 0x18000u)
#define COUNTER_AT   (WINDOW + 0x20000u)
#define FS_BASE      (DATA_AT + 0x2123u)
#define GS_BASE      0x48u

/* What a page is, besides plain memory. */
enum page_kind {
	PAGE_PLAIN, PAGE_ABSENT, PAGE_READ_ONLY, PAGE_OTHER_RIGHTS, PAGE_DEVICE, PAGE_ROM, PAGE_TAKEN, PAGE_LOGGED,
	PAGE_MIRRORED, PAGE_KINDS
};

/* ---- a program --------------------------------------------------------------------------------------------- */

enum item_kind {
	ITEM_PLAIN,
	ITEM_RELATIVE, /* its last four bytes: the distance to a part of the program */
	ITEM_ADDRESS,  /* its last four bytes: the address of a part */
	ITEM_PATCH,    /* bytes 3 or 4 and on: the address of the immediate of another item */
	ITEM_PLACE,    /* its last four bytes: as ITEM_PATCH, which is a constant of its own */
	ITEM_NEAR,     /* bytes at `field`: the distance to a constant address */
};

/* One instruction. */
struct item {
	uint8_t bytes[24], length, kind, field;
	uint16_t part; /* which part of the program it is in: branches lead to the beginnings of parts */
	uint16_t to;   /* ITEM_RELATIVE, ITEM_ADDRESS: a part. ITEM_PATCH: an item */
	uint32_t target; /* ITEM_NEAR */
	bool alias;    /* ITEM_PATCH: by the other address of the code */
	bool gone;     /* while a failure is being shrunk */
};

#define ITEMS 256u
struct program {
	unsigned bits, items, parts;
	uint32_t start;
	bool no_step; /* single steps from outside would be noticed */
	struct item item[ITEMS];
	/* What fuzz_assemble makes. */
	uint32_t at[ITEMS];          /* address of each item */
	uint16_t undefined[ITEMS];   /* flags that are undefined in front of it */
	unsigned length;
	uint8_t bytes[ITEMS * 16 + 16];
};

void fuzz_code_init(void);
void fuzz_program(struct gen_rand *r, struct program *p);
/** Returns: false when the program without the items that are gone is none. */
bool fuzz_assemble(struct program *p);
/** Flags that are undefined in front of the instruction at `rip`; all, when it is not one of the program. */
uint16_t fuzz_undefined(const struct program *p, uint64_t rip);
/** The length of the instruction at `rip`; 0: not of the program, or the flags in front of it are undefined. */
unsigned fuzz_skip(const struct program *p, uint64_t rip);
void fuzz_print(const struct program *p);

/* ---- a case ------------------------------------------------------------------------------------------------ */

struct choices {
	struct cpu_state state;
	bool user, smap, align;
	uint8_t kind[DATA_PAGES + CODE_PAGES + STACK_PAGES]; /* data, then code, then stack */
	uint32_t count; /* for loops */
	unsigned take_at; /* at which exception PAGE_TAKEN goes; 0: before the first instruction */
	bool skip;      /* an instruction that faults is left out */
	uint64_t dr[8]; /* breakpoints of the host's debugger; 7: 0 without */
	/* Of the CPU that translates only. */
	unsigned kick_fault; /* a request to exit while this fault is answered; 0: none */
	unsigned kick_us;    /* by a timer */
	unsigned steps;      /* single steps, after each request to exit */
	bool switching;      /* the other engine after each exit */
};

enum { END_HLT, END_EXCEPTION, END_SHUTDOWN, END_OTHER, END_RUNAWAY };
struct event {
	uint64_t what, a, b, rip, rflags;
	uint64_t gpr[16];
};
#define EVENTS 64u

struct outcome {
	unsigned end, events;
	struct event event[EVENTS];
	struct cpu_state state;
};

#define RAM_PAGES 32u
#define MACHINE_TABLE 0x3000u /* where in the RAM the page table of the window is */
struct machine; /* one CPU and its memory */

struct machine *machine_make(enum cpu_engine engine, const struct cpu_translate_tuning *tuning);
void machine_free(struct machine *m);
void machine_run(struct machine *m, const struct program *p, const struct choices *c, struct outcome *out);
uint8_t *machine_ram(struct machine *m);
/** The state of a CPU that never ran. */
const struct cpu_state *machine_reset(struct machine *m);
/** Of the exception that is on the stack: where in the RAM its RIP is; RFLAGS is 16 bytes behind. 0: none. */
uint32_t machine_frame(const struct outcome *out);
void machine_stats(struct machine *m, struct cpu_translate_stats *stats);
/** From a signal handler: ask the CPU that runs to exit. `give_up`: the case takes too long. */
void machine_kick(bool give_up);

#endif

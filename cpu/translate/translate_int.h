/* SPDX-License-Identifier: MIT */
/* What the files of the translator share. */
#ifndef CPU_TRANSLATE_TRANSLATE_INT_H
#define CPU_TRANSLATE_TRANSLATE_INT_H

#include "cpu/decode/decode.h"
#include "cpu/stub/code.h"
#include "cpu/translate/emit.h"
#include "cpu/translate/translate.h"

/* ---- registers --------------------------------------------------------------------------------------------------- */

#define STATE_BIAS 128 /* so that s.gpr is within a byte's reach of R11 */
#define H_STATE    H_R11
#define H_GUEST_SP H_R13
#define TEMP_ADDRESS H_R14 /* an address: the guest's, then the host's */
#define TEMP_VALUE   H_R15
#define TEMP_TARGET  H_R12

/** The displacement of a byte of struct cpu from R11. */
#define STATE(offset) ((int32_t)(offset) - STATE_BIAS)
#define STATE_OF(field) STATE(offsetof(struct cpu, field))

#define SPILLED 0xffu
/** The host register that holds a general register of the guest, or SPILLED. */
static inline unsigned host_of(unsigned gpr)
{
	return gpr == CPU_RSP ? (unsigned)H_GUEST_SP : gpr <= CPU_R10 ? gpr : SPILLED;
}

/* ---- translated blocks ------------------------------------------------------------------------------------------- */

/* Blocks of one guest page in one host page, for one mode of the TLB. They lead to each other by plain jumps. */
struct translated_page {
	struct translated_page *next; /* hash chain */
	uint64_t gen;                 /* every block in `blocks` was proved in this generation */
	uint64_t linear, host;
	uint64_t version;             /* of the code page, when all were proved last */
	uint64_t run_serial;
	uint8_t mode, tlb;
	struct translated *blocks;
};

/* One block's host code. Entries: which flags are current, and whether the way asks for a kick. */
enum entry { ENTRY_MEMORY, ENTRY_HOST, ENTRY_MEMORY_POLL, ENTRY_HOST_POLL, ENTRIES };
struct translated {
	struct block *block;
	struct translated_page *page;
	struct translated *next;      /* of the page */
	const uint8_t *start;         /* of its code */
	const uint8_t *entry[ENTRIES];
	const uint8_t *entry_checked; /* from cpu->fast.jump */
	uint32_t length;
	const uint16_t *ends;         /* where each op's code ends, from `start` */
	const uint8_t *x87;           /* for each op: struct translation's x87_last before it */
	bool dead;
};

#define CODE_BYTES    (96u << 20)
#define TRANSLATED    (1u << 18)  /* records */
#define PAGES         (1u << 15)
#define PAGE_BUCKETS  4096u
#define BLOCK_MOST    16384u      /* bytes of code of one block, at most */
#define KILL_MOST     256u        /* bytes to send callers of a dead block elsewhere */

/* A jump that is to lead to the block at `rip`, as soon as that has code in the same page. */
struct pending_jump {
	uint8_t *displacement;        /* in the writable mapping; NULL: none */
	struct translated_page *page;
	uint64_t rip, gen;
	enum entry entry;
};

/* ---- leaving translated code ------------------------------------------------------------------------------------- */

/* What R15 says at `leave`: one of these, and above it an address. R14: s.rip. */
#define LEAVE_SHIFT    3
#define LEAVE_LOOKUP   0u /* go on at s.rip */
#define LEAVE_OP       1u /* interpret the op at the address */
#define LEAVE_JUMP     2u /* + enum entry: as LEAVE_LOOKUP; the jump with this displacement could go there itself */

struct translate;

/* ---- memory.c ---------------------------------------------------------------------------------------------------- */

/** Returns: NULL without memory, or where the host forbids code. */
struct translate *translate_memory(struct cpu *cpu);
enum cpu_engine translate_engine(void);
const struct cpu_translate_tuning *translate_tuning(void);
bool translate_has_room(const struct translate *t);
struct translated_page *translate_page(struct cpu *cpu, const struct block *b, unsigned tlb);
/** The block whose code is at `pc`, in the executable mapping, or NULL. */
struct translated *translate_find(struct translate *t, const uint8_t *pc);

/* ---- thunk.c ----------------------------------------------------------------------------------------------------- */

void thunks_make(struct translate *t);

/* ---- one block being translated ---------------------------------------------------------------------------------- */

enum flags_place { FLAGS_MEMORY, FLAGS_HOST, FLAGS_BOTH };

/* Code that is seldom run, put behind the block's. */
enum stub_kind { STUB_ACCESS, STUB_VECTORS, STUB_X87, STUB_OP, STUB_START, STUB_EXIT, STUB_JUMP, STUB_FAR };
struct cold {
	enum stub_kind kind;
	uint8_t *from;          /* the displacement of the jump to it */
	const uint8_t *back;    /* STUB_ACCESS, STUB_VECTORS, STUB_X87: where to go on */
	uint8_t op;             /* number in the block */
	uint8_t size;           /* STUB_ACCESS */
	uint8_t x87;            /* x87_last at the jump */
	bool write;
	bool flags_in_host;     /* STUB_EXIT, STUB_JUMP */
	bool poll;              /* STUB_JUMP: the jump is to ask for a kick */
	uint64_t rip;
};
#define COLD_MOST 256u

/* An instruction of the block, once more as Zydis sees it. */
struct source {
	ZydisDecodedInstruction z;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
	const uint8_t *bytes;
	uint8_t how;            /* enum how */
	uint16_t reads, writes; /* arithmetic flags. writes: surely, all of them */
	uint16_t live;          /* flags that are read behind the instruction */
	bool changes;           /* some flag, perhaps */
};

enum how {
	HOW_CALL,   /* its handler */
	HOW_LEAVE,  /* the interpreter */
	HOW_NOTHING,
	HOW_COPY,   /* itself */
	HOW_VECTOR, /* itself, on XMM registers */
	HOW_X87,
	HOW_PUSH, HOW_POP, HOW_LEAVE_FRAME, HOW_CALL_NEAR, HOW_RET, HOW_JMP, HOW_JCC, HOW_DIV, HOW_IDIV,
};

struct translation {
	struct cpu *cpu;
	struct translate *t;
	struct block *block;
	struct translated *out;
	unsigned tlb;           /* FAST_* */
	struct emit e;
	enum flags_place flags;
	uint16_t live;          /* flags that are read before they are written */
	bool vectors;           /* XMM registers are known to be the host's */
	bool x87;               /* fast.x87 is known to be set */
	uint8_t x87_last;       /* number of the x87 instruction that the pointers miss, plus 1; 0: none */
	struct cold cold[COLD_MOST];
	unsigned cold_count;
	struct source source[BLOCK_OPS];
};

/* CPU_ENGINE_CHECK: what one block did. */
#define CHECK_WRITES 96u
struct check_write {
	uint8_t *host;
	unsigned size;
	uint8_t old[64], new[64];
};
struct check {
	struct cpu_state before, after;
	uint64_t flags_before, flags_after, res, aux;
	unsigned writes;
	struct check_write write[CHECK_WRITES];
};

/* The translator's own part of a CPU. Mapped when the first block is translated. */
struct translate {
	struct code_memory code;
	size_t thunks;                /* bytes of code that stay when blocks are forgotten */
	bool full;                    /* forget everything before the next block is entered */
	uint64_t (*enter)(struct cpu *cpu, const void *code);
	const uint8_t *leave, *access, *call, *vectors, *x87; /* thunk.c */
	uint32_t translated_used, pages_used;
	struct pending_jump pending;
	struct cpu_translate_stats stats;
	struct translation work;
	struct check check;
	struct translated_page *bucket[PAGE_BUCKETS];
	struct translated_page pages[PAGES];
	struct translated translated[TRANSLATED];
};

static inline uint8_t *translate_writable(const struct translate *t, const uint8_t *run)
{
	return t->code.write + (run - t->code.run);
}

/**
 * block.c: say how each instruction of a block is run, in the translator's one struct translation. Returns: NULL when
 * it cannot be translated.
 */
struct translation *translate_look(struct cpu *cpu, struct block *b);
/** block.c: translate. Returns: NULL when that cannot be done; t->full says whether for want of room. */
struct translated *translate_block(struct cpu *cpu, struct block *b, unsigned tlb);

/* ---- choose.c ---------------------------------------------------------------------------------------------------- */

/** Decide how each instruction of the block is run, and which flags live. */
void choose(struct translation *tr);

/* ---- flags.c ----------------------------------------------------------------------------------------------------- */

#define ARITH ((uint16_t)RFLAGS_ARITH)
/** The next instructions change RFLAGS. `needed`: flags that must survive; they are in cpu->fast.flags then. */
void flags_spill(struct translation *tr, uint16_t needed);
/** Bring flags into RFLAGS. Changes R15. */
void flags_want(struct translation *tr, uint16_t needed);
void emit_flags_save(struct emit *e);

/* ---- access.c ---------------------------------------------------------------------------------------------------- */

/**
 * R14 has a linear address: make it the host's. Changes R15. Flags are in cpu->fast.flags, or dead. `op`: number in
 * the block.
 */
void access_check(struct translation *tr, unsigned op, unsigned size, bool write);
/** The memory operand's linear address, into R14. Changes R15. */
void address(struct translation *tr, unsigned op);
/** R14 has its offset: make it linear. */
void address_add_segment(struct translation *tr, unsigned op);

/** Its offset in the segment, into any register. Changes R14 and R15. */
void address_effective(struct translation *tr, unsigned op, unsigned to);

/* ---- operands.c -------------------------------------------------------------------------------------------------- */

/** Emit instruction `op` with its registers in the host's; the memory operand's host address is in R14. */
void copy_instruction(struct translation *tr, unsigned op);
/** Is one of its operands an XMM register? */
bool has_xmm(const struct source *s);
/** Can it be copied? */
bool can_copy(const struct source *s);
/** Load a general register of the guest into a host register of one's own, or say where it is. Returns: where. */
unsigned guest_register(struct translation *tr, unsigned gpr, unsigned temp);
void guest_register_set(struct translation *tr, unsigned gpr, unsigned from);

/* ---- leave.c ----------------------------------------------------------------------------------------------------- */

/** The block goes on at `rip`, known now. `backward`: a loop may close here. */
void leave_to(struct translation *tr, uint64_t rip, bool backward);
/** Jump if `condition` of RFLAGS. */
void leave_if(struct translation *tr, unsigned condition, uint64_t rip, bool backward);
/** R14 has the next RIP. Go to the instruction's handler if no code is known for it, else R12 is the code. */
void leave_lookup(struct translation *tr, unsigned op);
/** Interpret instruction `op`, and what follows. `from`: displacement of a jump to there; NULL: here. */
void leave_interpret(struct translation *tr, unsigned op, uint8_t *from);
struct fast_jump *fast_jump_of(struct cpu *cpu, unsigned tlb, uint64_t rip);
struct cold *cold_add(struct translation *tr, enum stub_kind kind, uint8_t *from);
/** Put the cold code behind the block. */
void cold_emit(struct translation *tr);
/** A block is dead: its entries lead out. Returns: false without room. */
bool entries_close(struct translate *t, struct translated *dead);
/** Make a jump of translated code, by its displacement in the writable mapping, lead to `to`. */
void jump_aim(struct translate *t, uint8_t *displacement, const uint8_t *to);

/* ---- check.c --------------------------------------------------------------------------------------------- */

/** Translated code is about to write there. */
void check_note_write(struct cpu *cpu, uint8_t *host, unsigned size);
/** Before and after a block runs as host code. `end`: the op that is to be interpreted next; NULL: none of it. */
void check_begin(struct cpu *cpu);
void check_end(struct cpu *cpu, struct block *b, struct op *end);

/* ---- the C side of thunks; call.c -------------------------------------------------------------------------------- */

/** Returns: the host address, or 0: interpret the instruction. `what`: op << 16 | size << 1 | write. May leave. */
uint64_t translate_access(struct cpu *cpu, uint64_t linear, int64_t what);
/** Run the op's handler. Returns: 0, or what R15 is at `leave`. May leave. */
uint64_t translate_call(struct cpu *cpu, const struct op *op);

/** May the vector instruction `op` run here? Returns: 0: interpret it. May leave with its exception. */
uint64_t translate_vectors(struct cpu *cpu, const struct op *op);

/** May the x87 instruction `op` run here? Returns: 0: interpret it. */
uint64_t translate_x87(struct cpu *cpu, const struct op *op);

/* ---- x87.c ------------------------------------------------------------------------------------------------------- */

/** Is it an x87 instruction that can run as itself? */
bool is_x87(const struct source *s, const struct op *op);
void emit_x87(struct translation *tr, unsigned op);
/** Store the pointers to the last x87 instruction. Changes R15. `last`: as struct translation's x87_last. */
void x87_pointers(struct translation *tr, unsigned last);
/** The same, if they miss one: somebody may look now. */
void x87_pointers_flush(struct translation *tr);
/** Translated code was stopped: do what it would have done. */
void x87_pointers_trace(struct cpu *cpu, const struct block *b, unsigned last);
/** A handler was called: is fast.x87 still right? */
void x87_look_again(struct cpu *cpu);

/* The flags as LAHF and SETO leave them in AX. */
static inline uint64_t fast_flags_of(uint64_t rflags)
{
	return (rflags & 0xff) << 8 | (rflags >> 11 & 1);
}
static inline uint64_t rflags_of_fast(uint64_t fast)
{
	return (fast >> 8 & 0xd5) | (fast & 1) << 11;
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The inside of the software vCPU: what its files share, and how an instruction handler is written.
 *
 * Handlers. Every decoded instruction is a struct op with a function
 *
 *     void handler(struct cpu *cpu, const struct op *op);
 *
 * The rules of a handler:
 *  - It may raise an exception or leave in the middle (cpu_raise*, any mem_* call): those do not return. So
 *    everything that can fault comes first, and registers and flags change only after that. String instructions
 *    commit after each element.
 *  - It does not touch RIP, which the loop knows from the op. Control transfers and system instructions that set RIP
 *    end a block (OPF_END).
 *  - It reaches guest memory only through memory/mem.h, and flags only through flags.h.
 *
 * How a handler is found: decode/decode.c fills a struct op with operands. An instruction that CPUID does not offer
 * (decode/offer.c) is #UD. For the rest it asks sys_select, fpu_select, insn_int_select, insn_sse_select and
 * vector_select in turn.
 * A selector looks at the struct insn, may refine the op (sub, imm, size, ...), and returns a handler, or NULL for
 * "not mine". If no selector has one, the instruction is CPU_ERROR_EMULATION; guest-sweep looks for those.
 *
 * Where instructions are:
 *  - run/execute.c: the fast forms (4 and 8 bytes, flat 64-bit addressing) of moves, ALU, push, pop, call, ret,
 *    jumps. They are an optimisation only: every data instruction also has its general handler in insn/.
 *  - insn/jump.c: control transfers of every kind: jmp jcc loop jcxz call ret int iret syscall, and far ones.
 *  - insn/io.c: IN OUT INS OUTS.
 *  - insn/sys*.c: PUSHF POPF CLI STI, moves to and from segment, control and debug registers (LDS.. POP Sreg),
 *    CPUID, MSRs, TSC, TLB and cache instructions, fences, hints, NOPs.
 *  - the other files of insn/: MOV of every width and segment, ALU, shifts, MUL DIV, BT*, BCD, XCHG, CMPXCHG*, XADD,
 *    PUSH POP (GPR, imm, memory) PUSHA POPA ENTER LEAVE, LEA, SETcc, CMOVcc, XLAT, BOUND, flags (CLC CMC CLD LAHF
 *    ...), MOVS STOS LODS SCAS CMPS, LOCK forms.
 *  - fpu/x87.c, fpu/image.c: x87, FXSAVE..XRSTOR, LDMXCSR STMXCSR.
 *  - fpu/sse_*.c, fpu/mmx*.c: instructions on XMM and MMX registers, up to SSE3.
 *  - stub/: every later vector instruction. It runs as itself.
 */
#ifndef CPU_BASE_TYPES_H
#define CPU_BASE_TYPES_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <Zydis/Zydis.h>

#include "cpu/cpu.h"

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define INLINE      static inline __attribute__((always_inline))
/* Other vCPUs and the program that owns guest memory race with this CPU on it, by design. */
#define GUEST_RACY  __attribute__((no_sanitize("thread")))
/* The same for inline code. ThreadSanitizer checks inlined code as it does the caller, so there it is not inlined. */
#ifdef __SANITIZE_THREAD__
#define GUEST_RACY_INLINE static __attribute__((noinline, unused, no_sanitize("thread")))
#else
#define GUEST_RACY_INLINE INLINE
#endif

/* ---- architectural constants ------------------------------------------------------------------------ */

#define RFLAGS_CF     (UINT64_C(1) << 0)
#define RFLAGS_FIXED1 (UINT64_C(1) << 1)
#define RFLAGS_PF     (UINT64_C(1) << 2)
#define RFLAGS_AF     (UINT64_C(1) << 4)
#define RFLAGS_ZF     (UINT64_C(1) << 6)
#define RFLAGS_SF     (UINT64_C(1) << 7)
#define RFLAGS_TF     (UINT64_C(1) << 8)
#define RFLAGS_IF     (UINT64_C(1) << 9)
#define RFLAGS_DF     (UINT64_C(1) << 10)
#define RFLAGS_OF     (UINT64_C(1) << 11)
#define RFLAGS_IOPL   (UINT64_C(3) << 12)
#define RFLAGS_NT     (UINT64_C(1) << 14)
#define RFLAGS_RF     (UINT64_C(1) << 16)
#define RFLAGS_VM     (UINT64_C(1) << 17)
#define RFLAGS_AC     (UINT64_C(1) << 18)
#define RFLAGS_VIF    (UINT64_C(1) << 19)
#define RFLAGS_VIP    (UINT64_C(1) << 20)
#define RFLAGS_ID     (UINT64_C(1) << 21)
#define RFLAGS_ARITH  (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

#define CR0_PE (UINT64_C(1) << 0)
#define CR0_MP (UINT64_C(1) << 1)
#define CR0_EM (UINT64_C(1) << 2)
#define CR0_TS (UINT64_C(1) << 3)
#define CR0_ET (UINT64_C(1) << 4)
#define CR0_NE (UINT64_C(1) << 5)
#define CR0_WP (UINT64_C(1) << 16)
#define CR0_AM (UINT64_C(1) << 18)
#define CR0_NW (UINT64_C(1) << 29)
#define CR0_CD (UINT64_C(1) << 30)
#define CR0_PG (UINT64_C(1) << 31)

#define CR4_VME        (UINT64_C(1) << 0)
#define CR4_PVI        (UINT64_C(1) << 1)
#define CR4_TSD        (UINT64_C(1) << 2)
#define CR4_DE         (UINT64_C(1) << 3)
#define CR4_PSE        (UINT64_C(1) << 4)
#define CR4_PAE        (UINT64_C(1) << 5)
#define CR4_MCE        (UINT64_C(1) << 6)
#define CR4_PGE        (UINT64_C(1) << 7)
#define CR4_PCE        (UINT64_C(1) << 8)
#define CR4_OSFXSR     (UINT64_C(1) << 9)
#define CR4_OSXMMEXCPT (UINT64_C(1) << 10)
#define CR4_UMIP       (UINT64_C(1) << 11)
#define CR4_LA57       (UINT64_C(1) << 12)
#define CR4_FSGSBASE   (UINT64_C(1) << 16)
#define CR4_PCIDE      (UINT64_C(1) << 17)
#define CR4_OSXSAVE    (UINT64_C(1) << 18)
#define CR4_SMEP       (UINT64_C(1) << 20)
#define CR4_SMAP       (UINT64_C(1) << 21)
#define CR4_PKE        (UINT64_C(1) << 22)

#define DR6_BS       UINT64_C(0x4000)
#define DR6_WRITABLE UINT64_C(0xe00f)
#define DR6_FIXED1   UINT64_C(0xffff0ff0)
#define DR7_WRITABLE UINT64_C(0xffff2bff)
#define DR7_FIXED1   UINT64_C(0x400)
#define DR7_LOCAL    UINT64_C(0x155) /* L0-L3, LE */
#define DR6_BT       UINT64_C(0x8000)

#define EFER_SCE   (UINT64_C(1) << 0)
#define EFER_LME   (UINT64_C(1) << 8)
#define EFER_LMA   (UINT64_C(1) << 10)
#define EFER_NX    (UINT64_C(1) << 11)
#define EFER_SVME  (UINT64_C(1) << 12)
#define EFER_FFXSR (UINT64_C(1) << 14)

enum cpu_vector {
	VECTOR_DE = 0, VECTOR_DB = 1, VECTOR_NMI = 2, VECTOR_BP = 3, VECTOR_OF = 4, VECTOR_BR = 5, VECTOR_UD = 6,
	VECTOR_NM = 7, VECTOR_DF = 8, VECTOR_TS = 10, VECTOR_NP = 11, VECTOR_SS = 12, VECTOR_GP = 13,
	VECTOR_PF = 14, VECTOR_MF = 16, VECTOR_AC = 17, VECTOR_MC = 18, VECTOR_XM = 19,
};

/* ---- a decoded instruction --------------------------------------------------------------------------- */

struct op;
struct block;
struct stub;
typedef void op_fn(struct cpu *cpu, const struct op *op);

/*
 * A register is named by its byte offset in struct cpu. So AH is one more than AL, and "no register" is a place that
 * always holds 0: an effective address is three loads and two adds, whatever its form.
 */
#define OPR_ZERO   0u
#define OPR(reg)   (64u + 8u * (unsigned)(reg))
#define OPR_AH(reg) (OPR(reg) + 1u) /* AH, CH, DH, BH of RAX, RCX, RDX, RBX */
/** The number of the GPR that is named so. */
static inline unsigned opr_number(unsigned opr)
{
	return (opr - OPR(0)) / 8;
}

/* One cache line. decode/decode.c fills in every field but those of run/execute.c. */
struct op {
	const void *label;  /* run/execute.c's */
	op_fn *fn;
	uint64_t rip;       /* of this instruction (offset in CS) */
	int64_t imm;        /* the (first) immediate, sign-extended from its encoded size if the instruction
	                       does so, else zero-extended; a relative branch: the target RIP, wrapped */
	int64_t disp;       /* displacement; RIP-relative: the address itself, and base is OPR_ZERO */
	union {
		struct block *target; /* run/execute.c's: the block that a direct branch went to last */
		const struct stub *stub; /* stub/vector.c's: how the host runs a vector instruction */
	};
	uint8_t reg[3];     /* reg[i]: operand i when it is a register: OPR offset of a GPR; the number of an
	                       XMM, MMX, x87, segment, control or debug register */
	uint8_t base, index, scale; /* memory operand: OPR offsets; scale is a shift count */
	uint8_t seg;        /* enum cpu_seg of the memory operand, overrides applied (strings: of the rSI one) */
	uint8_t size;       /* bytes of operand 0 (1, 2, 4, 8, 16...) */
	uint8_t size2;      /* bytes of operand 1, 0 if none */
	uint8_t len;        /* of the instruction */
	uint8_t asize;      /* address size: 2, 4, 8 */
	uint8_t osize;      /* effective operand size: 2, 4, 8 */
	uint8_t mem;        /* which operand is in memory: 0..2, or OP_NO_MEM */
	uint8_t sub;        /* the selector's to use; decode/decode.c puts the condition of Jcc, SETcc, CMOVcc here */
	uint8_t flags;      /* OPF_* */
	uint8_t imm2;       /* second immediate (ENTER) */
};
_Static_assert(sizeof(struct op) == 64, "one cache line");

#define OP_NO_MEM 0xffu
#define OPF_FLAT  0x01u /* memory operand: 64-bit address size in 64-bit mode, no FS/GS: linear == effective */
#define OPF_LOCK  0x02u
#define OPF_REP   0x04u /* F3 */
#define OPF_REPNE 0x08u /* F2 */
#define OPF_END   0x10u /* ends its block: sets RIP itself, or changes what decoding depends on */
#define OPF_LONG  0x20u /* decoded in 64-bit mode */
#define OPF_X87   0x40u /* KVM's emulator does not know it: an emulation error where only the emulator could serve */
/* An operand in memory, not on the stack, that ModRM does not name: strings, XLAT, MASKMOVQ. */
#define OPF_HIDDEN 0x80u

/* What a selector sees. Operand i of op->reg is o[i]; hidden operands follow the explicit ones. */
struct insn {
	const ZydisDecodedInstruction *z;
	const ZydisDecodedOperand *o;
	unsigned bits; /* of the code segment: 16, 32, 64 */
	const uint8_t *bytes; /* z->length of them */
};

/** The handler of an instruction that does not exist: #UD. */
void op_undefined(struct cpu *cpu, const struct op *op);

/** Selectors, supplied by insn/ and fpu/. May write op->sub, imm, size*. Returns: NULL for "not mine". */
op_fn *sys_select(const struct insn *insn, struct op *op);
op_fn *fpu_select(const struct insn *insn, struct op *op);
op_fn *insn_int_select(const struct insn *insn, struct op *op); /* insn/misc.c */
op_fn *insn_sse_select(const struct insn *insn, struct op *op); /* fpu/sse_move.c */
op_fn *vector_select(struct cpu *cpu, const struct insn *insn, struct op *op); /* stub/vector.c */

/* ---- TLB ------------------------------------------------------------------------------------------------ */

#define TLB_ENTRIES 1024u /* per kind; direct-mapped by page number */

enum tlb_kind { TLB_READ, TLB_WRITE, TLB_EXEC, TLB_KINDS };

/*
 * tag: linear page | generation << 2 | smap bit << 1 | user bit. Bit 11 (TLB_SLOW) is never in cpu->tlb_tag, so an
 * entry that has it misses the inline check. Such are the write entries of pages that hold decoded code.
 */
struct tlb_entry {
	uint64_t tag;
	uint64_t addend; /* host address = linear + addend */
};
#define TLB_USER 1u
#define TLB_SMAP 2u
/* Both together: alignment is checked. No entry for data has both, so that each access comes to memory/mem.c. */
#define TLB_ALIGNED (TLB_USER | TLB_SMAP)
#define TLB_GENERATION_SHIFT 2
#define TLB_GENERATIONS 512u
#define TLB_SLOW (UINT64_C(1) << 11)

/*
 * What translated code looks up (cpu/translate/). The TLB holds copies of entries of cpu->tlb that need no slow path,
 * of the current generation: one TLB for each value of TLB_USER and TLB_SMAP, so that a tag is a linear page and
 * nothing else. An empty entry has 0; entry 0, where page 0 belongs, has all ones.
 */
#define FAST_MODES 3u
#define FAST_KINDS 2u /* TLB_READ, TLB_WRITE */
struct fast_entry {
	uint64_t tag;  /* linear page */
	uint64_t host; /* host page */
};

/* Where the host code of the block at `rip` begins. Empty: 0; slot 0, where RIP 0 belongs, has 1. */
#define FAST_JUMPS 16384u
struct fast_jump {
	uint64_t rip;
	const void *code;
};

struct fast {
	uint32_t flags; /* the guest's, in translated code: bit 0: OF; bits 8 to 15: RFLAGS' low byte */
	bool vectors;   /* in translated code: XMM0 to XMM15 of the guest are the host's, and not in s.vectors */
	bool x87;       /* in translated code: x87_loaded, and it may run x87 instructions */
	bool miss;      /* of tests: the TLB stays empty */
	uint64_t used[FAST_MODES][FAST_KINDS]; /* bit n: one of entries 16n to 16n + 15 was filled */
	struct fast_entry tlb[FAST_MODES][FAST_KINDS][TLB_ENTRIES];
	struct fast_jump jump[FAST_MODES][FAST_JUMPS];
};

/* Guest physical page -> host page, as entry.root translates. Valid until entry.flush. */
#define NTLB_ENTRIES 256u
struct ntlb_entry {
	uint64_t tag;  /* gpa page | rights; 0: empty */
	uint64_t host; /* host page */
};

struct code_page;

/* ---- the CPU ------------------------------------------------------------------------------------------- */

/* Why the loop was left by longjmp. */
enum leave {
	LEAVE_NONE,
	LEAVE_FAULT,     /* a fault for the library: p->fault_*, or p->shadow */
	LEAVE_EXCEPTION, /* s.events.exception is to be delivered at cpu->op */
	LEAVE_EXIT,      /* p->exit is filled in; RIP stays at the instruction */
	LEAVE_RESTART,   /* run the instruction at cpu->op again, alone (p->single_next) or from a fresh block */
	LEAVE_DONE,      /* the instruction is complete; cpu->s.rip is already right */
	LEAVE_PART,      /* part of it is done; its writes to devices come now, then its rest, before anything else */
	LEAVE_TASK,      /* another task's registers were loaded, cpu->op is its first instruction: task_load is next */
	LEAVE_LOCK,      /* run it again, when this CPU has memory/codemap.c's lock for locked accesses */
	LEAVE_HOST_FAULT, /* the host page behind guest memory is gone: p->host_fault_gpa */
};

/* An access of the current instruction that memory did not answer. */
#define MMIO_FRAGMENTS 36u /* every other byte of a vector of 64, over two pages */
struct mmio_fragment {
	uint64_t gpa;
	uint8_t len;
	uint8_t data[8];
};

/*
 * Host instructions that run under the guest's MXCSR, and may raise SIGFPE for an exception that it unmasks. It is
 * fpu/fpe.c's, and the signal handler reads it.
 */
struct fpe_window {
	const void *from;     /* where they are */
	size_t length;
	const void *landing;  /* where the thread goes on after the signal */
	void *sp;             /* with which stack pointer; NULL: with that of the instruction */
	uint32_t mxcsr, host; /* fpe_call's: the guest's, and the program's */
	volatile bool stopped; /* the signal came */
	bool open;            /* SIGFPE is not blocked until cpu_run returns */
	bool block;           /* it was before */
};

struct cpu {
	uint64_t zero[8];    /* OPR_ZERO; never written */
	struct cpu_state s;  /* OPR(reg) finds s.gpr; rflags: arithmetic bits are stale while running, see flags.h */

	/* hot */
	uint64_t fl_res, fl_aux; /* flags.h */
	uint64_t tlb_tag;        /* generation and privilege of the current data accesses */
	const struct op *op;     /* the instruction being executed: RIP of any fault */
	uint64_t lin_mask;       /* linear addresses wrap here: all ones in 64-bit mode, else 32 bits */
	uint64_t seg_base[8];    /* by enum cpu_seg, as 64-bit mode sees them */
	uint8_t seg_fast;        /* bit n: segment n needs no check, base + offset is right */
	uint8_t cpl;
	uint8_t mode;            /* MODE_*: what decoding depends on */
	bool mxcsr_careful;      /* mxcsr.h: some exception of SSE is unmasked */
	bool mxcsr_inside;       /* the host's register is the guest's; mxcsr_outside is the host's value */
	uint32_t mxcsr_outside;
	bool x87_loaded;         /* x87_host.h: the host's x87 registers are the guest's; x87_outside: its own */
	struct { uint16_t control, status; } x87_outside;
	bool single;             /* an instruction runs alone: writes to code, MMIO, stepping */
	uint64_t code_gen;       /* a block of this generation needs no validation */
	struct vmmu_entry entry;

	struct cpu_private *p;   /* the rest: private.h. Not for handlers */

	struct tlb_entry tlb[TLB_KINDS][TLB_ENTRIES];
	struct fast fast;        /* untouched while nothing is translated */
};
_Static_assert(offsetof(struct cpu, s.gpr) == 64, "OPR");

/* ---- leaving an instruction. None of these returns ------------------------------------------------------- */

/** Raise an exception at the current instruction. cpu_raise is for vectors without error code. */
_Noreturn void cpu_raise(struct cpu *cpu, enum cpu_vector vector);
_Noreturn void cpu_raise_error(struct cpu *cpu, enum cpu_vector vector, uint32_t error);
/** #GP(0); #UD. */
_Noreturn void cpu_gp(struct cpu *cpu);
_Noreturn void cpu_ud(struct cpu *cpu);
/** The instruction, or this form of it, is not implemented: CPU_EXIT_INTERNAL_ERROR. */
_Noreturn void cpu_unimplemented(struct cpu *cpu);

/**
 * For string instructions, after each element is committed (count register included) and more are left.
 * Returns: true when the CPU must look around (a kick, an interrupt, MMIO in flight). Call rep_restart then.
 */
bool rep_must_stop(struct cpu *cpu);
_Noreturn void rep_restart(struct cpu *cpu);

/**
 * For gathers and scatters, after each element is committed (mask included). Does not return when the element was a
 * device's, or a write that the library makes: that happens now, and the instruction runs again for the other elements.
 */
void element_done(struct cpu *cpu);

/* ---- registers -------------------------------------------------------------------------------------------- */

typedef uint8_t __attribute__((may_alias)) reg8;
typedef uint16_t __attribute__((may_alias)) reg16;
typedef uint32_t __attribute__((may_alias)) reg32;
typedef uint64_t __attribute__((may_alias)) reg64;

/** Read a GPR operand of constant size 1, 2, 4, 8, zero-extended. */
INLINE uint64_t reg_read(const struct cpu *cpu, unsigned opr, unsigned size)
{
	const char *at = (const char *)cpu + opr;

	switch (size) {
	case 1: return *(const reg8 *)at;
	case 2: return *(const reg16 *)at;
	case 4: return *(const reg32 *)at;
	default: return *(const reg64 *)at;
	}
}

/** Write a GPR operand. 4 bytes clear the upper half; 1 and 2 bytes keep the rest. */
INLINE void reg_write(struct cpu *cpu, unsigned opr, unsigned size, uint64_t value)
{
	char *at = (char *)cpu + opr;

	switch (size) {
	case 1: *(reg8 *)at = (uint8_t)value; break;
	case 2: *(reg16 *)at = (uint16_t)value; break;
	case 4: *(reg64 *)at = (uint32_t)value; break;
	default: *(reg64 *)at = value; break;
	}
}

/** XMM register n, which is the start of YMM n and ZMM n; 64-aligned. */
INLINE uint8_t *cpu_xmm(struct cpu *cpu, unsigned n)
{
	return cpu->s.vectors.v[n];
}

/** What every SSE handler calls first: #UD or #NM by CR0.EM, CR0.TS and CR4.OSFXSR. */
INLINE void cpu_sse_check(struct cpu *cpu)
{
	if (unlikely((cpu->s.cr0 & (CR0_EM | CR0_TS)) || !(cpu->s.cr4 & CR4_OSFXSR))) {
		if ((cpu->s.cr0 & CR0_EM) || !(cpu->s.cr4 & CR4_OSFXSR))
			cpu_ud(cpu);
		cpu_raise(cpu, VECTOR_NM);
	}
}

INLINE bool sign_extended(uint64_t value, unsigned bits)
{
	return (uint64_t)((int64_t)(value << (64 - bits)) >> (64 - bits)) == value;
}

/** Canonical in the current paging mode. For addresses that are jumped to or accessed. */
INLINE bool canonical(const struct cpu *cpu, uint64_t linear)
{
	return sign_extended(linear, cpu->s.cr4 & CR4_LA57 ? 57 : 48);
}

/* cpu->mode */
#define MODE_BITS_16 0u
#define MODE_BITS_32 1u
#define MODE_BITS_64 2u
#define MODE_BITS    3u
#define MODE_USER    4u /* CPL 3 */
#define MODE_SS32    8u /* the stack pointer is 32 bits (outside 64-bit mode) */
#define MODE_PROT    16u /* CR0.PE and not virtual-8086 */
#define MODE_V86     32u
/** In 64-bit mode now? OPF_LONG in the op says the same. */
INLINE bool cpu_is_64(const struct cpu *cpu)
{
	return (cpu->mode & MODE_BITS) == MODE_BITS_64;
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The part of a CPU that only the machinery sees: the run loop, blocks, walks, events. Instruction handlers of
 * GPRs and vectors do not include this.
 */
#ifndef CPU_BASE_PRIVATE_H
#define CPU_BASE_PRIVATE_H

#include <stdatomic.h>

#include "cpu/base/turns.h"
#include "cpu/base/types.h"

/* ---- requests from other threads ------------------------------------------------------------------------ */

#define REQUEST_EXIT      1u
#define REQUEST_INTERRUPT 2u
#define REQUEST_SHOOT     4u /* drop write translations: a page became code (memory/codemap.c) */
#define REQUEST_CODE      8u /* decoded code was written: validate blocks again */

/*
 * What the other CPUs of the VM see of one. A seat outlives its CPU and goes to a later one, so that it may be looked at without a
 * lock. `cpu` is read and written under the VM's lock.
 */
struct seat {
	_Atomic(unsigned) requests; /* REQUEST_* */
	_Atomic(unsigned) in_guest;
	struct cpu *cpu;            /* NULL: empty */
	uint64_t atomic_number;     /* with the VM's lock: its place among those that wait for codemap_atomic_await, or 0 */
	struct seat *next;          /* constant */
};

/* ---- blocks ------------------------------------------------------------------------------------------------ */

#define BLOCK_OPS    32u
#define BLOCK_HASH   8192u
#define JUMP_CACHE   2048u
#define ARENA_BYTES  (16u << 20)

/*
 * Instructions decoded in a row, of one page (the last may reach into the next one).
 * Key: host address of the first byte, RIP, mode. Valid when `gen` equals cpu->code_gen; otherwise block_get looks whether the
 * fetch TLB still leads to `host`, the page was not written, and the bytes are what they were.
 */
struct block {
	uint64_t rip;
	uint64_t gen;
	uint8_t mode;
	uint8_t length;    /* bytes of code in the first page */
	uint8_t length2;   /* in the second */
	bool dead;
	uint16_t ops_count;
	uint64_t run_serial; /* bytes were compared in this cpu_run */
	const uint8_t *host, *host2;
	struct code_page *page, *page2;
	uint64_t version, version2;
	uint64_t lines, lines2; /* those of the code */
	struct block *next; /* hash chain */
	uint8_t *bytes;     /* length + length2 of them, as decoded */
	struct op ops[];
};

/* A host page that holds decoded code in some CPU of the VM; see memory/codemap.c. */
struct code_page {
	uint64_t page; /* host address */
	_Atomic(uint64_t) version;
	_Atomic(uint64_t) lines;      /* bit n: line n of 64 bytes has decoded code */
	_Atomic(uint64_t) shot;       /* version + 1 for which write TLBs were shot down */
	struct code_page *next;
};

/* ---- a walk's answer --------------------------------------------------------------------------------------- */

enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_EXEC };

/* Where one byte of linear memory is. */
struct place {
	uint8_t *host; /* NULL: a device, or memory that must be treated like one */
	uint64_t gpa;
	bool slow;     /* write: the page holds decoded code */
	const uint8_t *behind; /* not NULL: memory of which the library makes the write (memory/shadow.h) */
};

/* The guest's half of the last walk: tag as in struct tlb_entry. */
struct guest_walk {
	uint64_t tag, page;
	enum access access;
	bool large;
};

/*
 * Tables of 4 KiB entries that were walked to, so that the next walk into one begins there. What hardware calls paging-structure caches:
 * a guest's go with its TLB (by generation) and with every INVLPG, the second stage's with the nested TLB.
 */
#define WALK_TABLES 16u
struct guest_table {
	uint64_t region;     /* (linear >> 21) + 1; 0: empty */
	uint64_t generation; /* valid when it is cpu_private.tables_gen */
	uint64_t table;      /* gpa */
	uint64_t rights;     /* combined, of the entries above */
	bool nx;
};
struct nested_table {
	uint64_t region; /* (gpa >> 21) + 1; 0: empty */
	uint64_t *table; /* reached with all rights */
};

/* ---- the rest of a CPU ---------------------------------------------------------------------------------------- */

#define IO_NONE 0u
enum completion {
	COMPLETE_NONE,
	COMPLETE_STEP,    /* nothing but stepping over the instruction */
	COMPLETE_IN,      /* put the data in RAX, step over the IN */
	COMPLETE_OUT,     /* step over the OUT */
	COMPLETE_STRING,  /* INS: run it again with the data recorded */
	COMPLETE_MMIO_READ,  /* record, run again */
	COMPLETE_MMIO_WRITE, /* go on with the next pending write */
	COMPLETE_RDMSR, COMPLETE_WRMSR,
};

struct mmio_armed {
	uint64_t page; /* gpa >> 12 */
	bool write;
	bool emulate;  /* shadow paging: memory, to be written by the library */
	uint64_t tag;  /* shadow paging: the access; linear page | TLB_USER | TLB_SMAP */
};

/* Shadow paging; memory/shadow.c's. */
#define SHADOW_WRITES 80u /* of one instruction: an XSAVE area in pieces of 8 */
struct shadow_store {
	uint64_t gpa;
	const uint8_t *host;
	unsigned size;
	bool made; /* a locked instruction's, in place: the library is only told */
	uint8_t data[8];
};
struct shadow_state {
	bool regs_written;  /* CR0, CR3, CR4 or EFER: to be told to the library before the next entry */
	bool owner_wrote;   /* by the owner: PDPTEs are loaded again */
	bool guest_fault;   /* the library's answer to this fault: raise #PF when it comes again */
	bool guest_emulates; /* no, stop: KVM would emulate the instruction, and could not */
	uint32_t guest_error;
	uint64_t gva, error, tag; /* the last fault of a walk */
	unsigned emulations; /* faults on guest tables since an instruction was complete */
	unsigned writes_count;
	struct shadow_store writes[SHADOW_WRITES];
	uint64_t pdpte[4];  /* of PAE paging, as loaded with CR3 */
	unsigned system, system_n; /* what EXIT_SYSTEM is for */
	uint64_t system_value, system_linear;
};
/* An exit that never leaves cpu_run: a system instruction that is done outside the guest. */
#define EXIT_SYSTEM ((enum cpu_exit)-2)

struct cpu_private {
	struct vmmu_vcpu *vcpu;
	const struct cpu_ops *ops;
	void *ops_state;
	struct cpu_vm *vm;
	struct seat *seat;
	struct bell *bell; /* of the VM's CPUs that wait for each other; memory/codemap.c's */

	sigjmp_buf env;
	volatile bool env_valid; /* a longjmp to env is possible: guest code is being run */
	bool attention;          /* something waits for interrupts to become possible */
	bool request_came;       /* a request was found after the vCPU had entered the guest */
	bool window_wanted;
	bool single_next;        /* run the next instruction alone */
	bool completing;         /* an instruction that exited runs again with the answer, before any request, event or
	                            interrupt: its reads of devices cannot be made twice. Then the guest is left to look at those */
	bool large_pages;        /* the TLB may hold pieces of large guest pages */
	int delivering;          /* vector whose delivery is under way, -1: none */
	bool delivering_external; /* it is an interrupt or exception, not INT n: EXT in error codes */

	/* LEAVE_FAULT */
	struct vmmu_gpa fault_gpa;
	uint64_t fault_error;
	/* LEAVE_HOST_FAULT */
	uint64_t host_fault_gpa;
	/* LEAVE_EXIT and after */
	struct cpu_exit_info exit;
	enum completion completion;
	uint64_t complete_rip;  /* of the instruction that exited; completion is dropped when RIP was changed */
	uint64_t complete_next;
	bool cr8_written;        /* tell the owner when outside */
	const struct op *resume; /* after a nested fault: the op to go on with, when nothing was flushed */
	uint64_t resume_gen;

	/* devices */
	struct shadow_state shadow;
	struct mmio_armed armed[4];
	unsigned armed_count;
	struct mmio_fragment reads[MMIO_FRAGMENTS], writes[MMIO_FRAGMENTS];
	unsigned reads_count, reads_used, writes_count, writes_done;
	uint8_t io_data[CPU_IO_MAX];
	unsigned io_have; /* elements of an INS that came and were not stored yet */
	unsigned io_used;

	/* code */
	uint32_t cs_limit;
	uint8_t *arena;
	size_t arena_used;
	uint64_t arena_epoch;
	const void *const *labels; /* of run/execute.c */
	struct block **hash;          /* BLOCK_HASH */
	struct block **jump;          /* JUMP_CACHE */
	uint64_t run_serial;
	struct op fetch_op, event_op; /* what cpu->op is during a fetch, a delivery */
	struct block *single_block;
	struct code_page *written[4]; /* code pages that the single instruction wrote */
	unsigned written_count;
	ZydisDecoder decoder[3];

	struct ntlb_entry ntlb[NTLB_ENTRIES];
	struct nested_table nested_tables[WALK_TABLES];
	struct guest_table guest_tables[WALK_TABLES];
	uint64_t tables_gen;
	struct guest_walk last_walk;

	/* what CPUID says, as far as the CPU needs it */
	uint64_t phys_mask;  /* guest physical address bits */
	uint64_t cr4_valid, efer_valid, xcr0_valid;
	bool gbpages;
	bool intel;          /* the vendor; any other is taken for AMD */
	bool has_invpcid, has_rdtscp, has_rdpid; /* what KVM takes away from a guest whose CPUID lacks it */
	bool atomic_locked;   /* memory/codemap.c's lock for locked accesses is held: by an instruction, or for the next one */

	unsigned debug;      /* CPU_DEBUG_* */
	uint64_t debug_dr[8];
	bool step_trap;      /* TF was set when the instruction began */
	bool shadow_set;     /* the instruction set events.shadow itself */
	bool rf_loaded;      /* the instruction was an IRET that loaded RF: it is for the next one */
	uint64_t rep_rip;    /* of a string instruction that was left between two elements; ~0: none was. What comes there finds RF set */
	uint64_t step_past;  /* the breakpoint that was just reported here */
	bool debug_exit;     /* exit.debug is filled in */
	uint64_t dr6_hits;   /* data breakpoints that the instruction hit */
	uint64_t dr6_held;   /* those of a MOV SS: they trap after the next instruction */
};

/**
 * Canonical as far as the CPU can page, whatever the paging mode of the moment: what a register holds (segment bases, descriptor tables,
 * MSRs) and what INVPCID names.
 */
INLINE bool canonical_register(const struct cpu *cpu, uint64_t value)
{
	return sign_extended(value, cpu->p->cr4_valid & CR4_LA57 ? 57 : 48);
}

/** The CPU that runs guest code on this thread, for the signal handler. */
extern _Thread_local struct cpu *cpu_running __attribute__((tls_model("initial-exec")));

/* ---- run/run.c --------------------------------------------------------------------------------------------------- */

/** Leave the instruction; lands in cpu_run. */
_Noreturn void cpu_leave(struct cpu *cpu, enum leave why);
/** The current instruction is complete and goes on at `rip`, but the loop must look around first. */
_Noreturn void cpu_leave_done(struct cpu *cpu, uint64_t rip);
/** Exit at this instruction: p->exit is filled in; RIP stays, and completing it goes on at the next instruction. */
_Noreturn void cpu_leave_exit(struct cpu *cpu, enum cpu_exit reason, enum completion completion);
/** Does the loop have to look around now that interrupts may have become possible, or stepping begun? */
bool cpu_needs_look(const struct cpu *cpu);
/** IF, no shadow, nothing else under way. */
bool interrupt_possible(const struct cpu *cpu);

/** Forget what devices answered: the instruction that asked is over, or given up. */
void devices_forget(struct cpu *cpu);
/** The instruction before s.rip is complete, seen from the outside of it. */
void instruction_done(struct cpu *cpu);

/* ---- run/exit.c -------------------------------------------------------------------------------------------------- */

/** Not an exit: cpu_run goes on. */
#define GO_ON ((enum cpu_exit)-1)

/** p->exit is filled in: do what can be done here. Returns: GO_ON, or what cpu_run answers. */
enum cpu_exit exit_handle(struct cpu *cpu);
/** EXIT_SYSTEM, which is the frequent one with shadow paging: the library does the instruction, and the guest goes on. */
enum cpu_exit exit_system(struct cpu *cpu);
/** The next write that the last instruction made to a device, for each an exit. Returns: GO_ON when all are made. */
enum cpu_exit exit_writes(struct cpu *cpu);
/** The owner has answered the last exit. */
void exit_complete(struct cpu *cpu);
/** The instruction at s.rip runs again with what came, before anything else: see `completing`. */
void complete_again(struct cpu *cpu);

/* ---- run/error.c ---------------------------------------------------------------------------------------------------- */

/** Outside the guest: the exit for an internal error at cpu->op, an instruction or the delivery of an event. */
enum cpu_exit cpu_internal_error(struct cpu *cpu);

/* ---- run/execute.c ------------------------------------------------------------------------------------------------ */

/** Run blocks from s.rip until something asks for attention; s.rip is right on return. */
enum leave execute(struct cpu *cpu);
/** Go on at cpu->op, which is still valid, then as execute. */
enum leave execute_resume(struct cpu *cpu, const struct op *op);
/** Run one instruction at s.rip. */
enum leave execute_single(struct cpu *cpu);
/** The loop's own code for an op: its number for op_label_set, or 0 (call op->fn) when it has none. */
unsigned hot_select(const struct insn *insn, struct op *op);
/** Fill in op->label. 0: call op->fn, and look up the next block when OPF_END; 1: the end of a block. */
void op_label_set(struct cpu *cpu, struct op *op, unsigned hot);

/* ---- decode/decode.c, decode/offer.c, decode/block.c ------------------------------------------------------------------------------------------ */

enum decoded { DECODED_OK, DECODED_END, DECODED_MORE /* needs bytes beyond `available` */ };
/** Decode one instruction. Always fills in the op (undefined ones raise #UD). DECODED_END: a block ends after it. */
enum decoded decode(struct cpu *cpu, const uint8_t *bytes, unsigned available, uint64_t rip, struct op *op);

/** Does this processor have the instruction? If not, it is #UD. */
bool instruction_is_offered(const ZydisDecodedInstruction *z);
/** ZydisDecoderInit for this processor. */
void decoder_init(ZydisDecoder *decoder, ZydisMachineMode mode, ZydisStackWidth width);

/** The valid block at s.rip. May leave (fetch faults). */
struct block *block_get(struct cpu *cpu);
/** The instruction at s.rip alone, in p->single_block. */
struct block *block_single(struct cpu *cpu);
bool block_memory_init(struct cpu *cpu);
void block_memory_fini(struct cpu *cpu);
INLINE unsigned jump_slot(uint64_t rip)
{
	return (unsigned)((rip ^ rip >> 11) % JUMP_CACHE);
}

/* ---- memory/codemap.c -------------------------------------------------------------------------------------------------- */

/** Returns: false without memory. */
bool codemap_cpu_add(struct cpu_vm *vm, struct cpu *cpu);
void codemap_cpu_remove(struct cpu_vm *vm, struct cpu *cpu);
/** The page's record when it holds decoded code now, else NULL. Any time. */
struct code_page *codemap_find(struct cpu_vm *vm, const void *host);
/** An instruction is about to write where no code was found: take note if there was some. May leave, unless it runs alone. */
void codemap_heed(struct cpu *cpu);
/** codemap_find for a page that an instruction is about to write, with codemap_heed. */
struct code_page *codemap_for_write(struct cpu *cpu, const void *host);
/** The lines of a page that some bytes in it touch, a bit each. */
uint64_t codemap_lines(const uint8_t *host, unsigned bytes);
/** Is what was decoded at that version, from those lines, still good? */
bool codemap_alive(const struct code_page *page, uint64_t version, uint64_t lines);
/**
 * Before decoding `bytes` at `host` (one page): after it, no vCPU writes there unnoticed. Waits for other CPUs; leaves when this one is
 * asked to exit meanwhile. Returns: NULL without memory.
 */
struct code_page *codemap_mark(struct cpu *cpu, const uint8_t *host, unsigned bytes, uint64_t *version);
/** The page was (or is about to have been) written: all its blocks die, in every CPU. */
void codemap_written(struct cpu *cpu, struct code_page *page);
/** Answer REQUEST_SHOOT and REQUEST_CODE. At a block boundary or outside the guest. */
void codemap_answer(struct cpu *cpu);
INLINE void codemap_serve(struct cpu *cpu)
{
	if (unlikely(atomic_load(&cpu->p->seat->requests) & (REQUEST_SHOOT | REQUEST_CODE)))
		codemap_answer(cpu);
}
/** For CPUs that wait in codemap_mark: this one left the guest, or was asked something. After a full barrier. Async-signal-safe. */
INLINE void codemap_ring(struct cpu *cpu)
{
	bell_ring(cpu->p->bell);
}
/**
 * One lock for accesses that no atomic instruction can do; p->atomic_locked says that this CPU has it. Its owner may be outside the guest,
 * where the library makes the access, and wait for CPUs that are inside. So it is only tried inside, and awaited outside: until it
 * comes, in the order of asking, or the CPU is asked to exit.
 */
bool codemap_atomic_try(struct cpu *cpu);
void codemap_atomic_await(struct cpu *cpu);
void codemap_atomic_give(struct cpu *cpu);

/* ---- memory/tlb.c, memory/walk.c, memory/mem.c ----------------------------------------------------------------------------------------- */

void tlb_flush(struct cpu *cpu);          /* guest translations */
void tlb_flush_nested(struct cpu *cpu);   /* those and the second stage's */
void tlb_flush_page(struct cpu *cpu, uint64_t linear);
void tlb_flush_writes(struct cpu *cpu);
/** Recompute cpu->tlb_tag after CPL, AC, CR4 changed or after a longjmp. */
void tlb_tag_update(struct cpu *cpu);

/** Translate with all side effects; raises #PF, leaves for nested faults. Fills the TLB. */
struct place walk(struct cpu *cpu, uint64_t linear, enum access access);
/** The second stage alone. `error` VMMU_PF_* of the access. False: it would fault (p->fault_* are set). */
bool nested_walk(struct cpu *cpu, uint64_t gpa, uint64_t error, uint64_t *host);

/** As the supervisor whatever the CPL (descriptor tables, TSS). */
uint64_t sys_read(struct cpu *cpu, uint64_t linear, unsigned size);
void sys_write(struct cpu *cpu, uint64_t linear, unsigned size, uint64_t value);
/** True when the access of this instruction was found to be a device's. */
bool mmio_is_armed(const struct cpu *cpu, uint64_t gpa, bool write);

/* ---- system/seg.c ---------------------------------------------------------------------------------------------------------- */

/** Recompute mode, seg_fast, seg_base, lin_mask, cpl from segments and control registers. */
void mode_update(struct cpu *cpu);
/** MOV Sreg / POP Sreg with all checks. */
void seg_load(struct cpu *cpu, unsigned seg, uint16_t selector);
/** What real and virtual-8086 mode load. */
void seg_load_real(struct cpu *cpu, unsigned seg, uint16_t selector);
/** Read the 8-byte descriptor of a selector. False: outside its table. */
bool descriptor_read(struct cpu *cpu, uint16_t selector, uint64_t *descriptor);
/** Unpack a descriptor. */
struct cpu_segment descriptor_segment(uint16_t selector, uint64_t descriptor);
/** Set the accessed bit in the table if it is clear. */
void descriptor_accessed(struct cpu *cpu, uint16_t selector, uint64_t *descriptor);
/** The error code for a selector: without RPL; plus EXT while an external event is delivered. */
uint32_t selector_error(struct cpu *cpu, uint16_t selector);
/** Check a descriptor for loading it into SS at privilege `cpl`, and unpack it. `fault`: for a bad one (#TS in a task's stack, else #GP). */
struct cpu_segment stack_segment(struct cpu *cpu, uint16_t selector, unsigned cpl, enum cpu_vector fault);
/** After a return to an outer level: data segments that it may not see become null. */
void seg_drop_inner(struct cpu *cpu, unsigned cpl);
/** Read or write a stack that belongs to privilege `cpl`. */
uint64_t level_read(struct cpu *cpu, unsigned cpl, uint64_t linear, unsigned size);
void level_write(struct cpu *cpu, unsigned cpl, uint64_t linear, unsigned size, uint64_t value);

/* ---- system/far.c, system/event.c ---------------------------------------------------------------------------------------------------- */

/** All set s.rip. `next_rip`: what a call pushes. osize: 2, 4, 8. */
void far_jump(struct cpu *cpu, uint16_t selector, uint64_t offset, unsigned osize);
void far_call(struct cpu *cpu, uint16_t selector, uint64_t offset, uint64_t next_rip, unsigned osize);
void far_return(struct cpu *cpu, unsigned osize, unsigned pop_bytes);
void iret(struct cpu *cpu, unsigned osize);

/** Tell of the event whose delivery did not come to its end: error.event, gpa and access of the exit. */
void event_undelivered(const struct cpu *cpu, struct cpu_exit_info *exit);
/** Deliver what events.* holds, if anything can be. In the guest. True when RIP changed. */
bool event_deliver_pending(struct cpu *cpu);
/** Anything in events.* to be delivered at once? */
bool event_is_pending(const struct cpu *cpu);
enum event_kind { EVENT_EXCEPTION, EVENT_EXTERNAL, EVENT_SOFT_INT, EVENT_SOFT_EXCEPTION /* INT3, INTO */ };
/** Through the IDT. On return s.rip is the handler's. `rip`: to push. */
void event_deliver(struct cpu *cpu, unsigned vector, enum event_kind kind, bool has_error, uint32_t error, uint64_t rip);

/* ---- sys*.c, system/msr.c, insn/io.c, system/debug.c ---------------------------------------------------------------------------------- */

void rflags_set(struct cpu *cpu, uint64_t flags);
bool cr0_write(struct cpu *cpu, uint64_t value); /* false: #GP */
bool cr3_write(struct cpu *cpu, uint64_t value);
bool cr4_write(struct cpu *cpu, uint64_t value);
bool efer_write(struct cpu *cpu, uint64_t value, bool host);
void features_update(struct cpu *cpu);
void cpu_cpuid(struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
op_fn *io_select(const struct insn *insn, struct op *op);
op_fn *jump_select(const struct insn *insn, struct op *op);
/** After an instruction in stepping or breakpoint mode; raises or exits. */
void debug_after(struct cpu *cpu);
/** After an event was delivered right behind a MOV SS: what it held traps before the handler's first instruction. */
void debug_held(struct cpu *cpu);
/** Before one: instruction breakpoints. */
void debug_before(struct cpu *cpu);
bool debug_is_on(const struct cpu *cpu);
/* Stepping, or a breakpoint: of the guest's or the host's. */
INLINE bool debug_slow(const struct cpu *cpu)
{
	return unlikely(cpu->p->debug || (cpu->s.dr[7] & 0xff)) && debug_is_on(cpu);
}
/** The guest is about to access a debug register: exits when the host's DR7 says so (GD). */
void debug_register_access(struct cpu *cpu);
void debug_data(struct cpu *cpu, uint64_t linear, unsigned size, bool write);

#endif

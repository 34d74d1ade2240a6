/* SPDX-License-Identifier: MIT */
/*
 * The part of a CPU that only the machinery sees: the run loop, blocks, walks, events, system instructions. Handlers of
 * general and vector instructions do not include this.
 */
#ifndef CPU_BASE_PRIVATE_H
#define CPU_BASE_PRIVATE_H

#include <stdatomic.h>

#include <vmmu/nested.h>

#include "cpu/base/turns.h"
#include "cpu/base/types.h"

/* ---- requests from other threads ------------------------------------------------------------------------ */

#define REQUEST_EXIT      1u
#define REQUEST_INTERRUPT 2u
#define REQUEST_SHOOT     4u /* a page became code: drop write translations (memory/codemap.c) */
#define REQUEST_CODE      8u /* code that was decoded was written: validate blocks again */

/*
 * What the other CPUs of a VM see of one CPU. A seat outlives its CPU and goes to a later one, so that any CPU may
 * look at it without a lock. `cpu` is read and written with the VM's lock.
 */
struct seat {
	_Atomic(unsigned) requests; /* REQUEST_* */
	_Atomic(unsigned) in_guest;
	struct cpu *cpu;            /* NULL: empty */
	uint64_t atomic_number;     /* with the VM's lock: its number among the waiters of codemap_atomic_await, or 0 */
	struct seat *next;          /* constant once the seat is in the list */
};

/* ---- a walk's answer --------------------------------------------------------------------------------------- */

enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_EXEC };

/* The guest's half of the last walk. `tag`: as in struct tlb_entry. */
struct guest_walk {
	uint64_t tag, page;
	enum access access;
	bool large;
};

/*
 * Tables of 4 KiB entries that a walk came to, so that the next walk into the same table begins there. These are
 * hardware's paging-structure caches. The guest's are dropped with its TLB (by generation) and at every INVLPG,
 * those of the second stage with the nested TLB.
 */
#define WALK_TABLES 16u
struct guest_table {
	uint64_t region;     /* (linear >> 21) + 1; 0: empty */
	uint64_t generation; /* valid when equal to cpu_private.tables_gen */
	uint64_t table;      /* gpa */
	uint64_t rights;     /* combined, of the entries above */
	bool nx;
};
struct nested_table {
	uint64_t region; /* (gpa >> 21) + 1; 0: empty */
	uint64_t *table; /* reached with all rights */
};

/*
 * What the TLB knows under one ASID: the guest itself has 0, its nested guests have others. While a context is the
 * current one, its `saved` is not looked at: cpu and cpu_private have the values.
 */
#define TLB_CONTEXTS 4u
struct tlb_context {
	uint32_t asid;     /* of contexts[0]: 0; of the others 0: not in use */
	bool nested;       /* nested paging: the addresses that the second stage translates are the nested guest's */
	struct vmmu_nested table; /* with nested paging: the hypervisor's table behind them */
	uint64_t entered;  /* when the context was entered last */
	struct {
		uint64_t generation; /* 0: the TLB has nothing of this context */
		uint64_t tables_gen, code_gen;
		uint64_t controls[2]; /* bits of registers by which the translations were checked */
		uint64_t cs_base, cs_mask;
		uint32_t cs_limit;
		bool large_pages;
	} saved;
	struct ntlb_entry ntlb[NTLB_ENTRIES];
	struct nested_table nested_tables[WALK_TABLES];
};

/* ---- the rest of a CPU ---------------------------------------------------------------------------------------- */

enum completion {
	COMPLETE_NONE,
	COMPLETE_STEP,    /* only step over the instruction */
	COMPLETE_IN,      /* put the data in RAX, step over the IN */
	COMPLETE_OUT,     /* step over the OUT */
	COMPLETE_STRING,  /* INS: record the data, run the instruction again */
	COMPLETE_MMIO_READ,  /* record the answer, run the instruction again */
	COMPLETE_MMIO_WRITE, /* go on with the next pending write */
	COMPLETE_RDMSR, COMPLETE_WRMSR,
};

/* An access of the current instruction that the tables cannot answer. */
struct mmio_armed {
	uint64_t page;   /* gpa >> 12; in a nested guest with nested paging: of its own address */
	uint64_t target; /* the same in the guest's addresses */
	bool write;
	bool emulate;    /* the address is memory, and the library makes the write (memory/mirrored.h) */
	uint64_t tag;    /* shadow paging: which access: linear page | TLB_USER | TLB_SMAP */
};

/* State of shadow paging; memory/shadow.c, memory/mirrored.c and system/shadow_regs.c own it. */
#define SHADOW_WRITES 340u /* most that one instruction makes: an XSAVE area in pieces of 8 */
struct shadow_store {
	uint64_t gpa;
	const uint8_t *host;
	unsigned size;
	bool made; /* a locked instruction made it in place: the library is only told */
	uint8_t data[8];
};
struct shadow_state {
	bool regs_written;  /* CR0, CR3, CR4 or EFER changed: tell the library before the next entry */
	bool owner_wrote;   /* the owner changed them: load PDPTEs again */
	bool guest_fault;   /* the library's answer to the last fault: raise #PF when that fault comes again */
	bool guest_emulates; /* with guest_fault: KVM would emulate the instruction here, and cannot; stop */
	uint32_t guest_error;
	uint64_t gva, error, tag; /* the last fault of a walk */
	unsigned emulations; /* faults on guest tables since the last instruction was complete */
	unsigned writes_count;
	struct shadow_store writes[SHADOW_WRITES];
	uint64_t pdpte[4];  /* of PAE paging, as loaded with CR3 */
	unsigned system, system_n; /* which instruction left by EXIT_SYSTEM */
	uint64_t system_value, system_linear;
};
/* An exit that stays inside cpu_run: a system instruction that is done outside the guest. */
#define EXIT_SYSTEM ((enum cpu_exit)-2)
/* The same for RSM. */
#define EXIT_RSM ((enum cpu_exit)-3)
/* The same for a #VMEXIT, which p->svm.exit describes, and for VMRUN, VMLOAD and VMSAVE. */
#define EXIT_SVM ((enum cpu_exit)-4)
/* The same to ask the hypervisor's I/O permission map, before an IN, OUT, INS or OUTS does anything. */
#define EXIT_PORT_MAP ((enum cpu_exit)-5)

/* What system/svm.c keeps beside cpu_state.svm. */
struct svm_private {
	uint32_t intercepts[6]; /* the control area's in guest mode, else 0 */
	struct {
		bool noted;     /* a #VMEXIT is to be made before anything else */
		uint64_t code, info1, info2;
		uint64_t next_rip; /* 0: not an intercepted instruction */
		uint64_t int_info; /* the event whose delivery was under way, as EXITINTINFO has it */
		uint8_t fetched_count, fetched[15]; /* a data page fault: the bytes at RIP */
	} exit;
	/* system/intercept.c's */
	bool port_allowed;      /* the map was asked about the port of the instruction that runs again */
	bool monitor_armed;     /* since a MONITOR */
	uint32_t pause_left;    /* PAUSEs that the filter still lets pass */
	uint64_t pause_tsc;     /* the time of the last PAUSE */
	/* EVENTINJ, until its event is delivered or has failed. */
	bool nmi_injected;      /* an NMI of the hypervisor: it masks no others */
	bool inject_rip_valid;  /* a software interrupt, or INT3 or INTO: */
	uint64_t inject_rip;    /* where its handler returns to */
	struct {                /* the VMCB as VMRUN found it: #VMEXIT writes what is different now */
		bool valid;
		uint8_t control[0xe0], save[0x270];
	} found;
	unsigned operation;     /* enum svm_operation: why the guest was left */
	uint64_t operand;       /* rAX: physical address of a VMCB */
	bool operand_virtual;   /* the nested guest's physical address */
	bool attached;          /* vmmu_nested_enter was called */
	bool reattach;          /* the owner changed guest mode: the next cpu_run makes it so */
	bool fatal;             /* the triple fault is the hypervisor's, whatever it intercepts */
	bool has_npt, has_nrips, has_decode_assists, has_virtual_vmload; /* CPUID 8000_000A */
};

/* The breakpoints, of the guest or of the host, that blocks and the TLB take account of. debug_arm's. */
struct debug_armed {
	bool code, data; /* is there one of that kind? */
	uint64_t dr[4], dr7; /* what does not count is 0 */
	uint64_t looks;      /* counts debug_data_slow, for tests */
};

struct cpu_private {
	struct vmmu_vcpu *vcpu;
	const struct cpu_ops *ops;
	void *ops_state;
	struct cpu_vm *vm;
	struct seat *seat;
	struct bell *bell; /* for CPUs of the VM that wait for each other; memory/codemap.c's */

	sigjmp_buf env;
	volatile bool env_valid; /* guest code is running, so a longjmp to env is possible */
	bool attention;          /* an interrupt, or the owner, waits for interrupts to become possible */
	bool interrupt_waits;     /* of what `attention` says: a physical interrupt, or the owner for one */
	bool request_came;       /* a request came between before_entry and the entry into the guest */
	bool window_wanted;
	bool page_wait_exits;    /* cpu_page_wait_exits */
	bool page_wait_once;     /* the next fault waits for its page all the same */
	unsigned paging_switches; /* the guest's writes that changed CR0.PG */
	bool single_next;        /* run the next instruction alone */
	bool raised;             /* event_is_raised */
	/*
	 * An instruction that exited runs again with the answer, before any request, event or interrupt: its reads of
	 * devices cannot be made twice. When the instruction is complete, the CPU leaves the guest to look at requests.
	 */
	bool completing;
	bool large_pages;        /* the TLB may hold pieces of large guest pages */
	struct {                 /* system/task.c's: a task switch of which the second half is still to be done */
		bool loading, trap, has_error, external;
		bool reserve;    /* the dirty ring's reserve is open, so that a full ring does not show the middle */
		int delivering;
		uint32_t error;
		uint64_t rip;    /* of the new task; when the owner moves RIP, the rest is dropped */
	} task;
	int delivering;          /* the vector whose delivery is under way; -1: none */
	uint32_t delivering_soft; /* the event of an INT n, INT1, INT3 or INTO under way, as in EXITINTINFO; 0: none */
	bool delivering_external; /* error codes have EXT: the event is an interrupt; on Intel an exception, too */

	/* LEAVE_FAULT */
	struct vmmu_gpa fault_gpa;
	uint64_t fault_error;
	/* LEAVE_HOST_FAULT */
	uint64_t host_fault_gpa;
	struct fpe_window fpe;
	/* LEAVE_EXIT and after */
	struct cpu_exit_info exit;
	enum completion completion;
	uint64_t complete_rip;  /* of the instruction that exited; when the owner moves RIP, completion is dropped */
	uint64_t complete_next;
	bool cr8_written;        /* tell the owner, outside the guest */
	const struct op *resume; /* after a nested fault: the op to go on with, if nothing was flushed meanwhile */
	uint64_t resume_gen;

	/* devices */
	struct shadow_state shadow;
	struct svm_private svm;
	struct mmio_armed armed[4];
	unsigned armed_count;
	struct mmio_fragment reads[MMIO_FRAGMENTS], writes[MMIO_FRAGMENTS];
	unsigned reads_count, reads_used, writes_count, writes_done;
	uint8_t io_data[CPU_IO_MAX];
	/* The IN, OUT, INS or OUTS that exited last, for an SMI that comes with it: see system/smm.c. */
	struct {
		bool valid;    /* nothing else was run since */
		uint32_t trap; /* port << 16 | what it was, as AMD64 processors save it */
		uint64_t rip, rcx, rsi, rdi; /* before the access */
	} io_last;
	unsigned io_have; /* elements that came for an INS; io_used of them are stored */
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
	struct translate *translate;  /* of translate/; NULL until a block is translated */
	struct stubs *stubs;          /* of stub/stub.c; NULL where the host allows no code to be made */
	struct op fetch_op, event_op; /* what cpu->op is during a fetch, a delivery */
	struct block *single_block;
	uint64_t runs_alone;         /* counts execute_single, for tests */
	struct code_page *written[4]; /* code pages that the instruction that runs alone wrote */
	unsigned written_count;
	ZydisDecoder decoder[3];

	struct tlb_context *context; /* the current one */
	bool context_left;           /* between tlb_context_leave and tlb_context_enter */
	struct tlb_context contexts[TLB_CONTEXTS];
	uint64_t context_entries;    /* counts tlb_context_enter */
	uint64_t tlb_generation;     /* the last that was given out, as tables_gen_last and code_gen_last are */
	struct guest_table guest_tables[WALK_TABLES];
	uint64_t tables_gen, tables_gen_last;
	struct guest_walk last_walk;
	uint64_t code_gen_last;
	uint64_t code_gen_least;     /* contexts whose code_gen is less have missed a change of code */

	/* What CPUID says, as far as the CPU needs it. */
	uint64_t phys_mask;  /* guest physical address bits */
	uint64_t cr4_valid, efer_valid, xcr0_valid;
	bool gbpages;
	bool intel;          /* the vendor; every other one counts as AMD */
	bool has_invpcid, has_rdtscp, has_rdpid; /* KVM takes these away from a guest whose CPUID lacks them */
	bool atomic_locked;  /* this CPU holds memory/codemap.c's lock for locked accesses */

	unsigned debug;      /* CPU_DEBUG_* */
	uint64_t debug_dr[8];
	struct debug_armed armed_breakpoints;
	bool step_trap;      /* TF was set when the instruction began */
	bool shadow_set;     /* the instruction set events.shadow itself */
	bool rf_loaded;      /* the instruction was an IRET that loaded RF: RF is for the next instruction */
	/* The string instruction that was left between two elements; ~0: none. An event there pushes RF set. */
	uint64_t rep_rip;
	uint64_t step_past;  /* RIP whose instruction breakpoint was just reported: run it now */
	bool debug_exit;     /* exit.debug is filled in */
	uint64_t dr6_hits;   /* data breakpoints that the instruction hit */
	uint64_t dr6_held;   /* hits of a MOV SS: they trap after the next instruction */
};

/**
 * Canonical in the widest paging mode that the CPU has, whatever the current mode is. For what registers hold
 * (segment bases, descriptor tables, MSRs) and for what INVPCID names.
 */
INLINE bool canonical_register(const struct cpu *cpu, uint64_t value)
{
	return sign_extended(value, cpu->p->cr4_valid & CR4_LA57 ? 57 : 48);
}

/** Addresses lead elsewhere in the current context: validate its blocks again. */
INLINE void code_gen_next(struct cpu *cpu)
{
	cpu->code_gen = ++cpu->p->code_gen_last;
}

/** Code has changed: validate the blocks of every context again. */
INLINE void code_gen_next_all(struct cpu *cpu)
{
	code_gen_next(cpu);
	cpu->p->code_gen_least = cpu->code_gen;
}

/** The CPU that runs guest code on this thread, for the signal handler. */
extern _Thread_local struct cpu *cpu_running __attribute__((tls_model("initial-exec")));

/* ---- supplied by stub/ ---------------------------------------------------------------------------------- */

/** Does the host let this process make code? Without, vector instructions after SSE3 are not offered. */
bool code_is_allowed(void);
/** Returns: false when the host has no memory. */
bool stubs_init(struct cpu *cpu);
void stubs_fini(struct cpu *cpu);
/** Can `count` more instructions have stubs? If not, forget all, together with the blocks that use them. */
bool stubs_have_room(const struct cpu *cpu, unsigned count);
void stubs_forget(struct cpu *cpu);

/* ---- supplied by translate/ ------------------------------------------------------------------------------ */

struct block;
/** A block was decoded: let it be translated when it has run often enough, if it can be and the owner wants it. */
void translate_offer(struct cpu *cpu, struct block *b);
/** Every block is forgotten. */
void translate_forget(struct cpu *cpu);
void translate_fini(struct cpu *cpu);
/**
 * In a signal handler: if the thread was in translated code at an access to memory, bring cpu->s and cpu->op to where
 * that instruction begins. `context`: the signal's.
 */
void translate_trace(struct cpu *cpu, const void *context);

/** Supplied by memory/signal.c: has cpu_signals_install been called? */
bool cpu_signals_installed(void);

/* ---- supplied by run/run.c and system/debug.c -------------------------------------------------------------- */

/** Leave the instruction, to cpu_run's landing. */
_Noreturn void cpu_leave(struct cpu *cpu, enum leave why);
/** The current instruction is complete and goes on at `rip`. The loop must look around first. */
_Noreturn void cpu_leave_done(struct cpu *cpu, uint64_t rip);
/** Exit at this instruction, with p->exit filled in. RIP stays; completing the exit goes on at the next instruction. */
_Noreturn void cpu_leave_exit(struct cpu *cpu, enum cpu_exit reason, enum completion completion);
/** Interrupts may have become possible, or stepping begun: must the loop look around now? */
bool cpu_needs_look(const struct cpu *cpu);

/** Is an instruction breakpoint at this linear address? It may still not hit (RF, GIF). */
bool debug_breaks_slow(const struct cpu *cpu, uint64_t linear);
INLINE bool debug_breaks(const struct cpu *cpu, uint64_t linear)
{
	return unlikely(cpu->p->armed_breakpoints.code) && debug_breaks_slow(cpu, linear);
}
/** Is a data breakpoint in the page of this linear address? Its TLB entries have TLB_SLOW then. */
bool debug_watches_slow(const struct cpu *cpu, uint64_t linear);
INLINE bool debug_watches(const struct cpu *cpu, uint64_t linear)
{
	return unlikely(cpu->p->armed_breakpoints.data) && debug_watches_slow(cpu, linear);
}
/**
 * The guest accesses memory: note the data breakpoints that it hits. Called before anything is done; does not return
 * when one is hit and the instruction does not run alone.
 */
void debug_data_slow(struct cpu *cpu, uint64_t linear, unsigned size, bool write);
INLINE void debug_data(struct cpu *cpu, uint64_t linear, unsigned size, bool write)
{
	if (unlikely(cpu->p->armed_breakpoints.data))
		debug_data_slow(cpu, linear, size, write);
}

#endif

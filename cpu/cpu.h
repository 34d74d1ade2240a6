/* SPDX-License-Identifier: MIT */
/*
 * The software x86-64 vCPU, as a front end or a test sees it.
 *
 * The CPU is the hardware model. It runs guest code on one thread, walks the tables that the memory library built,
 * and comes back when it needs something from outside. Between two calls of cpu_run its whole architectural state is
 * in struct cpu_state. The caller reads and writes that freely on the vCPU's thread, or while that thread is known
 * not to run, and tells the CPU with cpu_state_changed.
 *
 *     loop: switch (cpu_run(cpu)) { case CPU_EXIT_IO: ... cpu_exit_info(cpu)->io ...; }
 *
 * Must not know: ioctls, struct kvm_run, memslots.
 */
#ifndef CPU_CPU_H
#define CPU_CPU_H

#include <signal.h>

#include <vmmu/types.h>
#include <vmmu/vcpu.h>

/* ---- architectural state --------------------------------------------------------------------- */

enum cpu_gpr {
	CPU_RAX, CPU_RCX, CPU_RDX, CPU_RBX, CPU_RSP, CPU_RBP, CPU_RSI, CPU_RDI,
	CPU_R8, CPU_R9, CPU_R10, CPU_R11, CPU_R12, CPU_R13, CPU_R14, CPU_R15,
	CPU_GPR_COUNT
};

/* Segment registers in the order of their encoding. */
enum cpu_seg { CPU_ES, CPU_CS, CPU_SS, CPU_DS, CPU_FS, CPU_GS, CPU_LDTR, CPU_TR, CPU_SEG_COUNT };

/* A segment register with its hidden part. Same layout as struct kvm_segment. */
struct cpu_segment {
	uint64_t base;
	uint32_t limit; /* in bytes, granularity already applied */
	uint16_t selector;
	uint8_t type;
	uint8_t present, dpl, db, s, l, g, avl;
	uint8_t unusable;
	uint8_t padding;
};

/* GDTR or IDTR. */
struct cpu_table {
	uint64_t base;
	uint16_t limit;
};

/* x87 state and MXCSR, always current: how the FXSAVE image of 64-bit mode begins. */
struct cpu_fx {
	uint16_t fcw, fsw;
	uint8_t ftw; /* abridged: bit n set = register n not empty */
	uint8_t reserved0;
	uint16_t fop;
	uint64_t fip, fdp;
	uint32_t mxcsr, mxcsr_mask;
	uint8_t st[8][16];
} __attribute__((aligned(16)));

/* The whole image, 512 bytes. */
struct cpu_fxsave {
	struct cpu_fx fx;
	uint8_t xmm[16][16] __attribute__((aligned(16)));
	uint8_t reserved1[96];
} __attribute__((aligned(16)));

/*
 * The vector registers, always current. XMM n, YMM n and ZMM n are the first 16, 32 and 64 bytes of v[n]. What the host
 * lacks of them is 0. k: AVX-512's mask registers.
 */
struct cpu_vectors {
	uint8_t v[32][64] __attribute__((aligned(64)));
	uint64_t k[8];
};

enum cpu_mp_state { CPU_MP_RUNNABLE, CPU_MP_HALTED, CPU_MP_UNINITIALIZED, CPU_MP_INIT_RECEIVED, CPU_MP_SIPI_RECEIVED };

/* Events on their way into the guest, as KVM_GET_VCPU_EVENTS shows them. */
struct cpu_events {
	struct {
		bool injected; /* its delivery began: the next cpu_run delivers it, whatever IF says */
		bool pending;  /* raised, not yet delivered; treated as injected is */
		bool has_error;
		uint8_t vector;
		uint32_t error;
		bool has_payload; /* pending only: payload becomes CR2 (#PF) or DR6 bits (#DB) at delivery */
		uint64_t payload;
	} exception;
	struct {
		bool injected; /* the next cpu_run delivers it, whatever IF says */
		bool soft;     /* INT n: state.rip is already behind the instruction, and is what is pushed */
		uint8_t vector;
	} interrupt;
	struct {
		uint8_t pending; /* NMIs that wait, 2 at most: one is latched, and one is on its way */
		bool injected; /* the next cpu_run delivers it */
		bool masked;   /* until IRET */
	} nmi;
	struct {
		bool smm;        /* the CPU is in system management mode. Written by the owner: CPU_CHANGED_SMM */
		bool pending;    /* an SMI waits; it is taken before any other event, and not in SMM */
		bool inside_nmi; /* in SMM: NMIs were masked already when it was entered */
		bool from_halt;  /* the pending SMI ended a HLT, to which RSM returns (auto-halt restart) */
	} smi;
	uint8_t shadow; /* CPU_SHADOW_*: interrupts held off for one instruction */
	bool triple_fault; /* pending: cpu_run answers CPU_EXIT_SHUTDOWN */
};
#define CPU_SHADOW_MOV_SS 1u
#define CPU_SHADOW_STI    2u

/*
 * AMD SVM (APM vol. 2, chapter 15). In guest mode the rest of the state is the nested guest's. Written by the owner:
 * CPU_CHANGED_SVM.
 */
#define CPU_SVM_CONTROL_BYTES 1024u
struct cpu_svm {
	bool gif;          /* the global interrupt flag; set at reset */
	bool guest;        /* in guest mode: a nested guest runs */
	bool host_if;      /* in guest mode: RFLAGS.IF of the hypervisor, which V_INTR_MASKING goes by */
	bool init_held;    /* cpu_init_take answered false: GIF was clear, or #VMEXIT comes first */
	uint64_t vm_cr, hsave_pa; /* MSRs C001_0114 and C001_0117 */
	uint64_t vmcb_pa;  /* in guest mode: the operand of VMRUN */
	/* In guest mode: the VMCB's control area as VMRUN loaded it. V_TPR and V_IRQ change as the guest runs. */
	uint8_t control[CPU_SVM_CONTROL_BYTES] __attribute__((aligned(8)));
	struct {           /* in guest mode: what #VMEXIT loads for the hypervisor */
		struct cpu_segment es, cs, ss, ds;
		struct cpu_table gdt, idt;
		uint64_t efer, cr0, cr3, cr4, rflags, rip, rsp, rax;
		uint64_t pat; /* with nested paging, where the nested guest has one of its own */
	} host;
};

struct cpu_state {
	uint64_t gpr[CPU_GPR_COUNT]; /* enum cpu_gpr */
	uint64_t rip;
	uint64_t rflags; /* complete whenever cpu_run is not running */
	struct cpu_segment seg[CPU_SEG_COUNT]; /* enum cpu_seg */
	struct cpu_table gdt, idt;
	uint64_t cr0, cr2, cr3, cr4, cr8;
	uint64_t efer;
	uint64_t xcr0;
	uint32_t pkru;
	uint64_t dr[8]; /* 0-3, 6, 7 */
	uint64_t apic_base;
	/* MSRs, by the usual names */
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, tsc_aux, misc_enable, spec_ctrl, xss;
	uint64_t tsc_offset; /* guest TSC = cpu_tsc_scale(host TSC, tsc_ratio) + this */
	uint64_t tsc_ratio;  /* the guest's TSC rate / the host's, with 48 bits behind the point */
	uint64_t smbase;     /* where the next SMI finds its handler, 32 bits */
	uint64_t smi_count;  /* SMIs taken */
	struct cpu_events events;
	enum cpu_mp_state mp_state;
	struct cpu_fx fx;
	struct cpu_vectors vectors;
	struct cpu_svm svm;
};

/* ---- why cpu_run came back ---------------------------------------------------------------------- */

enum cpu_exit {
	CPU_EXIT_KICKED,         /* cpu_request_exit, or ops->check said so */
	CPU_EXIT_IO,             /* info.io; for an IN, fill in data before the next cpu_run */
	CPU_EXIT_MMIO,           /* info.mmio; for a read, fill in data before the next cpu_run */
	CPU_EXIT_HLT,            /* HLT was executed; RIP is after it. Or RSM returned to one */
	CPU_EXIT_SHUTDOWN,       /* triple fault */
	CPU_EXIT_INTERNAL_ERROR, /* info.error */
	CPU_EXIT_HOST_FAULT,     /* info.host_fault: the host has no page there (-EFAULT) */
	CPU_EXIT_IRQ_WINDOW,     /* irq_window_wanted was set and an interrupt could be taken now */
	CPU_EXIT_DEBUG,          /* info.debug: guest debugging by the host */
	CPU_EXIT_RDMSR,          /* info.msr; ops->rdmsr answered CPU_MSR_EXIT. Fill in data and failed */
	CPU_EXIT_WRMSR,          /* info.msr; likewise. Fill in failed */
	CPU_EXIT_HYPERCALL,      /* ops->hypercall answered CPU_CALL_EXIT; RIP is behind the instruction, set RAX */
	CPU_EXIT_RSM,            /* the guest left SMM, or set GIF: what was held back meanwhile (INIT) may come now */
	CPU_EXIT_RING_FULL,      /* vmmu_vcpu_enter said so */
	CPU_EXIT_PAGE_WAIT,      /* info.page_wait, after cpu_page_wait_exits: the host would wait for the page */
	CPU_EXIT_NOMEM,
	CPU_EXIT_DEAD,           /* the VM was marked dead */
};

/* As KVM_INTERNAL_ERROR_*. */
#define CPU_ERROR_EMULATION   1u /* an instruction that is not implemented */
#define CPU_ERROR_DELIVERY_EV 3u /* an event could not be delivered: its tables are not in memory */

#define CPU_IO_MAX 1024u /* most bytes of one IO exit */

struct cpu_exit_info {
	enum cpu_exit reason;
	union {
		struct {
			bool in;
			uint8_t size; /* 1, 2 or 4 */
			uint16_t port;
			uint32_t count; /* elements in data; count * size <= CPU_IO_MAX */
			uint8_t *data;  /* valid until the next cpu_run */
		} io;
		struct {
			uint64_t gpa;
			bool write;
			uint8_t len; /* 1 .. 8; never crosses a page */
			uint8_t data[8];
		} mmio;
		struct {
			uint32_t suberror; /* CPU_ERROR_* */
			bool is_instruction; /* CPU_ERROR_EMULATION: the owner may give the guest #UD instead */
			uint8_t length;    /* of bytes; 0: they could not be fetched */
			uint8_t bytes[15]; /* the instruction, from RIP */
			/* CPU_ERROR_DELIVERY_EV: */
			uint32_t event;    /* the lower half of EXITINTINFO (APM vol. 2, 15.7.2) */
			uint64_t gpa;      /* what its delivery touched */
			uint64_t access;   /* and how: VMMU_PF_* */
		} error;
		struct {
			uint64_t gpa;
		} host_fault;
		struct {
			uint64_t gpa;    /* of the access; the instruction at RIP begins anew */
		} page_wait;
		struct {
			uint8_t exception; /* 1 (#DB) or 3 (#BP) */
			uint64_t pc;       /* linear address: CS base + RIP */
			uint64_t dr6, dr7;
		} debug;
		struct {
			uint32_t index;
			uint64_t data;
			bool failed; /* set by the caller: #GP in the guest */
			bool unknown; /* no such MSR (KVM_MSR_EXIT_REASON_UNKNOWN rather than FILTER) */
		} msr;
	};
};

/* ---- what the CPU asks of its owner ------------------------------------------------------------- */

enum cpu_msr_result { CPU_MSR_OK, CPU_MSR_GP, CPU_MSR_EXIT };
enum cpu_call_result { CPU_CALL_OK, CPU_CALL_UD, CPU_CALL_EXIT };

/*
 * Callbacks, on the vCPU's thread. Each may be NULL. All but cpuid are called outside the guest. So they may block,
 * call vmmu_guest_read/write, and read and write the state (call cpu_state_changed then).
 */
struct cpu_ops {
	/**
	 * Answer CPUID: out is EAX EBX ECX EDX. Called inside the guest: be quick, no vmmu_* call. NULL:
	 * cpu_cpuid_max.
	 */
	void (*cpuid)(void *state, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
	/**
	 * Guest RDMSR and WRMSR. Typically filters, handles MSRs of its own, and gives the rest to cpu_msr_get/set.
	 * NULL: those.
	 */
	enum cpu_msr_result (*rdmsr)(void *state, uint32_t index, uint64_t *value);
	enum cpu_msr_result (*wrmsr)(void *state, uint32_t index, uint64_t value);
	/** One element of `size` bytes for a device of the front end. Returns: true when handled; no exit then. */
	bool (*io)(void *state, bool in, uint16_t port, unsigned size, void *data);
	bool (*mmio)(void *state, bool write, uint64_t gpa, unsigned len, void *data);
	/** VMCALL or VMMCALL. Arguments and RAX are in the state. NULL: #UD. */
	enum cpu_call_result (*hypercall)(void *state);
	/**
	 * After cpu_interrupt_raise, when interrupts are enabled: acknowledge one. Returns: the vector, or -1 for
	 * none.
	 */
	int (*interrupt)(void *state);
	/**
	 * In guest mode, where an interrupt is a #VMEXIT: would `interrupt` answer with a vector now? Acknowledges
	 * nothing. NULL: yes, after each cpu_interrupt_raise.
	 */
	bool (*interrupt_pending)(void *state);
	/** CR8 was written by the guest. */
	void (*cr8_written)(void *state, uint64_t value);
	/** Asked before each entry: true (immediate_exit is set, say) makes cpu_run return CPU_EXIT_KICKED. */
	bool (*check)(void *state);
	/**
	 * Inside the guest: be quick, no vmmu_* call. Do MONITOR and MWAIT exist? NULL: as CPUID says. They do nothing.
	 */
	bool (*has_monitor)(void *state);
	/**
	 * Inside the guest: VMCALL, where cpu_cpuid_max has the vendor whose instruction is VMMCALL. Returns: true:
	 * write VMMCALL in its place and run that; false: #UD. NULL: VMCALL is VMMCALL.
	 */
	bool (*may_rewrite_vmcall)(void *state);
	/**
	 * Inside the guest: the guest may raise unmasked SSE exceptions, for which the CPU needs SIGFPE. See that it is
	 * not blocked in this thread until cpu_run returns, and that its handler calls cpu_signal. NULL: the CPU
	 * unblocks and blocks it, and cpu_signals_install must have been called: else it is CPU_ERROR_EMULATION.
	 */
	void (*unblock_fpe)(void *state);
	/* HLT always exits. */
};

/* ---- life ----------------------------------------------------------------------------------------- */

struct cpu;    /* one vCPU */
struct cpu_vm; /* what the vCPUs of one VM share: which pages hold decoded code */

/** Returns: NULL when the host has no memory. */
struct cpu_vm *cpu_vm_create(void);
/** After all of its vCPUs have been destroyed. */
void cpu_vm_destroy(struct cpu_vm *vm);

/**
 * Make a CPU in reset state. `vcpu` outlives it; `state` is the first argument of every callback. May be called while
 * other vCPUs of the VM run. A CPU that never ran costs a page or two of memory.
 * Returns: NULL when the host has no memory.
 */
struct cpu *cpu_create(struct vmmu_vcpu *vcpu, const struct cpu_ops *ops, void *state, struct cpu_vm *vm);
void cpu_destroy(struct cpu *cpu);

/**
 * The architectural reset state (CS base 0xffff0000, RIP 0xfff0). `init`: INIT rather than power-on, which keeps
 * x87/SSE, MSRs and CR0.CD/NW.
 */
void cpu_reset(struct cpu *cpu, bool init);

/** The state, to read and write whenever cpu_run is not running. */
struct cpu_state *cpu_state(struct cpu *cpu);

/*
 * What was written in the state, for cpu_state_changed. GPRs, RIP, DR0-3, CR2, XMM and events (but smi.smm) need no
 * flag.
 */
#define CPU_CHANGED_RFLAGS (1u << 0)
#define CPU_CHANGED_MODE   (1u << 1) /* segments, CR0, CR4, EFER, CPL: what decides how code is decoded */
#define CPU_CHANGED_PAGING (1u << 2) /* CR0, CR3, CR4, EFER, PKRU, PDPTEs: cached translations are dropped */
#define CPU_CHANGED_DEBUG  (1u << 3) /* DR7 */
#define CPU_CHANGED_CPUID  (1u << 4) /* ops->cpuid answers differently now */
#define CPU_CHANGED_FPU    (1u << 5) /* the x87 control or status word: ES and B of the status follow from them */
#define CPU_CHANGED_SMM    (1u << 6) /* events.smi.smm: accesses go to another address space */
#define CPU_CHANGED_SVM    (1u << 7) /* svm: guest mode began or ended, or its control area is another */
#define CPU_CHANGED_ALL    0xffu
/** Tell the CPU which parts of its state were written. Cheap. */
void cpu_state_changed(struct cpu *cpu, unsigned what);

/** Drop the guest's translations, as writing CR3 and CR4 would. Outside cpu_run, on the vCPU's thread. */
void cpu_guest_tlb_flush(struct cpu *cpu);

/* ---- running ---------------------------------------------------------------------------------------- */

/**
 * Run the guest until it needs something from outside. First completes the last exit (IN and MMIO data, MSR result).
 * On the vCPU's thread, one at a time, not inside vmmu_vcpu_enter/leave: it calls those itself. A request made with
 * cpu_request_exit before or during the call ends it with CPU_EXIT_KICKED, once. Pending completions come before the
 * request, so "immediate exit" completes an instruction without running another.
 */
enum cpu_exit cpu_run(struct cpu *cpu);

/** Details of the last exit. The caller fills in the answers there. */
struct cpu_exit_info *cpu_exit_info(struct cpu *cpu);

/** After CPU_EXIT_IO: if it is an OUT, step over it now. Without this, the next cpu_run does. */
void cpu_exit_out_done(struct cpu *cpu);

/**
 * Make cpu_run return soon, or the next cpu_run at once. The request is not lost. From any thread;
 * async-signal-safe.
 */
void cpu_request_exit(struct cpu *cpu);
/** Forget a cpu_request_exit that cpu_run did not report yet. On the vCPU's thread. */
void cpu_request_clear(struct cpu *cpu);

/** There may be an interrupt: ask ops->interrupt until it answers -1. From any thread; async-signal-safe. */
void cpu_interrupt_raise(struct cpu *cpu);

/** Exit with CPU_EXIT_IRQ_WINDOW as soon as interrupts can be taken (KVM's request_interrupt_window). */
void cpu_irq_window_want(struct cpu *cpu, bool want);

/**
 * `exits`: where the host would wait for a page, and the guest could take an interrupt, cpu_run ends with
 * CPU_EXIT_PAGE_WAIT instead. Else cpu_run waits, as it does before the first call. On the vCPU's thread.
 */
void cpu_page_wait_exits(struct cpu *cpu, bool exits);

/** After CPU_EXIT_PAGE_WAIT: the next access for which the host would wait is waited for. */
void cpu_page_wait_once(struct cpu *cpu);

/** How often the guest itself has turned CR0.PG on or off. On the vCPU's thread. */
unsigned cpu_paging_switches(struct cpu *cpu);

/**
 * Outside cpu_run. Returns: true when an interrupt could be injected now: IF set, no shadow, nothing injected. In guest
 * mode false while interrupts are intercepted: with cpu_irq_window_want the hypervisor is entered first.
 */
bool cpu_interrupt_ready(struct cpu *cpu);

/**
 * Outside cpu_run. An interrupt is pending: does it end a HLT? As cpu_interrupt_ready, and in guest mode true also
 * where the interrupt is a #VMEXIT.
 */
bool cpu_interrupt_wakes(struct cpu *cpu);

/**
 * Outside cpu_run, an INIT is pending. Returns: true when it resets the CPU now (call cpu_reset). Otherwise it stays
 * pending: in SMM or while GIF is clear until CPU_EXIT_RSM; in guest mode, where INIT is intercepted, the next cpu_run
 * makes the #VMEXIT first.
 */
bool cpu_init_take(struct cpu *cpu);

/* ---- nested guests ---------------------------------------------------------------------------------------- */

/* All of these outside cpu_run, on the vCPU's thread or while it is known not to run. */

#define CPU_VMCB_BYTES 4096u
/**
 * In guest mode: what KVM_GET_NESTED_STATE shows, as a VMCB of CPU_VMCB_BYTES: the control area as it is now, and the
 * hypervisor's state as the save area. The nested guest's registers are those of cpu_state.
 */
void cpu_nested_get(struct cpu *cpu, void *vmcb);

/**
 * The reverse: the registers are now those of a nested guest, and the CPU is in guest mode.
 * Returns: false, and nothing has changed, where VMRUN would have refused it.
 */
VMMU_MUST_CHECK bool cpu_nested_set(struct cpu *cpu, uint64_t vmcb_pa, const void *vmcb);

/** Inject the event that a VMCB of cpu_nested_set has in EVENTINJ, if any. Returns: was there one? */
bool cpu_nested_inject(struct cpu *cpu);

/** End guest mode without a #VMEXIT. The registers stay as they are. No effect outside guest mode. */
void cpu_nested_leave(struct cpu *cpu);

/** Is the CPU in guest mode, and the nested guest on nested paging? */
bool cpu_nested_paging(const struct cpu *cpu);

/** Does an event wait in cpu_state that ends a HLT? The owner's interrupts are not asked for. */
bool cpu_event_wakes(struct cpu *cpu);

/* Host debugging of the guest (KVM_SET_GUEST_DEBUG). */
#define CPU_DEBUG_STEP  (1u << 0) /* exit after every instruction */
#define CPU_DEBUG_SW_BP (1u << 1) /* INT3 exits instead of raising #BP */
#define CPU_DEBUG_HW_BP (1u << 2) /* dr[] replaces the guest's DR0-3, DR7; hits exit */
#define CPU_DEBUG_INJECT_DB (1u << 3)
#define CPU_DEBUG_INJECT_BP (1u << 4)
#define CPU_DEBUG_BLOCK_IRQ (1u << 5) /* no interrupts meanwhile (KVM_GUESTDBG_BLOCKIRQ) */
/** `dr`: 8 values, used with CPU_DEBUG_HW_BP. flags 0 turns it off. */
void cpu_debug_set(struct cpu *cpu, unsigned flags, const uint64_t dr[8]);

/* ---- registers that are more than a variable ---------------------------------------------------------- */

/**
 * MSRs that the CPU itself implements. `host`: the owner reads or writes (KVM_GET_MSRS, KVM_SET_MSRS), so rules for the
 * guest do not apply, and the TSC is not that of a nested guest.
 * Returns: false when unknown or not a legal value (#GP).
 */
bool cpu_msr_get(struct cpu *cpu, uint32_t index, uint64_t *value, bool host);
bool cpu_msr_set(struct cpu *cpu, uint32_t index, uint64_t value, bool host);
/** The MSRs of cpu_msr_get, for KVM_GET_MSR_INDEX_LIST. Returns their number; *list is constant. */
size_t cpu_msr_list(const uint32_t **list);

/*
 * What the CPU has: all that it can do on this host, or a level of the x86-64 psABI and nothing else that depends on
 * the host. Instructions that the model does not have are #UD.
 */
enum cpu_model { CPU_MODEL_HOST, CPU_MODEL_V1, CPU_MODEL_V2, CPU_MODEL_V3, CPU_MODEL_V4 };
/** For all CPUs of the process. Before the first cpu_create and cpu_cpuid_max. */
void cpu_model_set(enum cpu_model model);

/* How guest code is run. Both engines are the same CPU. */
enum cpu_engine {
	CPU_ENGINE_INTERPRET,
	CPU_ENGINE_TRANSLATE, /* 64-bit code becomes host code; the rest is interpreted */
	CPU_ENGINE_CHECK,     /* each block on both, and abort() where they differ. For guests with one vCPU */
};
/**
 * For all CPUs of the process. Before the first cpu_create. Where the host lets the process make no code, all is
 * interpreted. Returns: false when there is no such engine here: under ThreadSanitizer.
 */
bool cpu_engine_set(enum cpu_engine engine);

/* For tests of the translator. */
struct cpu_translate_tuning {
	unsigned runs; /* a block is translated when it was entered so often */
	bool miss;     /* no access finds its page in the TLB of translated code */
	bool exact;    /* all flags live everywhere, and in front of every instruction that may fail */
};
/** Like cpu_engine_set. */
void cpu_translate_tune(const struct cpu_translate_tuning *tuning);

/* What the translator did on one CPU, since its birth. */
struct cpu_translate_stats {
	uint64_t blocks;      /* translated */
	uint64_t guest_bytes; /* of code in them */
	uint64_t host_bytes;  /* made of that */
	uint64_t flushes;     /* times that all of it was thrown away */
	uint64_t kills;       /* blocks whose code changed */
	uint64_t entries;     /* into translated code, from outside */
	uint64_t accesses;    /* that took the slow path */
	uint64_t calls;       /* of handlers */
	uint64_t checked;     /* CPU_ENGINE_CHECK: blocks that were compared */
};
/** Any time; while the CPU runs, counters may be a little old. */
void cpu_translate_stats(const struct cpu *cpu, struct cpu_translate_stats *stats);

/** All that this CPU can do, as CPUID would say it: the upper bound for KVM_GET_SUPPORTED_CPUID. */
void cpu_cpuid_max(uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/** Write XCR0 as the guest's XSETBV does. Returns: false, and nothing has changed, where that would be #GP. */
VMMU_MUST_CHECK bool cpu_xcr0_set(struct cpu *cpu, uint64_t value);

/** The bytes of an XSAVE area with these components (bits of XCR0): EBX of CPUID's leaf 0xd, subleaves 0 and 1. */
unsigned cpu_xsave_bytes(uint64_t components, bool compacted);

#define CPU_XSAVE_BYTES 4096u /* at least the size of any area */
/** The state of these components, as an XSAVE area in the standard format. The others are shown as initial. */
void cpu_xsave_get(struct cpu *cpu, uint64_t components, uint8_t area[CPU_XSAVE_BYTES]);
/**
 * The reverse. What the area does not have becomes initial, but for PKRU, which stays. Tell the CPU afterwards:
 * CPU_CHANGED_FPU and, if the area has PKRU, CPU_CHANGED_PAGING.
 * Returns: false, and nothing has changed, for a header or MXCSR that KVM_SET_XSAVE refuses.
 */
VMMU_MUST_CHECK bool cpu_xsave_set(struct cpu *cpu, const uint8_t area[CPU_XSAVE_BYTES]);

/** Would KVM_SET_SREGS accept this combination of CR0, CR4, EFER (and CS.L)? With the CPUID of this CPU. */
bool cpu_sregs_valid(struct cpu *cpu, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer);

#define CPU_TSC_RATIO_BITS 48u
#define CPU_TSC_RATIO_ONE  (UINT64_C(1) << CPU_TSC_RATIO_BITS)

/** Returns: how far a guest's TSC gets in `cycles` of the host's. */
static inline uint64_t cpu_tsc_scale(uint64_t cycles, uint64_t ratio)
{
	if (ratio == CPU_TSC_RATIO_ONE)
		return cycles;
	return (uint64_t)((unsigned __int128)cycles * ratio >> CPU_TSC_RATIO_BITS);
}

/** The guest's TSC now. A nested guest's is ahead of it. */
uint64_t cpu_tsc(struct cpu *cpu);

/**
 * Outside cpu_run: translate as the guest's next data read would, without effects (KVM_TRANSLATE).
 * Returns: false when unmapped.
 */
bool cpu_translate(struct cpu *cpu, uint64_t linear, uint64_t *gpa, bool *writable, bool *user);

/* ---- signals ------------------------------------------------------------------------------------------ */

/**
 * Guest memory lives in the program's mappings, which may vanish under a running guest: the CPU catches SIGSEGV and
 * SIGBUS of its own guest accesses. Unmasked SSE exceptions of the guest come to it as SIGFPE. cpu_signals_install does
 * that with sigaction, where it is not done already, and passes every other signal to the handlers that it found. A
 * front end that interposes sigaction keeps its client's handlers itself, and calls cpu_signal first.
 */
void cpu_signals_install(void);

/**
 * From a SIGSEGV, SIGBUS or SIGFPE handler that has SA_SIGINFO, SA_NODEFER, SA_ONSTACK.
 * Returns: false when the signal does not come from a guest that a CPU runs on this thread. True: the handler is to
 * return. For SIGSEGV and SIGBUS it does not return then.
 */
bool cpu_signal(int signal, siginfo_t *info, void *context);

#endif

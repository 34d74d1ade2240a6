/* SPDX-License-Identifier: MIT */
/*
 * Guests for the tests of AMD SVM. L1 is a stub in long mode (svm_text.S) that runs L2 once and comes back to the
 * client by an OUT. The client writes L2's VMCB, registers and code into guest memory before, and reads them after. So
 * a test's logic is the client's, and reads as a table: what L2 executes, what is intercepted, and what the VMCB says
 * then. What is wanted is what APM vol. 2, chapter 15, says.
 *
 * Each test runs in up to four ways: L2 without and with nested paging; and as it is, or moving. Then the machine moves
 * (all its state goes into a fresh VM) before each step of L1, and again in L2 where L2 writes to port SVM_MOVE.
 */
#ifndef VMMU_KVM_TEST_SVM_GUEST_H
#define VMMU_KVM_TEST_SVM_GUEST_H

#include "check.h"
#include "cpu/system/vmcb.h"
#include <pthread.h>

/* ---- guest memory. L2's physical addresses are L1's, unless a test has other nested tables. ---- */

#define SVM_BYTES   0x600000u
#define SVM_TEXT    0x1000u
#define SVM_STUBS   0x2000u
#define SVM_IDT     0x3000u
#define SVM_GDT     0x4000u
#define SVM_TSS     0x4800u
#define SVM_CODE    0x5000u  /* code of L1's that a test brings */
#define SVM_STACKS  0x6000u  /* of L1, where its TSS leads */
#define SVM_OWN     0x8000u  /* a page for each vCPU */
#define SVM_TABLES  0x10000u /* L1's: 4 GiB one to one */
#define SVM_VMCB    0x20000u /* a page for each vCPU */
#define SVM_OTHER   0x22000u /* a second VMCB, for each vCPU */
#define SVM_HOST    0x24000u /* where L1 puts what VMSAVE saves, for each vCPU */
#define SVM_HSAVE   0x26000u
#define SVM_IOPM    0x30000u
#define SVM_MSRPM   0x34000u
#define L2_TABLES   0x40000u /* 4 GiB one to one; the first 2 MiB by 4 KiB pages: L2_PML4 ... */
#define L2_CODE     0x50000u /* a page for each vCPU */
#define L2_STACK    0x52000u
#define L2_IDT      0x54000u
#define L2_GDT      0x55000u
#define L2_TSS      0x55800u
#define L2_STUBS    0x56000u
#define L2_COMMON   0x57000u
#define L2_DATA     0x58000u /* 8 pages */
#define SVM_NPT     0x60000u /* 4 GiB one to one; the first 2 MiB by 4 KiB pages: NPT_PML4 ... */
#define SVM_SPARE   0x80000u /* pages for tables that a test makes, up to 0xa0000 */
#define SVM_DATA    0x200000u /* 2 MiB */

/* Indices of table pages from L2_TABLES and from SVM_NPT. */
enum { TABLE_PML4, TABLE_PDPT, TABLE_PD, TABLE_PT = TABLE_PD + 4, TABLE_PAGES };

/* In the vCPU's own page. */
#define OWN_COUNT  0xc00u /* interrupts that L1 took */
#define OWN_VECTOR 0xc10u /* of L1's exception; then its error code and RIP */
#define OWN_LOG    0xd00u /* their vectors, a ring of 256 */
#define OWN_L2     0x800u /* L2's registers, in the order of their encoding. L1's RSP, above its stack */
#define OWN_FLAGS  0x880u
#define OWN_VMCB   0x888u /* the operand of VMRUN */
#define OWN_HOST   0x890u /* SVM_HOST */
#define OWN_RFLAGS 0x8a0u /* L1's, behind VMRUN */
#define OWN_LOOPS  0x8a8u

/* OWN_FLAGS. */
#define SVM_VMLOAD    0x01u /* VMLOAD before, VMSAVE behind VMRUN */
#define SVM_HOST_IF   0x02u /* L1's RFLAGS.IF is set at VMRUN */
#define SVM_GIF       0x04u /* GIF is set before VMRUN */
#define SVM_GIF_LATER 0x08u /* GIF stays clear after #VMEXIT */
#define SVM_LOOP      0x10u /* after #VMEXIT(INTR) L1 takes the interrupt and runs L2 again */
#define SVM_LEAVE     0x20u /* stop right behind VMRUN, with port SVM_BEHIND */

/* Ports. */
#define SVM_DONE   0xaa
#define SVM_MOVE   0xab /* the machine moves here, if it does */
#define SVM_BEHIND 0xac
#define SVM_FAULT  0xee

#define L2_MOVE "\xe6\xab" /* out %al, $SVM_MOVE */

/* What svm_go returns in place of an exit code. */
#define L1_FAULT UINT64_C(0x1000)  /* + vector: L1 got an exception */
#define L1_ODD   UINT64_C(0x2000)  /* KVM_RUN ended in another way */

#define SVM_VCPUS 2u

extern const uint8_t svm_text[], svm_text_end[], svm_common[], svm_run[], svm_behind[], svm_window[], svm_stgi[],
	svm_sweep[];

struct svm {
	struct machine m;
	bool np;    /* nested paging */
	bool moves;
	bool ring;  /* KVM_CAP_DIRTY_LOG_RING. A vCPU whose ring is full waits: another thread takes what is there */
	unsigned ring_full;     /* atomic: how often that was */
	pthread_t thread[SVM_VCPUS];
	unsigned threads;       /* atomic: how many run */
	uint64_t result[SVM_VCPUS];
	bool ended[SVM_VCPUS];  /* atomic: the thread has its result */
	const char *what; /* what is being tested; for messages */
};
extern struct svm s;

/* What the CPU offers. */
struct svm_features {
	bool svm, np, nrip, decode, flush_asid, pause_filter, pause_threshold, vgif, virtual_vmload;
	bool xsave, gbpages, la57;
	unsigned phys_bits, asids;
};
extern struct svm_features features;

struct svm_test {
	const char *name;
	void (*run)(void);
	unsigned flags;
};
#define SVM_NP_ONLY 1u /* needs nested paging */
#define SVM_STAYS   2u /* does not move */
#define SVM_RING    8u /* the machine has a dirty ring of SVM_RING_BYTES for each vCPU */
#define SVM_RING_BYTES (4u * 4096u)
#define SVM_PLAIN   4u /* is not about L2's memory: runs without nested paging only */

/**
 * Run the tests. `arguments`: names of tests to run (none: all). "any-kvm" before them: a KVM without SVM is no error.
 * Returns: 77 if nothing was run, which is what tells Meson that a test was left out; else 0, or 1 without SVM where
 * there must be some.
 */
int svm_tests(const struct svm_test *tests, unsigned count, char **arguments);

/** All state into a fresh VM, which then is the machine. */
void svm_move(void);

/* ---- memory ---- */
void *at(uint64_t address);
uint64_t *at64(uint64_t address);
struct vmcb *vmcb(unsigned v);
/** L2's register, by its encoding (CPU order: rax rcx rdx rbx rsp rbp rsi rdi r8 ..). RAX and RSP are the VMCB's. */
uint64_t *l2_reg(unsigned v, unsigned number);
uint64_t *own64(unsigned v, unsigned offset);
/** An entry of a table page of L2's, of L1's nested one. */
uint64_t *l2_entry(unsigned page, unsigned index);
uint64_t *npt_entry(unsigned page, unsigned index);
/**
 * L1 stores `value` to memory, or to an entry of those tables. What the CPU has used already is changed by a guest
 * only, since no KVM sees its client's own stores.
 */
void l1_store(uint64_t address, uint64_t value);
void l2_entry_set(unsigned page, unsigned index, uint64_t value);
void npt_entry_set(unsigned page, unsigned index, uint64_t value);
void l2_tables_make(void);
void npt_make(void);

/* ---- L2 ---- */
/** L2 in 64-bit mode at CPL 0, nothing intercepted but VMRUN, VMMCALL and shutdown. Its registers and code are 0. */
void l2_reset(unsigned v);
/** L2 in real mode with flat data segments; its code begins at L2_CODE. */
void l2_real_mode(unsigned v);
void l2_user_mode(unsigned v);
/** 32-bit protected mode without paging (without nested paging, too). */
void l2_protected_mode(unsigned v);
enum l2_mode { L2_LONG, L2_USER, L2_PROTECTED, L2_REAL };
/** l2_reset, then that mode. */
void l2_mode(unsigned v, enum l2_mode mode);
/** RIP of the code of vCPU 0's L2 in that mode. */
uint64_t l2_start(enum l2_mode mode);
/** L2 executes these bytes, then VMMCALL. */
void l2_code(unsigned v, const void *bytes, size_t count);
#define L2(v, bytes) l2_code(v, bytes, sizeof(bytes) - 1)
void intercept(unsigned v, unsigned exit);
void intercept_not(unsigned v, unsigned exit);
/** Go on behind the instruction that ended L2: RIP becomes nRIP. */
void l2_skip(unsigned v);

/** Run L2. Returns: the exit code, or L1_FAULT + vector, or L1_ODD. */
uint64_t svm_go(unsigned v);
/** The same on a thread. */
void svm_begin(unsigned v);
uint64_t svm_end(unsigned v);
/** Would svm_end have to wait? */
bool svm_runs(unsigned v);
/** A step of L1 at `rip`, with RAX. Returns: the port of its OUT, -1 for any other exit. */
int svm_step(unsigned v, uint64_t rip, uint64_t rax);
/** L1 goes on. */
int svm_continue(unsigned v);
uint64_t svm_routine(const uint8_t *routine);
/** L1 executes these bytes at SVM_CODE, then an OUT to SVM_DONE. Returns: 0, L1_FAULT + vector, L1_ODD. */
uint64_t l1_code(unsigned v, uint64_t rax, const void *bytes, size_t count);
#define L1(v, rax, bytes) l1_code(v, rax, bytes, sizeof(bytes) - 1)

/** The vector of the exception whose handler L2 entered (and which ended it by its VMMCALL), or -1. */
int l2_vector(unsigned v);
struct l2_frame {
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};
struct l2_frame *l2_frame(unsigned v);
/** L2 leaves that handler. */
void l2_return(unsigned v);

/* ---- checks. Each prints what it saw if that is not what was wanted. ---- */
bool is_u64(uint64_t value, uint64_t wanted, const char *what, int line);
#define SAME(value, wanted) check(is_u64(value, wanted, #value, __LINE__), "differs", __FILE__, __LINE__)
/** L2 ended with this exit code. */
#define EXITS(v, code) SAME(svm_go(v), code)
#define ENDS(v) EXITS(v, SVM_EXIT_VMMCALL)
/** L2 ended in its handler of that vector. */
bool l2_faulted(unsigned v, int vector, int line);
#define FAULTS(v, vector) check(l2_faulted(v, vector, __LINE__), "differs", __FILE__, __LINE__)

/* ---- the client ---- */
int svm_msi(unsigned v, uint32_t data);
uint64_t msr_get(unsigned v, uint32_t index);
/** Returns: did KVM_SET_MSRS take it? */
bool msr_set(unsigned v, uint32_t index, uint64_t value);
/** The highest bit of a linear address that the processor has. */
uint64_t top_bit(void);
bool same_segment(const struct kvm_segment *a, const struct kvm_segment *b);
struct kvm_sregs sregs_get(unsigned v);
void sregs_set(unsigned v, const struct kvm_sregs *sregs);
unsigned own_count(unsigned v);
/** Is the bit of `vector` set in the local APIC's register (LAPIC_IRR, LAPIC_ISR)? */
bool lapic_bit(unsigned v, unsigned reg, unsigned vector);
#define LAPIC_ISR 0x100u
#define LAPIC_IRR 0x200u
uint32_t lapic_word(unsigned v, unsigned reg);
/** Wait until L2 has written 1 to the first byte of OWN_MARK (GS is L1's without VMLOAD). */
void wait_for_mark(unsigned v);
#define OWN_MARK 0x100u
#define L2_MARK "\x65\xc6\x04\x25\x00\x01\x00\x00\x01" /* movb $1, %gs:OWN_MARK */
/** Take what is pending in L1, with GIF and IF set. */
void svm_take(unsigned v);

/* Offsets of fields in a VMCB. */
#define SAVE(field)    offsetof(struct vmcb, save.field)
#define CONTROL(field) offsetof(struct vmcb, control.field)

/* Entries of page tables and nested tables. */
#define P   UINT64_C(1)
#define W   UINT64_C(2)
#define U   UINT64_C(4)
#define ACC UINT64_C(0x20)
#define DIR UINT64_C(0x40)
#define PS  UINT64_C(0x80)
#define NX  (UINT64_C(1) << 63)
/* EXITINFO1 of a nested page fault, beside these. */
#define INFO_FINAL (UINT64_C(1) << 32)
#define INFO_TABLE (UINT64_C(1) << 33)

/* EVENTINJ and EXITINTINFO. */
#define EVENT(type, vector)          (EVENT_VALID | (uint64_t)(type) << EVENT_TYPE_SHIFT | (vector))
#define EVENT_WITH(type, vector, e)  (EVENT(type, vector) | EVENT_ERROR | (uint64_t)(e) << 32)
#define INTERRUPT EVENT_TYPE_INTERRUPT
#define NMI       EVENT_TYPE_NMI
#define EXCEPTION EVENT_TYPE_EXCEPTION
#define SOFTWARE  EVENT_TYPE_SOFTWARE
/* A virtual interrupt that is pending. */
#define VIRQ(vector, priority, tpr) \
	(V_IRQ | (uint64_t)(vector) << V_VECTOR_SHIFT | (uint64_t)(priority) << V_PRIORITY_SHIFT | (tpr))

#define RFLAGS_IF 0x200u
#define STATUS    UINT64_C(0x8d5) /* the flags of arithmetic */

#define MSR_VM_CR    0xc0010114u
#define MSR_HSAVE_PA 0xc0010117u
#define MSR_PAT      0x277u

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };

#endif

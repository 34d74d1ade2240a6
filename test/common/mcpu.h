/* SPDX-License-Identifier: MIT */
/*
 * A model CPU: it does with a VM's tables what hardware does, and no more. It walks them from entry.root by the rules
 * of NPT or EPT, sets Accessed and Dirty atomically, and caches what it walked.
 *
 * Its caches forget as little as possible, on purpose: they keep leaves, and the tables that lead to them, across
 * exits, until vmmu_vcpu_enter says `flush`. So a missing flush shows as an access to a page that should be gone.
 *
 * In a VM with shadow paging it walks linear addresses, and hands its faults to vmmu_page_fault. Its guest runs
 * without paging, and then has 4 GiB, or with mcpu_page on tables that map every address to itself: a test uses both
 * in the same way. Since every address always maps to itself, the guest is free in how it maps it. Its kernel makes
 * entries of all sizes when they are missed, and takes them away again; it stores by itself or through the
 * hypervisor; and it flushes by INVLPG, by CR3, or not at all.
 *
 * In a VM with nested guests the same tables are those that the guest (L1) made for a guest of its own (mcpu_nest).
 * The CPU goes between L1, which walks the VM's own tables, and L2, which walks what the library made of L1's. It keeps
 * the translations of each while the other runs. Only L1 changes the tables.
 */
#ifndef TEST_COMMON_MCPU_H
#define TEST_COMMON_MCPU_H

#include <pthread.h>
#include <vmmu/vmmu.h>

#include "test/common/rng.h"

#define MCPU_TLB 2048
#define MCPU_PSC 256

enum mcpu_result {
	MCPU_OK,
	MCPU_MMIO,      /* no memory there, or a write to a read-only slot */
	MCPU_HOST,      /* the host has no page there, or none that may be written */
	MCPU_NOMEM,
	MCPU_RING_FULL,
	MCPU_GUEST,     /* the guest's own page fault, in a guest that has no kernel (mcpu_page) */
	MCPU_DEAD,
	MCPU_BUSY,      /* the library answered "retry" more than max_retries times */
	MCPU_STUCK,     /* the library says "fixed" and the access still faults: a bug */
	MCPU_BAD_ENTRY, /* an entry that no CPU accepts: a bug */
	MCPU_STALE,     /* L2 gets by an entry of L1's that is no more, and its CPU has forgotten all: a bug */
};

struct mcpu_tlb {
	uint64_t tag;  /* block number + 1, and whose; 0: empty */
	uint64_t host; /* address of the block */
	bool write, dirty;
};

/* The tables of a guest, used by one or more of its vCPUs, in guest memory that nothing else uses. */
struct mcpu_guest {
	pthread_mutex_t lock; /* the guest kernel's own, for its tables */
	uint64_t gpa;
	char *hva;
	unsigned frames, next; /* next: the first free frame */
};

struct mcpu {
	struct vmmu_vcpu *vcpu;
	struct vmmu_entry entry;
	bool in_guest;
	unsigned max_retries; /* 0: for ever */
	struct mcpu_tlb tlb[3][MCPU_TLB];
	struct {
		uint64_t tag;
		uint64_t *table; /* of 4K leaves */
	} psc[MCPU_PSC];
	struct mcpu_guest *guest; /* NULL: no paging */
	struct vmmu_guest_regs regs;
	bool nested; /* the guest's tables are those of L2 */
	bool l2;     /* L2 runs */
	struct rng rng;
	uint64_t accesses, hits, walks, flushes, faults, enters;
	uint64_t guest_faults, edits, emulated, nested_enters, stale_checks;
};

/** Start with empty caches, outside the guest. */
void mcpu_init(struct mcpu *cpu, struct vmmu_vcpu *vcpu);

/**
 * Read or write the aligned 8 bytes at gpa, and act on faults as vmmu_fault says. The vCPU stays in the guest unless
 * it has to leave.
 */
enum mcpu_result mcpu_read(struct mcpu *cpu, uint64_t gpa, uint64_t *value);
enum mcpu_result mcpu_write(struct mcpu *cpu, uint64_t gpa, uint64_t value);

/**
 * For a VM with shadow paging: make the guest's tables in zeroed frames at gpa, which the host has at hva, in every
 * address space that a vCPU uses. `frames`: at least 520.
 */
void mcpu_guest_init(struct mcpu_guest *guest, uint64_t gpa, char *hva, unsigned frames);
/** Let the vCPU run on these tables. */
void mcpu_page(struct mcpu *cpu, struct mcpu_guest *guest, uint64_t seed);

/** For a VM with nested guests: let the vCPU be a hypervisor's, whose guest has these tables. L1 runs. */
void mcpu_nest(struct mcpu *cpu, struct mcpu_guest *guest, uint64_t seed);
/** Leave the guest. From the next access on L2 runs, or L1. Returns: MCPU_OK, MCPU_NOMEM. */
enum mcpu_result mcpu_l2(struct mcpu *cpu, bool l2);
/** Would a walk find the page now, with nothing cached? The CPU forgets all, and is outside the guest. */
bool mcpu_reaches(struct mcpu *cpu, uint64_t gpa, bool write);

/* The guest's kernel (mcpu_guest.c), for mcpu.c only. Call these outside the guest. */
enum mcpu_result mcpu_guest_fault(struct mcpu *cpu, uint64_t gpa, uint64_t error);
enum mcpu_result mcpu_guest_churn(struct mcpu *cpu, uint64_t gpa);

/** Leave the guest if the CPU is in it. */
void mcpu_leave(struct mcpu *cpu);

/** Forget all translations, or those of one page, as a CPU may do at any time. */
void mcpu_forget(struct mcpu *cpu);
void mcpu_forget_page(struct mcpu *cpu, uint64_t gpa);

const char *mcpu_result_name(enum mcpu_result result);

#endif

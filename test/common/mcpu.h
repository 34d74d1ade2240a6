/* SPDX-License-Identifier: MIT */
/*
 * A model CPU: it does with a VM's tables what hardware does and not a bit more. It walks them from entry.root with the rules of NPT or
 * EPT, sets Accessed and Dirty atomically, and caches what it walked.
 *
 * Its caches are lazy on purpose: they hold on to everything, leaves and the tables that lead to them, across exits, until vmmu_vcpu_enter says `flush`. So a flush
 * that is missing shows as an access to a page that should be gone.
 *
 * In a VM that shadows it walks linear addresses, and hands its faults to vmmu_page_fault. Its guest runs without paging (and has 4 GiB), or
 * with mcpu_page on tables that map every address to itself. So whoever uses it need not care; and since what is mapped never changes, the guest may change
 * how: its kernel makes entries when they are missed, of all sizes, takes them away again, stores by itself and through the hypervisor, flushes by INVLPG, by
 * CR3, or not at all.
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
	MCPU_HOST,      /* the host has no page, or none that may be written */
	MCPU_NOMEM,
	MCPU_RING_FULL,
	MCPU_GUEST,     /* the guest's own page fault, and there is no kernel (mcpu_page) */
	MCPU_DEAD,
	MCPU_BUSY,      /* more than max_retries faults were to be retried */
	MCPU_STUCK,     /* the library says "fixed" and the access still faults: a bug */
	MCPU_BAD_ENTRY, /* an entry that no CPU accepts: a bug */
};

struct mcpu_tlb {
	uint64_t tag;  /* block number + 1; 0: empty */
	uint64_t host; /* address of the block */
	bool write, dirty;
};

/* The tables of a guest, of one or more vCPUs, in guest memory that nobody else uses. */
struct mcpu_guest {
	pthread_mutex_t lock; /* the guest kernel's */
	uint64_t gpa;
	char *hva;
	unsigned frames, next; /* next: the first that is free */
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
	struct rng rng;
	uint64_t accesses, hits, walks, flushes, faults, enters;
	uint64_t guest_faults, edits, emulated;
};

/** Start with empty caches, outside the guest. */
void mcpu_init(struct mcpu *cpu, struct vmmu_vcpu *vcpu);

/** Read or write the aligned 8 bytes at gpa, with faults answered as vmmu_fault says. The vCPU is left in the guest unless it had to leave. */
enum mcpu_result mcpu_read(struct mcpu *cpu, uint64_t gpa, uint64_t *value);
enum mcpu_result mcpu_write(struct mcpu *cpu, uint64_t gpa, uint64_t value);

/** In a VM that shadows: tables in `frames` (at least 520) zeroed frames at gpa, which are at hva, in every address space that a vCPU uses. */
void mcpu_guest_init(struct mcpu_guest *guest, uint64_t gpa, char *hva, unsigned frames);
/** The vCPU runs on them from here on. */
void mcpu_page(struct mcpu *cpu, struct mcpu_guest *guest, uint64_t seed);

/* What the guest's kernel does; for mcpu.c (mcpu_guest.c). Outside the guest. */
enum mcpu_result mcpu_guest_fault(struct mcpu *cpu, uint64_t gpa, uint64_t error);
enum mcpu_result mcpu_guest_churn(struct mcpu *cpu, uint64_t gpa);

/** Leave the guest if the CPU is in it. */
void mcpu_leave(struct mcpu *cpu);

/** Forget all translations, as a CPU may at any time; those of one page. */
void mcpu_forget(struct mcpu *cpu);
void mcpu_forget_page(struct mcpu *cpu, uint64_t gpa);

const char *mcpu_result_name(enum mcpu_result result);

#endif

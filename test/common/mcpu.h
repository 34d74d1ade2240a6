/* SPDX-License-Identifier: MIT */
/*
 * A model CPU: it does with a VM's tables what hardware does and not a bit more. It walks them from entry.root with the rules of NPT or
 * EPT, sets Accessed and Dirty atomically, and caches what it walked.
 *
 * Its caches are lazy on purpose: they hold on to everything, leaves and the tables that lead to them, across exits, until vmmu_vcpu_enter says `flush`. So a flush
 * that is missing shows as an access to a page that should be gone.
 */
#ifndef TEST_COMMON_MCPU_H
#define TEST_COMMON_MCPU_H

#include <vmmu/vmmu.h>

#define MCPU_TLB 2048
#define MCPU_PSC 256

enum mcpu_result {
	MCPU_OK,
	MCPU_MMIO,      /* no memory there, or a write to a read-only slot */
	MCPU_HOST,      /* the host has no page, or none that may be written */
	MCPU_NOMEM,
	MCPU_RING_FULL,
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
	uint64_t accesses, hits, walks, flushes, faults, enters;
};

/** Start with empty caches, outside the guest. */
void mcpu_init(struct mcpu *cpu, struct vmmu_vcpu *vcpu);

/** Read or write the aligned 8 bytes at gpa, with faults answered as vmmu_fault says. The vCPU is left in the guest unless it had to leave. */
enum mcpu_result mcpu_read(struct mcpu *cpu, uint64_t gpa, uint64_t *value);
enum mcpu_result mcpu_write(struct mcpu *cpu, uint64_t gpa, uint64_t value);

/** Leave the guest if the CPU is in it. */
void mcpu_leave(struct mcpu *cpu);

/** Forget all translations, as a CPU may at any time. */
void mcpu_forget(struct mcpu *cpu);

const char *mcpu_result_name(enum mcpu_result result);

#endif

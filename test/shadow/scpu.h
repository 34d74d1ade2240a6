/* SPDX-License-Identifier: MIT */
/*
 * A CPU in shadow mode, as simple as possible: it walks the tables that vmmu_vcpu_enter gives it, sets A and D there,
 * keeps a TLB that it drops only when it is told to, and hands every fault to the library. So a missing flush or a
 * stale entry shows as a wrong result.
 */
#ifndef TEST_SHADOW_SCPU_H
#define TEST_SHADOW_SCPU_H

#include <vmmu/vmmu.h>

#include "test/shadow/ref.h"

#define SCPU_TLB 64

struct scpu {
	struct vmmu_vcpu *vcpu;
	struct ref_cpu regs; /* as the guest has set them */
	struct scpu_tlb {
		uint64_t page; /* gva >> 12, + 1; 0: empty */
		uint64_t host;
		bool write, user, no_exec, dirty;
		unsigned key;
	} tlb[SCPU_TLB];
	uint64_t faults, emulated;
};

enum scpu_outcome { SCPU_DONE, SCPU_FAULT, SCPU_MMIO, SCPU_STUCK };

/** Tell the library the registers. */
void scpu_regs(struct scpu *cpu);
void scpu_invlpg(struct scpu *cpu, uint64_t gva);

/**
 * One access of 1, 4 or 8 bytes that does not cross a page. A write stores *value; a read or a fetch sets it. With
 * SCPU_FAULT *error is the error code, with SCPU_MMIO it is the gpa.
 */
enum scpu_outcome scpu_access(struct scpu *cpu, uint64_t gva, enum ref_access access, unsigned bytes, uint64_t *value,
                              uint64_t *error);

#endif

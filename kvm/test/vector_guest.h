/* SPDX-License-Identifier: MIT */
/*
 * A guest that works in all of its vector, mask and x87 registers (tool/machine/guest/vector_work.h), and ends with an
 * OUT.
 */
#ifndef VMMU_KVM_TEST_VECTOR_GUEST_H
#define VMMU_KVM_TEST_VECTOR_GUEST_H

#include "check.h"
#include "tool/machine/guest/vector_work.h"

#define VECTOR_GUEST_WORK 0x3000u /* where its struct vector_work is */

/* The work with one set of registers. */
struct vector_guest {
	const char *name;
	const uint8_t *code, *code_end;
	uint64_t components; /* that are in use when it ends, as bits of XCR0 */
};

/** Before all else. Returns: how many sets the machine can have; the first is the largest. */
unsigned vector_guest_list(struct vector_guest list[3]);

/** The components that a vCPU has; 0 without XSAVE. */
uint64_t vector_guest_xcr0(void);

/** The CPUID of all vCPUs. */
void vector_guest_set_cpuid(int vcpu);

/** A machine that is about to begin. */
void vector_guest_make(struct machine *m, const struct vector_guest *guest);

/**
 * KVM_RUN for some time. Returns: false once the guest has ended. A signal handler of the caller's is called meanwhile:
 * it is to call vector_guest_stop.
 */
bool vector_guest_run(struct machine *m, unsigned microseconds);
void vector_guest_stop(void);

#endif

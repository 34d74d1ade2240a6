/* SPDX-License-Identifier: MIT */
/*
 * Runs the instruction of a case on the software vCPU: at CPL 3 of a small guest whose page tables put code and data
 * at the addresses that the host's process uses.
 */
#ifndef VMMU_CPU_TEST_NATIVE_SOFT_H
#define VMMU_CPU_TEST_NATIVE_SOFT_H

#include "gen.h"

enum soft_result {
	SOFT_OK,
	SOFT_UNIMPLEMENTED,	/* CPU_EXIT_INTERNAL_ERROR: the CPU does not implement the instruction */
	SOFT_STRANGE,		/* any other exit that ends no instruction */
};

/* How the instruction is run. */
enum soft_mode {
	SOFT_BLOCK,	/* from the block cache, up to the int3 behind it */
	SOFT_STEP,	/* alone, with the host single-stepping */
};

/* @xcr0: what XGETBV answers on both CPUs. Returns: false when it cannot be done. */
bool soft_init(const uint8_t pattern[GEN_DATA_SIZE], uint64_t xcr0);
void soft_fini(void);
enum soft_result soft_run(const struct gen_case *c, enum soft_mode mode, struct gen_state *after, struct gen_end *end);

/* Copy out the data area as the run left it. */
void soft_data(uint8_t data[GEN_DATA_SIZE]);

#endif

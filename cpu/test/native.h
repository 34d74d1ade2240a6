/* SPDX-License-Identifier: MIT */
/* Runs the instruction of a case on the CPU that this process runs on. */
#ifndef VMMU_CPU_TEST_NATIVE_H
#define VMMU_CPU_TEST_NATIVE_H

#include "gen.h"

/* Map the data and code areas at their addresses and take over the fault signals.  False: not possible here. */
bool native_init(const uint8_t pattern[GEN_DATA_SIZE]);

/* True if code of this kind (16, 32, 64) can be run: the kernel may lack compatibility mode or modify_ldt. */
bool native_has(unsigned int bits);

/* Run one case.  Afterwards the data area holds what it left in memory. */
void native_run(const struct gen_case *c, struct gen_state *after, struct gen_end *end);

/* The data area: GEN_DATA_SIZE bytes. */
const uint8_t *native_data(void);

#endif

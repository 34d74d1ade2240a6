/* SPDX-License-Identifier: MIT */
/* Runs the instruction of a case on the CPU that this process runs on. */
#ifndef VMMU_CPU_TEST_NATIVE_H
#define VMMU_CPU_TEST_NATIVE_H

#include "gen.h"

/* Map the data and code areas at their addresses, and handle fault signals. Returns: false when it cannot be done. */
bool native_init(const uint8_t pattern[GEN_DATA_SIZE]);

/* Returns: true if code of `bits` can be run. The kernel may lack compatibility mode or modify_ldt. */
bool native_has(unsigned int bits);

/* Run one case. After: the data area is as the case left it. */
void native_run(const struct gen_case *c, struct gen_state *after, struct gen_end *end);

/* The data area: GEN_DATA_SIZE bytes. */
const uint8_t *native_data(void);

#endif

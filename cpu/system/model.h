/* SPDX-License-Identifier: MIT */
/* Models of the CPU: what of its CPUID remains, so that it is the same on hosts that differ. */
#ifndef CPU_SYSTEM_MODEL_H
#define CPU_SYSTEM_MODEL_H

#include <stdbool.h>
#include <stdint.h>

/** Take away from the CPU's own CPUID what the model does not have. */
void model_restrict(uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/** Is the CPU the same on every host? False for CPU_MODEL_HOST. */
bool model_is_fixed(void);

#endif

/* SPDX-License-Identifier: MIT */
/* CPUID's bits of vector instructions, all of them. */
#ifndef CPU_SYSTEM_VECTOR_FEATURES_H
#define CPU_SYSTEM_VECTOR_FEATURES_H

#include <stdint.h>

/**
 * Set the bits of a leaf: what the host can run, and lets this process run. The state of AVX and up (system/xstate.h)
 * follows from them.
 */
void vector_features(uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

#endif

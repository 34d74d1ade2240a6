/* SPDX-License-Identifier: MIT */
/* What the processor can do that this program runs on. */
#ifndef CPU_SYSTEM_HOST_H
#define CPU_SYSTEM_HOST_H

#include <stdint.h>

/**
 * The host's CPUID: out is EAX EBX ECX EDX. All 0 for a leaf that the host does not have, and on a host that is no x86.
 * From any thread. The leaves of features are asked once and remembered, since CPUID may be slow in a virtual machine.
 */
void host_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

#endif

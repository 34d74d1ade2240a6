/* SPDX-License-Identifier: MIT */
/* The registers of a state component, as XSAVE lays them out. */
#ifndef CPU_SYSTEM_COMPONENTS_H
#define CPU_SYSTEM_COMPONENTS_H

#include "cpu/base/types.h"
#include "cpu/system/xstate.h"

#define MXCSR_INIT     0x1f80u
#define MXCSR_RESERVED 0xffff0000u
#define FCW_INIT       0x37fu

/** XINUSE: the components that are not in their initial state. What MXCSR is does not count. */
uint64_t components_in_use(const struct cpu_state *s);

/*
 * Of components other than x87. `registers`: 16, or 8 for what an instruction outside 64-bit mode reaches. HI16_ZMM is
 * then empty.
 */
unsigned component_bytes(enum xstate number, unsigned registers);
void component_get(const struct cpu_state *s, enum xstate number, unsigned registers, uint8_t *out);
/** `in`: NULL for the initial state. After PKRU the caller flushes the TLB. */
void component_set(struct cpu_state *s, enum xstate number, unsigned registers, const uint8_t *in);
/** Where the component is in an area; `xcomp_bv` as for xstate_offset. */
unsigned component_offset(enum xstate number, uint64_t xcomp_bv);

/** The initial state of x87: what FNINIT leaves, and empty registers of zeros. MXCSR stays. */
void x87_component_reset(struct cpu_fx *fx);

#endif

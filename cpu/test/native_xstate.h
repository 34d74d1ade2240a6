/* SPDX-License-Identifier: MIT */
/* The floating-point and vector part of a signal frame: between the kernel's layout and struct gen_state. */
#ifndef VMMU_CPU_TEST_NATIVE_XSTATE_H
#define VMMU_CPU_TEST_NATIVE_XSTATE_H

#include <ucontext.h>

#include "gen.h"

/* Components of XCR0 that the host's kernel has on: 1 x87, 2 SSE, 4 AVX, e0 AVX-512. */
uint64_t native_xcr0(void);

/* Ask the host's CPUID where the components are. Before the other functions. */
void native_xstate_init(void);

/* Clear what no frame of this host holds. */
void native_xstate_trim(struct gen_state *s);

/* The frame that the handler returns into gets the registers of @in, and afterwards those of @out are the frame's. */
void native_xstate_put(struct _libc_fpstate *frame, const struct gen_state *in);
void native_xstate_get(const struct _libc_fpstate *frame, struct gen_state *out);

/* Keep what the test's own code had in its registers, and put it back. */
void native_xstate_keep(const struct _libc_fpstate *frame);
void native_xstate_restore(struct _libc_fpstate *frame);

#endif

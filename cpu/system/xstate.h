/* SPDX-License-Identifier: MIT */
/*
 * State components: what XCR0 enables and XSAVE saves. Which of them this CPU has, and where each is in an XSAVE area.
 */
#ifndef CPU_SYSTEM_XSTATE_H
#define CPU_SYSTEM_XSTATE_H

#include <stdbool.h>
#include <stdint.h>

/* By their numbers, which are those of their bits in XCR0. */
enum xstate {
	XSTATE_X87, XSTATE_SSE, XSTATE_AVX, XSTATE_OPMASK = 5, XSTATE_ZMM_HI256, XSTATE_HI16_ZMM, XSTATE_PKRU = 9,
	XSTATE_COUNT
};
#define XSTATE_BIT(number) (UINT64_C(1) << (number))
#define XSTATE_AVX512_BITS (XSTATE_BIT(XSTATE_OPMASK) | XSTATE_BIT(XSTATE_ZMM_HI256) | XSTATE_BIT(XSTATE_HI16_ZMM))

/* An area: what FXSAVE stores, a header, and the components from AVX on. */
#define XSAVE_HEADER        512u
#define XSAVE_EXTENDED      576u
#define XSAVE_COMPACTED     (UINT64_C(1) << 63) /* of XCOMP_BV */
#define XSTATE_BYTES_MOST   1024u /* of one component */

/** The components that this CPU has, as bits of XCR0. */
uint64_t xstate_components(void);

/** Does XGETBV have register 1? */
bool xstate_has_xgetbv1(void);

/** The bytes of a component from AVX on. */
unsigned xstate_size(enum xstate number);
/**
 * Where a component from AVX on is in an area. `xcomp_bv`: as in the header of a compacted area, of which the component
 * is one; 0: in the standard format.
 */
unsigned xstate_offset(enum xstate number, uint64_t xcomp_bv);
/** Is it aligned to 64 bytes in a compacted area? */
bool xstate_is_aligned(enum xstate number);
/** The bytes of an area with these components. */
unsigned xstate_bytes(uint64_t components, bool compacted);

/** May XCR0 be `value`, where the components of `valid` exist? */
bool xstate_xcr0_is_legal(uint64_t value, uint64_t valid);

#endif

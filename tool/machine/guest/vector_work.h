/* SPDX-License-Identifier: MIT */
/*
 * Work in every vector, mask and x87 register, while MXCSR, x87's control word and PKRU change. What it computes is
 * chaotic: one bit that is lost in any register, at any moment, changes the result.
 */
#ifndef TOOL_MACHINE_GUEST_VECTOR_WORK_H
#define TOOL_MACHINE_GUEST_VECTOR_WORK_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Known by vector_work.S. */
struct vector_work {
	uint32_t scratch[4];
	uint8_t has_pkru;
	uint32_t rounds;
	uint32_t mxcsr[8] __attribute__((aligned(32)));
	uint16_t fcw[8];
	uint64_t folded;                                 /* of the result: what the status registers said */
	double x87[7] __attribute__((aligned(64)));      /* a factor, and six values */
	double ones[8] __attribute__((aligned(256))), factors[8];
	uint8_t vectors[32][64], masks[8][8];            /* what the registers begin with */
	uint8_t area[4096] __attribute__((aligned(4096))); /* of the result: as XSAVE or FXSAVE stores it */
};
_Static_assert(offsetof(struct vector_work, folded) == 0x50 && offsetof(struct vector_work, x87) == 0x80 &&
	       offsetof(struct vector_work, ones) == 0x100 && offsetof(struct vector_work, vectors) == 0x180 &&
	       offsetof(struct vector_work, area) == 0x1000, "vector_work.S knows them");

/*
 * The work, with SSE2, AVX2, or AVX-512 (F and BW); it ends with a RET. Argument: a struct vector_work in RSI. Changes
 * RAX to RDX, R8, R9, all vector, mask and x87 registers, their control words, and PKRU.
 */
extern const uint8_t vector_work_sse[], vector_work_avx[], vector_work_avx512[], vector_work_end[];

static inline void vector_work_fill(struct vector_work *w, uint32_t rounds, int has_pkru)
{
	static const uint32_t mxcsr[8] = { 0x1f80, 0x3f80, 0x5f80, 0x7f80, 0x9fc0, 0xbf81, 0x1f84, 0x7f90 };
	static const uint16_t fcw[8] = { 0x37f, 0x77f, 0xb7f, 0xf7f, 0x27f, 0x67f, 0xa7f, 0xe7f };
	uint64_t random = 1;

	memset(w, 0, sizeof(*w));
	w->rounds = rounds;
	w->has_pkru = has_pkru != 0;
	memcpy(w->mxcsr, mxcsr, sizeof(mxcsr));
	memcpy(w->fcw, fcw, sizeof(fcw));
	for (unsigned i = 0; i < 7; i++)
		w->x87[i] = i == 0 ? 3.97 : 0.1 * i + 0.05;
	for (unsigned i = 0; i < 8; i++) {
		w->ones[i] = 1;
		w->factors[i] = 3.95 + 0.005 * i;
	}
	for (unsigned i = 0; i < sizeof(w->vectors) + sizeof(w->masks); i++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		((uint8_t *)w)[offsetof(struct vector_work, vectors) + i] = (uint8_t)(random >> 56);
	}
	for (unsigned n = 0; n < 32; n++)
		for (unsigned i = 0; i < 8 && (n & 15) >= 8; i++) {
			double x = 0.1 + 0.02 * n + 0.003 * i;

			memcpy(&w->vectors[n][8 * i], &x, sizeof(x));
		}
}

#endif

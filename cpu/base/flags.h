/* SPDX-License-Identifier: MIT */
/*
 * Arithmetic flags, kept lazily in two words, which mean the same after every kind of operation.
 *
 *   res: the result, sign-extended to 64 bits.
 *   aux: bit 63 the carry out of the top bit, bit 62 the carry into it, bit 3 the carry out of bit 3,
 *        bit 0 "the sign flag is not res's sign", bits 8..15 a byte to exclusive-or into res's parity.
 *
 *   ZF = res == 0    SF = res<63> ^ aux<0>    PF = even parity of (res ^ aux>>8)<7:0>
 *   CF = aux<63>     OF = aux<63> ^ aux<62>   AF = aux<3>
 *
 * Bits 0 and 8..15 exist so that POPF and SAHF can set combinations that no result has, such as ZF with SF.
 */
#ifndef CPU_BASE_FLAGS_H
#define CPU_BASE_FLAGS_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu/base/types.h"

#define FLAGS_AUX_MASK UINT64_C(0xc000000000000008)

/* The value of `bytes` (1, 2, 4, 8) low bytes, sign-extended. */
static inline uint64_t flags_extend(uint64_t value, unsigned bytes)
{
	unsigned shift = 64 - 8 * bytes;

	return (uint64_t)((int64_t)(value << shift) >> shift);
}

/* The aux word for the carries out of each bit of an operation on `bytes` bytes. */
static inline uint64_t flags_carries(uint64_t carries, unsigned bytes)
{
	if (bytes == 8)
		return carries & FLAGS_AUX_MASK;
	return ((carries << (64 - 8 * bytes)) & UINT64_C(0xc000000000000000)) | (carries & 8);
}

/** Flags of res = a + b (+ carry): ADD, ADC, XADD. */
static inline void flags_add(struct cpu *cpu, uint64_t a, uint64_t b, uint64_t res, unsigned bytes)
{
	cpu->fl_res = flags_extend(res, bytes);
	cpu->fl_aux = flags_carries((a & b) | ((a | b) & ~res), bytes);
}

/** Flags of res = a - b (- borrow): SUB, SBB, CMP, CMPXCHG, SCAS, CMPS, NEG (a = 0). */
static inline void flags_sub(struct cpu *cpu, uint64_t a, uint64_t b, uint64_t res, unsigned bytes)
{
	cpu->fl_res = flags_extend(res, bytes);
	cpu->fl_aux = flags_carries((~a & b) | ((~a | b) & res), bytes);
}

/** Flags of a logical result: CF, OF and AF clear. */
static inline void flags_logic(struct cpu *cpu, uint64_t res, unsigned bytes)
{
	cpu->fl_res = flags_extend(res, bytes);
	cpu->fl_aux = 0;
}

/** CF becomes that of `old_aux`, the other flags stay: INC and DEC are ADD and SUB of 1 that keep CF. */
static inline void flags_keep_cf(struct cpu *cpu, uint64_t old_aux)
{
	uint64_t aux = cpu->fl_aux;

	/* Flip both top bits when the carry differs: OF, their difference, stays. */
	if ((aux ^ old_aux) >> 63)
		aux ^= UINT64_C(0xc000000000000000);
	cpu->fl_aux = aux;
}

static inline void flags_inc(struct cpu *cpu, uint64_t a, uint64_t res, unsigned bytes)
{
	uint64_t old = cpu->fl_aux;

	flags_add(cpu, a, 1, res, bytes);
	flags_keep_cf(cpu, old);
}

static inline void flags_dec(struct cpu *cpu, uint64_t a, uint64_t res, unsigned bytes)
{
	uint64_t old = cpu->fl_aux;

	flags_sub(cpu, a, 1, res, bytes);
	flags_keep_cf(cpu, old);
}

static inline bool flag_cf(const struct cpu *cpu) { return cpu->fl_aux >> 63; }
static inline bool flag_zf(const struct cpu *cpu) { return cpu->fl_res == 0; }
static inline bool flag_sf(const struct cpu *cpu) { return (cpu->fl_res >> 63) ^ (cpu->fl_aux & 1); }
static inline bool flag_of(const struct cpu *cpu) { return ((cpu->fl_aux >> 63) ^ (cpu->fl_aux >> 62)) & 1; }
static inline bool flag_af(const struct cpu *cpu) { return (cpu->fl_aux >> 3) & 1; }
static inline bool flag_pf(const struct cpu *cpu)
{
	return !__builtin_parity((unsigned)((cpu->fl_res ^ (cpu->fl_aux >> 8)) & 0xff));
}

/** The six arithmetic flags in their RFLAGS positions. */
static inline uint64_t flags_get(const struct cpu *cpu)
{
	return (uint64_t)flag_cf(cpu) * RFLAGS_CF | (uint64_t)flag_pf(cpu) * RFLAGS_PF |
	       (uint64_t)flag_af(cpu) * RFLAGS_AF | (uint64_t)flag_zf(cpu) * RFLAGS_ZF |
	       (uint64_t)flag_sf(cpu) * RFLAGS_SF | (uint64_t)flag_of(cpu) * RFLAGS_OF;
}

/** Set all six from RFLAGS positions; other bits of `flags` are ignored. */
static inline void flags_set(struct cpu *cpu, uint64_t flags)
{
	bool cf = flags & RFLAGS_CF, of = flags & RFLAGS_OF, zf = flags & RFLAGS_ZF;
	bool sf = flags & RFLAGS_SF, pf = flags & RFLAGS_PF, af = flags & RFLAGS_AF;

	/* res has a low byte of 0, so PF is 1 unless the parity byte says otherwise. */
	cpu->fl_res = zf ? 0 : (sf ? UINT64_C(1) << 63 : 0x100);
	cpu->fl_aux = (uint64_t)cf << 63 | (uint64_t)(cf ^ of) << 62 | (uint64_t)af << 3 |
	              (uint64_t)(zf && sf) | (uint64_t)!pf << 8;
}

/** Replace the flags named in `mask` (RFLAGS positions), keep the others. For shifts, BT, BSF, ... */
static inline void flags_update(struct cpu *cpu, uint64_t mask, uint64_t flags)
{
	flags_set(cpu, (flags_get(cpu) & ~mask) | (flags & mask));
}

/** Set only CF. */
static inline void flags_set_cf(struct cpu *cpu, bool cf)
{
	if (flag_cf(cpu) != cf)
		cpu->fl_aux ^= UINT64_C(0xc000000000000000);
}

/** Evaluate an x86 condition code (0 O, 1 NO, 2 B, ... 15 G). Constant `cc` gives straight code. */
static inline bool flags_cond(const struct cpu *cpu, unsigned cc)
{
	bool r;

	switch (cc >> 1) {
	case 0: r = flag_of(cpu); break;
	case 1: r = flag_cf(cpu); break;
	case 2: r = flag_zf(cpu); break;
	case 3: r = (int)flag_cf(cpu) | (int)flag_zf(cpu); break;
	case 4: r = flag_sf(cpu); break;
	case 5: r = flag_pf(cpu); break;
	case 6: r = flag_sf(cpu) ^ flag_of(cpu); break;
	default: r = (int)flag_zf(cpu) | (flag_sf(cpu) ^ flag_of(cpu)); break;
	}
	return r ^ (cc & 1);
}

/** RFLAGS, complete. */
static inline uint64_t rflags_get(const struct cpu *cpu)
{
	return (cpu->s.rflags & ~RFLAGS_ARITH) | flags_get(cpu) | RFLAGS_FIXED1;
}

#endif

/* SPDX-License-Identifier: MIT */
/* State components between the registers and an XSAVE area, and whole areas for the CPU's owner. */
#include <string.h>

#include "cpu/base/private.h"
#include "cpu/system/components.h"

#define LEGACY_FX_BYTES 160u /* x87 and MXCSR */
#define LEGACY_XMM      160u
#define LEGACY_SW       464u /* left to software; KVM shows which components there are */

/* The part of each vector register that a component has. */
static const struct part {
	uint8_t first, from, bytes;
} parts[XSTATE_COUNT] = {
	[XSTATE_SSE] = { 0, 0, 16 }, [XSTATE_AVX] = { 0, 16, 16 }, [XSTATE_ZMM_HI256] = { 0, 32, 32 },
	[XSTATE_HI16_ZMM] = { 16, 0, 64 },
};

static bool any_bits(const void *at, unsigned bytes)
{
	const uint8_t *from = at;
	uint64_t all = 0, word;

	for (unsigned i = 0; i < bytes; i += sizeof(word)) {
		memcpy(&word, from + i, sizeof(word));
		all |= word;
	}
	return all != 0;
}

static bool part_in_use(const struct cpu_state *s, const struct part *part)
{
	for (unsigned i = 0; i < 16; i++) {
		if (any_bits(&s->vectors.v[part->first + i][part->from], part->bytes))
			return true;
	}
	return false;
}

static bool x87_in_use(const struct cpu_fx *fx)
{
	return fx->fcw != FCW_INIT || fx->fsw || fx->ftw || fx->fop || fx->fip || fx->fdp ||
	       any_bits(fx->st, sizeof(fx->st));
}

uint64_t components_in_use(const struct cpu_state *s)
{
	uint64_t used = 0;

	if (x87_in_use(&s->fx))
		used |= XSTATE_BIT(XSTATE_X87);
	for (unsigned i = XSTATE_SSE; i < XSTATE_COUNT; i++) {
		if (parts[i].bytes != 0 && part_in_use(s, &parts[i]))
			used |= XSTATE_BIT(i);
	}
	if (any_bits(s->vectors.k, sizeof(s->vectors.k)))
		used |= XSTATE_BIT(XSTATE_OPMASK);
	if (s->pkru != 0)
		used |= XSTATE_BIT(XSTATE_PKRU);
	return used;
}

static unsigned register_count(enum xstate number, unsigned registers)
{
	return number == XSTATE_HI16_ZMM && registers < 16 ? 0 : registers;
}

unsigned component_bytes(enum xstate number, unsigned registers)
{
	if (parts[number].bytes == 0)
		return xstate_size(number);
	return register_count(number, registers) * parts[number].bytes;
}

unsigned component_offset(enum xstate number, uint64_t xcomp_bv)
{
	return number == XSTATE_SSE ? LEGACY_XMM : xstate_offset(number, xcomp_bv);
}

void component_get(const struct cpu_state *s, enum xstate number, unsigned registers, uint8_t *out)
{
	const struct part *part = &parts[number];

	if (number == XSTATE_OPMASK) {
		memcpy(out, s->vectors.k, sizeof(s->vectors.k));
	} else if (number == XSTATE_PKRU) {
		memset(out, 0, xstate_size(number));
		memcpy(out, &s->pkru, sizeof(s->pkru));
	} else {
		for (unsigned i = 0; i < register_count(number, registers); i++)
			memcpy(out + i * part->bytes, &s->vectors.v[part->first + i][part->from], part->bytes);
	}
}

void component_set(struct cpu_state *s, enum xstate number, unsigned registers, const uint8_t *in)
{
	static const uint8_t zeros[XSTATE_BYTES_MOST];
	const struct part *part = &parts[number];

	if (in == NULL)
		in = zeros;
	if (number == XSTATE_OPMASK) {
		memcpy(s->vectors.k, in, sizeof(s->vectors.k));
	} else if (number == XSTATE_PKRU) {
		memcpy(&s->pkru, in, sizeof(s->pkru));
	} else {
		for (unsigned i = 0; i < register_count(number, registers); i++)
			memcpy(&s->vectors.v[part->first + i][part->from], in + i * part->bytes, part->bytes);
	}
}

void x87_component_reset(struct cpu_fx *fx)
{
	uint32_t mxcsr = fx->mxcsr, mask = fx->mxcsr_mask;

	memset(fx, 0, sizeof(*fx));
	fx->fcw = FCW_INIT;
	fx->mxcsr = mxcsr;
	fx->mxcsr_mask = mask;
}

/* ---- for the owner ------------------------------------------------------------------------------------------ */

_Static_assert(sizeof(struct cpu_fx) == LEGACY_FX_BYTES, "the start of an area");

unsigned cpu_xsave_bytes(uint64_t components, bool compacted)
{
	return xstate_bytes(components, compacted);
}

bool cpu_xcr0_set(struct cpu *cpu, uint64_t value)
{
	if (!xstate_xcr0_is_legal(value, cpu->p->xcr0_valid))
		return false;
	cpu->s.xcr0 = value;
	return true;
}

void cpu_xsave_get(struct cpu *cpu, uint64_t components, uint8_t area[CPU_XSAVE_BYTES])
{
	const struct cpu_state *s = &cpu->s;
	uint64_t all = xstate_components(), used = components_in_use(s);

	if (s->fx.mxcsr != MXCSR_INIT)
		used |= XSTATE_BIT(XSTATE_SSE);
	components &= all;
	used &= components;
	memset(area, 0, CPU_XSAVE_BYTES);
	memcpy(area, &s->fx, LEGACY_FX_BYTES);
	memcpy(area + LEGACY_SW, &all, sizeof(all));
	memcpy(area + XSAVE_HEADER, &used, sizeof(used));
	for (unsigned i = XSTATE_SSE; i < XSTATE_COUNT; i++) {
		if (components & XSTATE_BIT(i))
			component_get(s, i, 16, area + component_offset(i, 0));
	}
}

bool cpu_xsave_set(struct cpu *cpu, const uint8_t area[CPU_XSAVE_BYTES])
{
	const uint64_t reads_mxcsr = XSTATE_BIT(XSTATE_X87) | XSTATE_BIT(XSTATE_SSE) | XSTATE_BIT(XSTATE_AVX);
	uint64_t components = xstate_components(), header[8];
	struct cpu_state *s = &cpu->s;
	struct cpu_fx fx;

	memcpy(header, area + XSAVE_HEADER, sizeof(header));
	memcpy(&fx, area, sizeof(fx));
	if ((header[0] & ~components) || any_bits(&header[1], sizeof(header) - sizeof(header[0])))
		return false;
	if ((header[0] & reads_mxcsr) && (fx.mxcsr & MXCSR_RESERVED))
		return false;
	/* KVM loads the state by XRSTORS, for which MXCSR is SSE's. */
	if (!(header[0] & XSTATE_BIT(XSTATE_SSE)))
		fx.mxcsr = MXCSR_INIT;
	fx.mxcsr_mask = s->fx.mxcsr_mask;
	if (!(header[0] & XSTATE_BIT(XSTATE_X87)))
		x87_component_reset(&fx);
	s->fx = fx;
	for (unsigned i = XSTATE_SSE; i < XSTATE_COUNT; i++) {
		const uint8_t *in = header[0] & XSTATE_BIT(i) ? area + component_offset(i, 0) : NULL;

		/* KVM leaves PKRU alone where the area does not have it. */
		if ((components & XSTATE_BIT(i)) && (in != NULL || i != XSTATE_PKRU))
			component_set(s, i, 16, in);
	}
	return true;
}

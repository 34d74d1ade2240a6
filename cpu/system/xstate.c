/* SPDX-License-Identifier: MIT */
/* State components of XSAVE: Intel SDM vol. 1, chapter 13; APM vol. 2, 11.5. */
#include <pthread.h>

#include "cpu/cpu.h"
#include "cpu/system/host.h"
#include "cpu/system/model.h"
#include "cpu/system/xstate.h"

#define AREA_MOST 4096u /* of struct kvm_xsave */

static const uint16_t sizes[XSTATE_COUNT] = {
	[XSTATE_AVX] = 256, [XSTATE_OPMASK] = 64, [XSTATE_ZMM_HI256] = 512, [XSTATE_HI16_ZMM] = 1024, [XSTATE_PKRU] = 8,
};

struct place {
	uint32_t offset; /* in the standard format */
	bool aligned;    /* to 64 bytes in the compacted one */
};

/* Intel's processors have had these places from the first on. Every model but the host's has them, on any host. */
static const struct place common[XSTATE_COUNT] = {
	[XSTATE_AVX] = { .offset = 0x240 }, [XSTATE_OPMASK] = { .offset = 0x440 },
	[XSTATE_ZMM_HI256] = { .offset = 0x480 }, [XSTATE_HI16_ZMM] = { .offset = 0x680 },
	[XSTATE_PKRU] = { .offset = 0xa80 },
};

static struct place host[XSTATE_COUNT];

/* Returns: false when the host has no such component, or one of another size. */
static bool host_place(enum xstate number, struct place *place)
{
	uint32_t out[4];

	host_cpuid(0xd, number, out);
	if (out[0] != sizes[number] || out[1] < XSAVE_EXTENDED || out[1] > AREA_MOST - out[0])
		return false;
	*place = (struct place){ .offset = out[1], .aligned = out[2] & 2 };
	return true;
}

/*
 * Clients compare areas with those of the host. Protection keys are there on every host, as the CPU does them itself:
 * behind what the host has, which is their place on processors that have them.
 */
static void host_read(void)
{
	unsigned end = XSAVE_EXTENDED;

	for (unsigned i = XSTATE_AVX; i < XSTATE_PKRU; i++) {
		if (sizes[i] == 0)
			continue;
		if (!host_place(i, &host[i]))
			host[i] = common[i];
		else if (host[i].offset + sizes[i] > end)
			end = host[i].offset + sizes[i];
	}
	if (!host_place(XSTATE_PKRU, &host[XSTATE_PKRU]))
		host[XSTATE_PKRU] = (struct place){ .offset = end };
}

static const struct place *places(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	if (model_is_fixed())
		return common;
	pthread_once(&once, host_read);
	return host;
}

uint64_t xstate_components(void)
{
	uint64_t components = XSTATE_BIT(XSTATE_X87) | XSTATE_BIT(XSTATE_SSE);
	uint32_t one[4], seven[4];

	cpu_cpuid_max(1, 0, one);
	cpu_cpuid_max(7, 0, seven);
	if (one[2] & 1u << 28)
		components |= XSTATE_BIT(XSTATE_AVX);
	if (seven[1] & 1u << 16)
		components |= XSTATE_AVX512_BITS;
	if (seven[2] & 1u << 3)
		components |= XSTATE_BIT(XSTATE_PKRU);
	return components;
}

bool xstate_has_xgetbv1(void)
{
	uint32_t out[4];

	cpu_cpuid_max(0xd, 1, out);
	return out[0] & 1u << 2;
}

unsigned xstate_size(enum xstate number)
{
	return sizes[number];
}

bool xstate_is_aligned(enum xstate number)
{
	return places()[number].aligned;
}

static unsigned compacted_end(uint64_t components, enum xstate before, const struct place *place)
{
	unsigned end = XSAVE_EXTENDED;

	for (unsigned i = XSTATE_AVX; i < before; i++) {
		if (!(components & XSTATE_BIT(i)))
			continue;
		if (place[i].aligned)
			end = (end + 63) & ~63u;
		end += sizes[i];
	}
	return end;
}

unsigned xstate_offset(enum xstate number, uint64_t xcomp_bv)
{
	const struct place *place = places();
	unsigned offset;

	if (!(xcomp_bv & XSAVE_COMPACTED))
		return place[number].offset;
	offset = compacted_end(xcomp_bv, number, place);
	return place[number].aligned ? (offset + 63) & ~63u : offset;
}

unsigned xstate_bytes(uint64_t components, bool compacted)
{
	const struct place *place = places();
	unsigned end = XSAVE_EXTENDED;

	if (compacted)
		return compacted_end(components, XSTATE_COUNT, place);
	for (unsigned i = XSTATE_AVX; i < XSTATE_COUNT; i++) {
		if ((components & XSTATE_BIT(i)) && place[i].offset + sizes[i] > end)
			end = place[i].offset + sizes[i];
	}
	return end;
}

bool xstate_xcr0_is_legal(uint64_t value, uint64_t valid)
{
	uint64_t avx512 = value & XSTATE_AVX512_BITS;

	if (!(value & XSTATE_BIT(XSTATE_X87)) || (value & ~(valid | XSTATE_BIT(XSTATE_X87))))
		return false;
	if ((value & XSTATE_BIT(XSTATE_AVX)) && !(value & XSTATE_BIT(XSTATE_SSE)))
		return false;
	return avx512 == 0 || (avx512 == XSTATE_AVX512_BITS && (value & XSTATE_BIT(XSTATE_AVX)));
}

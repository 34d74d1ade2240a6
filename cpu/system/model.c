/* SPDX-License-Identifier: MIT */
/*
 * The models are the levels of the x86-64 psABI. Of the instructions that the host's processor carries out, a model has
 * those that its level names, and no others: a guest finds the same CPU on every host that has the level. What this CPU
 * does by itself, paging and interrupts above all, is there on every host, and every model has it.
 */
#include "cpu/cpu.h"
#include "cpu/system/model.h"

static enum cpu_model model = CPU_MODEL_HOST;

enum { EAX, EBX, ECX, EDX };

/*
 * The bits of a register that each model has. A model also has those of the models before it. What is of no row is in
 * every model.
 */
static const struct {
	uint32_t leaf, subleaf;
	unsigned reg;
	uint32_t bits[CPU_MODEL_V4 + 1]; /* by enum cpu_model */
} features[] = {
	{ 1, 0, ECX, {
		[CPU_MODEL_V1] = 1u << 3 | 1u << 17 | 1u << 21 | 1u << 24 | /* MONITOR PCID x2APIC TSC deadline */
		                 1u << 31, /* hypervisor */
		[CPU_MODEL_V2] = 1u << 0 | 1u << 9 | 1u << 13 | 1u << 19 | /* SSE3 SSSE3 CMPXCHG16B SSE4.1 */
		                 1u << 20 | 1u << 23, /* SSE4.2 POPCNT */
		[CPU_MODEL_V3] = 1u << 12 | 1u << 22 | 1u << 26 | 1u << 28 | 1u << 29, /* FMA MOVBE XSAVE AVX F16C */
	} },
	{ 7, 0, EBX, {
		[CPU_MODEL_V1] = 1u << 0 | 1u << 1 | 1u << 7 | 1u << 9 | /* FSGSBASE TSC_ADJUST SMEP ERMS */
		                 1u << 10 | 1u << 13 | 1u << 20 | /* INVPCID, x87 selectors, SMAP */
		                 1u << 23 | 1u << 24, /* CLFLUSHOPT CLWB */
		[CPU_MODEL_V3] = 1u << 3 | 1u << 5 | 1u << 8, /* BMI1 AVX2 BMI2 */
		[CPU_MODEL_V4] = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31, /* AVX-512 F DQ CD BW VL */
	} },
	{ 7, 0, ECX, {
		[CPU_MODEL_V1] = 1u << 2 | 1u << 16 | 1u << 22, /* UMIP LA57 RDPID */
		[CPU_MODEL_V3] = 1u << 3, /* PKU, which XSAVE saves */
	} },
	{ 7, 0, EDX, { 0 } },
	{ 7, 1, EAX, { 0 } }, { 7, 1, EBX, { 0 } }, { 7, 1, ECX, { 0 } }, { 7, 1, EDX, { 0 } },
	{ 0xd, 1, EAX, { [CPU_MODEL_V3] = 0xf } }, /* XSAVEOPT XSAVEC XGETBV1 XSAVES */
	{ 0x80000001, 0, ECX, {
		[CPU_MODEL_V1] = 1u << 2 | 1u << 4 | 1u << 8, /* SVM, CR8 in legacy mode, PREFETCHW */
		[CPU_MODEL_V2] = 1u << 0, /* LAHF in 64-bit mode */
		[CPU_MODEL_V3] = 1u << 5, /* LZCNT */
	} },
	{ 0x80000008, 0, EBX, { [CPU_MODEL_V1] = 1u << 2 } }, /* XSAVEERPTR */
};

void cpu_model_set(enum cpu_model which)
{
	model = which;
}

bool model_is_fixed(void)
{
	return model != CPU_MODEL_HOST;
}

static uint32_t bits_of(unsigned row)
{
	uint32_t bits = 0;

	for (unsigned level = CPU_MODEL_V1; level <= model; level++)
		bits |= features[row].bits[level];
	return bits;
}

void model_restrict(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	if (!model_is_fixed())
		return;
	for (unsigned i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		if (features[i].leaf == leaf && features[i].subleaf == subleaf)
			out[features[i].reg] &= bits_of(i);
	}
}

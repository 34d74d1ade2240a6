/* SPDX-License-Identifier: MIT */
#include "opcode_cpuid.h"

#include <cpuid.h>
#include <stdint.h>
#include <string.h>

#include "cpu/cpu.h"

enum reg { A, B, C, D };

struct feature {
	ZydisISASet set;
	uint32_t leaf, subleaf;
	uint8_t reg, bit;
};

#define SET(name, leaf, subleaf, reg, bit) { ZYDIS_ISA_SET_##name, leaf, subleaf, reg, bit }
/* The three lengths of a set of AVX-512. */
#define SET3(name, leaf, subleaf, reg, bit) \
	SET(name##_128, leaf, subleaf, reg, bit), SET(name##_256, leaf, subleaf, reg, bit), \
		SET(name##_512, leaf, subleaf, reg, bit)

static const struct feature features[] = {
	SET(X87, 1, 0, D, 0), SET(FCMOV, 1, 0, D, 15), SET(SSE3X87, 1, 0, C, 0), SET(PENTIUMMMX, 1, 0, D, 23),
	SET(SSE, 1, 0, D, 25), SET(SSEMXCSR, 1, 0, D, 25), SET(SSE_PREFETCH, 1, 0, D, 25), SET(SSE2, 1, 0, D, 26),
	SET(SSE2MMX, 1, 0, D, 26), SET(SSE3, 1, 0, C, 0), SET(SSSE3, 1, 0, C, 9), SET(SSSE3MMX, 1, 0, C, 9),
	SET(SSE4, 1, 0, C, 19), SET(SSE42, 1, 0, C, 20), SET(SSE4A, 0x80000001, 0, C, 6),
	SET(CMPXCHG16B, 1, 0, C, 13), SET(MOVBE, 1, 0, C, 22), SET(POPCNT, 1, 0, C, 23),
	SET(LZCNT, 0x80000001, 0, C, 5), SET(BMI1, 7, 0, B, 3), SET(BMI2, 7, 0, B, 8), SET(ADOX_ADCX, 7, 0, B, 19),
	SET(RDRAND, 1, 0, C, 30), SET(RDSEED, 7, 0, B, 18), SET(RDPID, 7, 0, C, 22), SET(CLFSH, 1, 0, D, 19),
	SET(CLFLUSHOPT, 7, 0, B, 23), SET(CLWB, 7, 0, B, 24), SET(CLZERO, 0x80000008, 0, B, 0),
	SET(SERIALIZE, 7, 0, D, 14), SET(MOVDIR, 7, 0, C, 27), SET(CLDEMOTE, 7, 0, C, 25),
	SET(AES, 1, 0, C, 25), SET(PCLMULQDQ, 1, 0, C, 1), SET(SHA, 7, 0, B, 29), SET(GFNI, 7, 0, C, 8),
	SET(AVX, 1, 0, C, 28), SET(AVXAES, 1, 0, C, 25), SET(F16C, 1, 0, C, 29), SET(FMA, 1, 0, C, 12),
	SET(FMA4, 0x80000001, 0, C, 16), SET(AVX2, 7, 0, B, 5), SET(AVX2GATHER, 7, 0, B, 5),
	SET(AVX_GFNI, 7, 0, C, 8), SET(AVX_VNNI, 7, 1, A, 4), SET(VAES, 7, 0, C, 9), SET(VPCLMULQDQ, 7, 0, C, 10),
	SET3(AVX512F, 7, 0, B, 16), SET(AVX512F_128N, 7, 0, B, 16), SET(AVX512F_KOP, 7, 0, B, 16),
	SET(AVX512F_SCALAR, 7, 0, B, 16), SET3(AVX512DQ, 7, 0, B, 17), SET(AVX512DQ_128N, 7, 0, B, 17),
	SET(AVX512DQ_KOP, 7, 0, B, 17), SET(AVX512DQ_SCALAR, 7, 0, B, 17), SET3(AVX512BW, 7, 0, B, 30),
	SET(AVX512BW_128N, 7, 0, B, 30), SET(AVX512BW_KOP, 7, 0, B, 30), SET3(AVX512CD, 7, 0, B, 28),
	SET3(AVX512_IFMA, 7, 0, B, 21), SET3(AVX512_VBMI, 7, 0, C, 1), SET3(AVX512_VBMI2, 7, 0, C, 6),
	SET3(AVX512_VNNI, 7, 0, C, 11), SET3(AVX512_BITALG, 7, 0, C, 12), SET3(AVX512_VPOPCNTDQ, 7, 0, C, 14),
	SET3(AVX512_BF16, 7, 1, A, 5), SET3(AVX512_VP2INTERSECT, 7, 0, D, 8), SET3(AVX512_FP16, 7, 0, D, 23),
	SET(AVX512_FP16_128N, 7, 0, D, 23), SET(AVX512_FP16_SCALAR, 7, 0, D, 23), SET3(AVX512_GFNI, 7, 0, C, 8),
	SET3(AVX512_VAES, 7, 0, C, 9), SET3(AVX512_VPCLMULQDQ, 7, 0, C, 10),
};

/* AVX512VL, and what all of AVX-512 and of VEX needs. */
static const struct feature vl = SET(INVALID, 7, 0, B, 31), avx512 = SET(INVALID, 7, 0, B, 16);
static const struct feature avx = SET(INVALID, 1, 0, C, 28);

typedef void cpuid_fn(uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

static void host_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	if (!__get_cpuid_count(leaf, subleaf, &out[0], &out[1], &out[2], &out[3]))
		memset(out, 0, 4 * sizeof(out[0]));
}

static bool has(cpuid_fn *cpuid, const struct feature *f)
{
	uint32_t out[4];

	cpuid(f->leaf, f->subleaf, out);
	return out[f->reg] >> f->bit & 1;
}

static const struct feature *find(ZydisISASet set)
{
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++)
		if (features[i].set == set)
			return &features[i];
	return NULL;
}

static bool set_is_in(cpuid_fn *cpuid, ZydisISASet set)
{
	const struct feature *f = find(set);
	const char *name = ZydisISASetGetString(set), *end = strrchr(name, '_');

	if (!f || !has(cpuid, f))
		return false;
	if (strncmp(name, "AVX512", 6) == 0)
		return has(cpuid, &avx512) &&
		       (has(cpuid, &vl) || (strcmp(end, "_128") != 0 && strcmp(end, "_256") != 0));
	return strncmp(name, "AVX", 3) != 0 || has(cpuid, &avx);
}

bool opcode_set_is_swept(ZydisISASet set)
{
	return find(set) != NULL;
}

bool opcode_set_on_host(ZydisISASet set)
{
	return set_is_in(host_cpuid, set);
}

bool opcode_set_offered(ZydisISASet set)
{
	return set_is_in(cpu_cpuid_max, set);
}

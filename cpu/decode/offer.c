/* SPDX-License-Identifier: MIT */
/*
 * Which instructions exist. CPUID decides. An instruction set that cpu_cpuid_max does not offer is #UD, as on a
 * processor without it, whether a handler exists or not. An instruction that is offered and has no handler is an
 * internal error.
 *
 * An instruction that only the owner's CPUID hides still exists, as it does under KVM, which cannot take an
 * instruction away from the processor.
 */
#include "cpu/base/private.h"
#include "cpu/decode/decode.h"

enum place_of_bit {
	NOWHERE, ALWAYS, LEAF1_C, LEAF1_D, LEAF7_B, LEAF7_C, LEAF7_D, LEAF71_A, LEAFD1_A, EXT1_C, EXT1_D, EXT8_B,
};

/* The extensions of AVX-512 that have instructions on vectors of each size. */
#define AVX512_SETS(X)                                                                                    \
	X(AVX512F, LEAF7_B, 16) X(AVX512DQ, LEAF7_B, 17) X(AVX512_IFMA, LEAF7_B, 21) X(AVX512CD, LEAF7_B, 28) \
	X(AVX512BW, LEAF7_B, 30) X(AVX512_VBMI, LEAF7_C, 1) X(AVX512_VBMI2, LEAF7_C, 6)                       \
	X(AVX512_GFNI, LEAF7_C, 8) X(AVX512_VAES, LEAF7_C, 9) X(AVX512_VPCLMULQDQ, LEAF7_C, 10)               \
	X(AVX512_VNNI, LEAF7_C, 11) X(AVX512_BITALG, LEAF7_C, 12) X(AVX512_VPOPCNTDQ, LEAF7_C, 14)            \
	X(AVX512_BF16, LEAF71_A, 5)

#define OFFER_SIZES(name, place, bit)                    \
	[ZYDIS_ISA_SET_##name##_128] = { place, bit },   \
	[ZYDIS_ISA_SET_##name##_256] = { place, bit },   \
	[ZYDIS_ISA_SET_##name##_512] = { place, bit },

static const struct {
	uint8_t place, bit;
} offers[ZYDIS_ISA_SET_MAX_VALUE + 1] = {
	[ZYDIS_ISA_SET_I86] = { ALWAYS, 0 }, [ZYDIS_ISA_SET_I186] = { ALWAYS, 0 },
	[ZYDIS_ISA_SET_I286REAL] = { ALWAYS, 0 }, [ZYDIS_ISA_SET_I286PROTECTED] = { ALWAYS, 0 },
	[ZYDIS_ISA_SET_I386] = { ALWAYS, 0 }, [ZYDIS_ISA_SET_I486] = { ALWAYS, 0 },
	[ZYDIS_ISA_SET_I486REAL] = { ALWAYS, 0 }, [ZYDIS_ISA_SET_PENTIUMREAL] = { ALWAYS, 0 },
	[ZYDIS_ISA_SET_PPRO] = { ALWAYS, 0 }, [ZYDIS_ISA_SET_FAT_NOP] = { ALWAYS, 0 },
	[ZYDIS_ISA_SET_PAUSE] = { ALWAYS, 0 }, [ZYDIS_ISA_SET_RDPMC] = { ALWAYS, 0 },
	[ZYDIS_ISA_SET_AMD] = { ALWAYS, 0 },
	/* The hints of 0F 0D: a processor without them does nothing. */
	[ZYDIS_ISA_SET_PREFETCH_NOP] = { ALWAYS, 0 }, [ZYDIS_ISA_SET_PREFETCHWT1] = { ALWAYS, 0 },
	/* The guest's CPUID decides on these: op_monitor. */
	[ZYDIS_ISA_SET_MONITOR] = { ALWAYS, 0 }, [ZYDIS_ISA_SET_X87] = { LEAF1_D, 0 },
	[ZYDIS_ISA_SET_CMOV] = { LEAF1_D, 15 }, [ZYDIS_ISA_SET_FCMOV] = { LEAF1_D, 15 },
	[ZYDIS_ISA_SET_CLFSH] = { LEAF1_D, 19 }, [ZYDIS_ISA_SET_PENTIUMMMX] = { LEAF1_D, 23 },
	[ZYDIS_ISA_SET_FXSAVE] = { LEAF1_D, 24 }, [ZYDIS_ISA_SET_FXSAVE64] = { LEAF1_D, 24 },
	[ZYDIS_ISA_SET_SSE] = { LEAF1_D, 25 }, [ZYDIS_ISA_SET_SSEMXCSR] = { LEAF1_D, 25 },
	[ZYDIS_ISA_SET_SSE_PREFETCH] = { LEAF1_D, 25 }, [ZYDIS_ISA_SET_SSE2] = { LEAF1_D, 26 },
	[ZYDIS_ISA_SET_SSE2MMX] = { LEAF1_D, 26 }, [ZYDIS_ISA_SET_SSE3] = { LEAF1_C, 0 },
	[ZYDIS_ISA_SET_SSE3X87] = { LEAF1_C, 0 }, [ZYDIS_ISA_SET_CMPXCHG16B] = { LEAF1_C, 13 },
	[ZYDIS_ISA_SET_SSSE3] = { LEAF1_C, 9 }, [ZYDIS_ISA_SET_SSSE3MMX] = { LEAF1_C, 9 },
	[ZYDIS_ISA_SET_SSE4] = { LEAF1_C, 19 }, [ZYDIS_ISA_SET_SSE42] = { LEAF1_C, 20 },
	[ZYDIS_ISA_SET_PCLMULQDQ] = { LEAF1_C, 1 }, [ZYDIS_ISA_SET_AES] = { LEAF1_C, 25 },
	[ZYDIS_ISA_SET_SHA] = { LEAF7_B, 29 }, [ZYDIS_ISA_SET_GFNI] = { LEAF7_C, 8 },
	[ZYDIS_ISA_SET_SSE4A] = { EXT1_C, 6 },
	[ZYDIS_ISA_SET_AVX] = { LEAF1_C, 28 }, [ZYDIS_ISA_SET_F16C] = { LEAF1_C, 29 },
	[ZYDIS_ISA_SET_FMA] = { LEAF1_C, 12 }, [ZYDIS_ISA_SET_AVXAES] = { LEAF1_C, 25 },
	[ZYDIS_ISA_SET_AVX2] = { LEAF7_B, 5 }, [ZYDIS_ISA_SET_AVX2GATHER] = { LEAF7_B, 5 },
	[ZYDIS_ISA_SET_AVX_GFNI] = { LEAF7_C, 8 }, [ZYDIS_ISA_SET_VAES] = { LEAF7_C, 9 },
	[ZYDIS_ISA_SET_VPCLMULQDQ] = { LEAF7_C, 10 }, [ZYDIS_ISA_SET_AVX_VNNI] = { LEAF71_A, 4 },
	AVX512_SETS(OFFER_SIZES)
	[ZYDIS_ISA_SET_AVX512F_128N] = { LEAF7_B, 16 }, [ZYDIS_ISA_SET_AVX512F_KOP] = { LEAF7_B, 16 },
	[ZYDIS_ISA_SET_AVX512F_SCALAR] = { LEAF7_B, 16 }, [ZYDIS_ISA_SET_AVX512DQ_128N] = { LEAF7_B, 17 },
	[ZYDIS_ISA_SET_AVX512DQ_KOP] = { LEAF7_B, 17 }, [ZYDIS_ISA_SET_AVX512DQ_SCALAR] = { LEAF7_B, 17 },
	[ZYDIS_ISA_SET_AVX512BW_128N] = { LEAF7_B, 30 }, [ZYDIS_ISA_SET_AVX512BW_KOP] = { LEAF7_B, 30 },
	[ZYDIS_ISA_SET_MOVBE] = { LEAF1_C, 22 }, [ZYDIS_ISA_SET_POPCNT] = { LEAF1_C, 23 },
	[ZYDIS_ISA_SET_XSAVE] = { LEAF1_C, 26 }, [ZYDIS_ISA_SET_RDWRFSGS] = { LEAF7_B, 0 },
	[ZYDIS_ISA_SET_RDRAND] = { LEAF1_C, 30 }, [ZYDIS_ISA_SET_BMI1] = { LEAF7_B, 3 },
	[ZYDIS_ISA_SET_BMI2] = { LEAF7_B, 8 }, [ZYDIS_ISA_SET_RDSEED] = { LEAF7_B, 18 },
	[ZYDIS_ISA_SET_ADOX_ADCX] = { LEAF7_B, 19 },
	[ZYDIS_ISA_SET_XSAVEOPT] = { LEAFD1_A, 0 }, [ZYDIS_ISA_SET_XSAVEC] = { LEAFD1_A, 1 },
	[ZYDIS_ISA_SET_XSAVES] = { LEAFD1_A, 3 },
	[ZYDIS_ISA_SET_INVPCID] = { LEAF7_B, 10 }, [ZYDIS_ISA_SET_SMAP] = { LEAF7_B, 20 },
	[ZYDIS_ISA_SET_CLFLUSHOPT] = { LEAF7_B, 23 }, [ZYDIS_ISA_SET_CLWB] = { LEAF7_B, 24 },
	[ZYDIS_ISA_SET_PKU] = { LEAF7_C, 3 }, [ZYDIS_ISA_SET_RDPID] = { LEAF7_C, 22 },
	[ZYDIS_ISA_SET_MOVDIR] = { LEAF7_C, 27 }, [ZYDIS_ISA_SET_SERIALIZE] = { LEAF7_D, 14 },
	[ZYDIS_ISA_SET_LAHF] = { EXT1_C, 0 }, [ZYDIS_ISA_SET_LZCNT] = { EXT1_C, 5 },
	[ZYDIS_ISA_SET_SVM] = { EXT1_C, 2 },
	[ZYDIS_ISA_SET_RDTSCP] = { EXT1_D, 27 }, [ZYDIS_ISA_SET_LONGMODE] = { EXT1_D, 29 },
	[ZYDIS_ISA_SET_CLZERO] = { EXT8_B, 0 },
};

/* What else is needed: AVX's bit, AVX512F's, or that and VL's. */
enum with { ALONE, WITH_AVX, WITH_AVX512, WITH_AVX512VL };

#define WITH_SIZES(name, place, bit)                     \
	[ZYDIS_ISA_SET_##name##_128] = WITH_AVX512VL,    \
	[ZYDIS_ISA_SET_##name##_256] = WITH_AVX512VL,    \
	[ZYDIS_ISA_SET_##name##_512] = WITH_AVX512,

static const uint8_t with_what[ZYDIS_ISA_SET_MAX_VALUE + 1] = {
	[ZYDIS_ISA_SET_F16C] = WITH_AVX, [ZYDIS_ISA_SET_FMA] = WITH_AVX, [ZYDIS_ISA_SET_AVXAES] = WITH_AVX,
	[ZYDIS_ISA_SET_AVX2] = WITH_AVX, [ZYDIS_ISA_SET_AVX2GATHER] = WITH_AVX,
	[ZYDIS_ISA_SET_AVX_GFNI] = WITH_AVX, [ZYDIS_ISA_SET_VAES] = WITH_AVX,
	[ZYDIS_ISA_SET_VPCLMULQDQ] = WITH_AVX, [ZYDIS_ISA_SET_AVX_VNNI] = WITH_AVX,
	AVX512_SETS(WITH_SIZES)
	[ZYDIS_ISA_SET_AVX512DQ_128N] = WITH_AVX512, [ZYDIS_ISA_SET_AVX512DQ_KOP] = WITH_AVX512,
	[ZYDIS_ISA_SET_AVX512DQ_SCALAR] = WITH_AVX512, [ZYDIS_ISA_SET_AVX512BW_128N] = WITH_AVX512,
	[ZYDIS_ISA_SET_AVX512BW_KOP] = WITH_AVX512,
};

#define AVX_BIT       28u /* of LEAF1_C */
#define AVX512F_BIT   16u /* of LEAF7_B */
#define AVX512VL_BIT  31u
#define MOVDIR64B_BIT 28u /* of LEAF7_C; Zydis has one set for this and MOVDIRI */

static bool bit_is_set(unsigned place, unsigned bit)
{
	static const struct {
		uint32_t leaf, subleaf;
		uint8_t reg;
	} places[] = {
		[LEAF1_C] = { 1, 0, 2 }, [LEAF1_D] = { 1, 0, 3 }, [LEAF7_B] = { 7, 0, 1 }, [LEAF7_C] = { 7, 0, 2 },
		[LEAF7_D] = { 7, 0, 3 }, [LEAF71_A] = { 7, 1, 0 }, [LEAFD1_A] = { 0xd, 1, 0 },
		[EXT1_C] = { 0x80000001, 0, 2 }, [EXT1_D] = { 0x80000001, 0, 3 }, [EXT8_B] = { 0x80000008, 0, 1 },
	};
	uint32_t out[4];

	cpu_cpuid_max(places[place].leaf, places[place].subleaf, out);
	return out[places[place].reg] >> bit & 1;
}

static bool is_offered_with(enum with with)
{
	switch (with) {
	case WITH_AVX: return bit_is_set(LEAF1_C, AVX_BIT);
	case WITH_AVX512: return bit_is_set(LEAF7_B, AVX512F_BIT);
	case WITH_AVX512VL: return bit_is_set(LEAF7_B, AVX512F_BIT) && bit_is_set(LEAF7_B, AVX512VL_BIT);
	default: return true;
	}
}

static bool set_is_offered(ZydisISASet set)
{
	unsigned place = offers[set].place;

	if (place == NOWHERE || place == ALWAYS)
		return place == ALWAYS;
	return bit_is_set(place, offers[set].bit) && is_offered_with((enum with)with_what[set]);
}

bool instruction_is_offered(const ZydisDecodedInstruction *z)
{
	switch (z->mnemonic) {
	/* A hypervisor answers these, on both vendors' processors. */
	case ZYDIS_MNEMONIC_VMCALL: case ZYDIS_MNEMONIC_VMMCALL: return true;
	case ZYDIS_MNEMONIC_MOVDIR64B: return bit_is_set(LEAF7_C, MOVDIR64B_BIT);
	/* The bit is that of 64-bit mode. */
	case ZYDIS_MNEMONIC_LAHF: case ZYDIS_MNEMONIC_SAHF:
		return z->machine_mode != ZYDIS_MACHINE_MODE_LONG_64 || set_is_offered(z->meta.isa_set);
	default: return set_is_offered(z->meta.isa_set);
	}
}

void decoder_init(ZydisDecoder *decoder, ZydisMachineMode mode, ZydisStackWidth width)
{
	/*
	 * Without these sets in CPUID, their bytes are other instructions: no operations, BSF, BSR. WBNOINVD is always
	 * taken for WBINVD.
	 */
	static const ZydisDecoderMode absent[] = {
		ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CET, ZYDIS_DECODER_MODE_CLDEMOTE,
		ZYDIS_DECODER_MODE_WBNOINVD,
	};

	ZydisDecoderInit(decoder, mode, width);
	for (unsigned i = 0; i < sizeof(absent) / sizeof(absent[0]); i++)
		ZydisDecoderEnableMode(decoder, absent[i], ZYAN_FALSE);
	ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_TZCNT, set_is_offered(ZYDIS_ISA_SET_BMI1));
	ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_LZCNT, set_is_offered(ZYDIS_ISA_SET_LZCNT));
}

/* SPDX-License-Identifier: MIT */
/*
 * Vector instructions beyond SSE3 run as themselves (stub/stub.h). So the CPU has those of the host, if it may make
 * code. The larger ones also need that the host's kernel has enabled their registers.
 */
#include <stddef.h>

#include "cpu/base/private.h"
#include "cpu/system/host.h"
#include "cpu/system/vector_features.h"

#define BIT(n) (1u << (n))

#define LEAF1_ECX_OSXSAVE   BIT(27)
#define LEAF1_ECX_AVX       BIT(28)
#define LEAF7_EBX_AVX512F   BIT(16)
#define LEAF7_EBX_AVX512BW  BIT(30)
#define LEAF7_EBX_AVX512VL  BIT(31)

#define XCR0_AVX    0x06u
#define XCR0_AVX512 0xe6u

/* Registers of 16, 32 and 64 bytes. */
enum registers { XMM, YMM, ZMM, REGISTERS };

static const struct {
	uint32_t leaf, subleaf;
	unsigned word; /* EAX EBX ECX EDX */
	uint32_t bits[REGISTERS];
} rows[] = {
	{ 1, 0, 2, {
		[XMM] = BIT(1) | BIT(9) | BIT(19) | BIT(20) | BIT(25), /* PCLMULQDQ SSSE3 SSE4.1 SSE4.2 AES */
		[YMM] = BIT(12) | LEAF1_ECX_AVX | BIT(29),             /* FMA AVX F16C */
	} },
	{ 7, 0, 1, {
		[XMM] = BIT(29), /* SHA */
		[YMM] = BIT(5),  /* AVX2 */
		/* AVX512 F DQ IFMA CD BW VL */
		[ZMM] = LEAF7_EBX_AVX512F | BIT(17) | BIT(21) | BIT(28) | LEAF7_EBX_AVX512BW | LEAF7_EBX_AVX512VL,
	} },
	{ 7, 0, 2, {
		[XMM] = BIT(8),           /* GFNI */
		[YMM] = BIT(9) | BIT(10), /* VAES VPCLMULQDQ */
		/* AVX512 VBMI VBMI2 VNNI BITALG VPOPCNTDQ */
		[ZMM] = BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14),
	} },
	{ 7, 1, 0, {
		[YMM] = BIT(4), /* AVX_VNNI */
		[ZMM] = BIT(5), /* AVX512 BF16 */
	} },
	{ 0x80000001, 0, 2, { [XMM] = BIT(6) } }, /* SSE4A */
};

/* What the host's kernel has enabled. */
static uint32_t host_xcr0(void)
{
	uint32_t one[4], low = 0;

	host_cpuid(1, 0, one);
#if defined(__x86_64__)
	uint32_t high;

	if (one[2] & LEAF1_ECX_OSXSAVE)
		__asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
#endif
	return low;
}

/* The largest registers that instructions may have. AVX-512 without BW or VL is not supported: stubs need both. */
static enum registers registers(void)
{
	const uint32_t least = LEAF7_EBX_AVX512F | LEAF7_EBX_AVX512BW | LEAF7_EBX_AVX512VL;
	uint32_t xcr0 = host_xcr0(), one[4], seven[4];

	host_cpuid(1, 0, one);
	host_cpuid(7, 0, seven);
	if ((xcr0 & XCR0_AVX) != XCR0_AVX || !(one[2] & LEAF1_ECX_AVX))
		return XMM;
	return (xcr0 & XCR0_AVX512) == XCR0_AVX512 && (seven[1] & least) == least ? ZMM : YMM;
}

/* The bits of a row. */
static uint32_t row_bits(size_t i)
{
	unsigned most = registers();
	uint32_t host[4], bits = 0;

	for (unsigned size = 0; size <= most; size++)
		bits |= rows[i].bits[size];
	host_cpuid(rows[i].leaf, rows[i].subleaf, host);
	return host[rows[i].word] & bits;
}

void vector_features(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	if (!code_is_allowed())
		return;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].leaf != leaf)
			continue;
		if (rows[i].subleaf == subleaf)
			out[rows[i].word] |= row_bits(i);
		else if (subleaf == 0 && out[0] < rows[i].subleaf && row_bits(i) != 0)
			out[0] = rows[i].subleaf; /* the last subleaf */
	}
}

/* SPDX-License-Identifier: MIT */
/* Instructions that run as the host's own: CRC32, RDRAND, RDSEED. CPUID offers them where the host has them. */
#include "cpu/insn/insn.h"

#if defined(__x86_64__)

INLINE uint64_t host_crc32(uint64_t crc, uint64_t v, unsigned size)
{
	uint32_t low = (uint32_t)crc;

	switch (size) {
	case 1: __asm__("crc32b %b1, %0" : "+r"(low) : "q"(v)); return low;
	case 2: __asm__("crc32w %w1, %0" : "+r"(low) : "r"(v)); return low;
	case 4: __asm__("crc32l %k1, %0" : "+r"(low) : "r"(v)); return low;
	default: __asm__("crc32q %1, %0" : "+r"(crc) : "r"(v)); return crc;
	}
}

/* The upper half of the destination is clear, whatever its size. */
#define CRC32(size)                                                                                           \
	static void crc32_##size##_r(struct cpu *cpu, const struct op *op)                                    \
	{                                                                                                     \
		uint64_t v = operand_read(cpu, op, 1, size);                                                  \
                                                                                                              \
		reg_write(cpu, op->reg[0], 8, host_crc32(operand_read(cpu, op, 0, 8), v, size));              \
	}                                                                                                     \
	static void crc32_##size##_m(struct cpu *cpu, const struct op *op)                                    \
	{                                                                                                     \
		uint64_t v = operand_load(cpu, op, size);                                                     \
                                                                                                              \
		reg_write(cpu, op->reg[0], 8, host_crc32(operand_read(cpu, op, 0, 8), v, size));              \
	}
CRC32(1)
CRC32(2)
CRC32(4)
CRC32(8)
static op_fn *const crc32_forms[2][4] = { BY_SIZE(crc32_, _r), BY_SIZE(crc32_, _m) };

/* When the host's generator has no number now, the guest sees that: CF clear and 0. */
INLINE void random_number(struct cpu *cpu, const struct op *op, unsigned size, bool seed)
{
	uint64_t v;
	bool there;

	if (seed)
		__asm__ volatile("rdseed %0" : "=r"(v), "=@ccc"(there));
	else
		__asm__ volatile("rdrand %0" : "=r"(v), "=@ccc"(there));
	reg_write(cpu, op->reg[0], size, v);
	flags_set(cpu, there ? RFLAGS_CF : 0);
}

#define RANDOM(size)                                                                                          \
	static void rdrand##size(struct cpu *cpu, const struct op *op) { random_number(cpu, op, size, false); } \
	static void rdseed##size(struct cpu *cpu, const struct op *op) { random_number(cpu, op, size, true); }
RANDOM(2)
RANDOM(4)
RANDOM(8)
static op_fn *const rdrand_forms[4] = BY_SIZE_WIDE(rdrand, );
static op_fn *const rdseed_forms[4] = BY_SIZE_WIDE(rdseed, );

op_fn *borrow_select(const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_CRC32: return crc32_forms[op->mem == 1][size_index(op->size2)];
	case ZYDIS_MNEMONIC_RDRAND: return rdrand_forms[size_index(op->size)];
	case ZYDIS_MNEMONIC_RDSEED: return rdseed_forms[size_index(op->size)];
	default: return NULL;
	}
}

#else

op_fn *borrow_select(const struct insn *insn, struct op *op)
{
	(void)insn;
	(void)op;
	return NULL;
}

#endif

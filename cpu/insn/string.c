/* SPDX-License-Identifier: MIT */
/*
 * MOVS STOS LODS CMPS SCAS with every prefix and address size.
 *
 * Registers are committed after each element, or after each run of elements that lies in one page of each operand. So a
 * fault, an interrupt or a kick in the middle leaves a state from which the same instruction goes on.
 */
#include "cpu/insn/insn.h"

enum string { STRING_MOVS, STRING_STOS, STRING_LODS, STRING_CMPS, STRING_SCAS };
enum repeat { REPEAT_NONE, REPEAT, REPEAT_EQUAL, REPEAT_UNEQUAL };

/* A register as an address register of `asize` bytes. A write of 32 bits clears the rest; one of 16 bits keeps it. */
INLINE uint64_t index_read(const struct cpu *cpu, unsigned reg, unsigned asize)
{
	return reg_read(cpu, OPR(reg), asize);
}

INLINE void index_add(struct cpu *cpu, unsigned reg, unsigned asize, uint64_t by)
{
	reg_write(cpu, OPR(reg), asize, cpu->s.gpr[reg] + by);
}

INLINE uint64_t source_linear(struct cpu *cpu, const struct op *op, unsigned asize, unsigned size)
{
	return seg_linear(cpu, op->seg, index_read(cpu, CPU_RSI, asize), size, false);
}

INLINE uint64_t target_linear(struct cpu *cpu, unsigned asize, unsigned size, bool write)
{
	return seg_linear(cpu, CPU_ES, index_read(cpu, CPU_RDI, asize), size, write);
}

/* Do one element and commit it. */
INLINE void element(struct cpu *cpu, const struct op *op, enum string k, unsigned size, unsigned asize)
{
	uint64_t step = cpu->s.rflags & RFLAGS_DF ? 0 - (uint64_t)size : size, a, b;

	switch (k) {
	case STRING_MOVS:
		a = mem_read(cpu, source_linear(cpu, op, asize, size), size);
		mem_write(cpu, target_linear(cpu, asize, size, true), size, a);
		break;
	case STRING_STOS:
		mem_write(cpu, target_linear(cpu, asize, size, true), size, reg_read(cpu, OPR(CPU_RAX), size));
		break;
	case STRING_LODS:
		reg_write(cpu, OPR(CPU_RAX), size, mem_read(cpu, source_linear(cpu, op, asize, size), size));
		break;
	case STRING_CMPS:
		a = mem_read(cpu, source_linear(cpu, op, asize, size), size);
		b = mem_read(cpu, target_linear(cpu, asize, size, false), size);
		flags_sub(cpu, a, b, a - b, size);
		break;
	default:
		a = reg_read(cpu, OPR(CPU_RAX), size);
		b = mem_read(cpu, target_linear(cpu, asize, size, false), size);
		flags_sub(cpu, a, b, a - b, size);
		break;
	}
	if (k == STRING_MOVS || k == STRING_LODS || k == STRING_CMPS)
		index_add(cpu, CPU_RSI, asize, step);
	if (k != STRING_LODS)
		index_add(cpu, CPU_RDI, asize, step);
}

/* Guest memory may change during the copy, and the source may overlap the target: copy element by element, in order. */
GUEST_RACY_INLINE void copy_elements(uint8_t *to, const uint8_t *from, uint64_t count, unsigned size)
{
	if (to + count * size <= from || from + count * size <= to) {
		memcpy(to, from, count * size);
		return;
	}
	for (; count > 0; count--, to += size, from += size)
		host_store(to, size, host_load(from, size));
}

GUEST_RACY_INLINE void fill_elements(uint8_t *to, uint64_t value, uint64_t count, unsigned size)
{
	if (size == 1 || value == 0) {
		memset(to, (int)(value & 0xff), count * size);
		return;
	}
	for (; count > 0; count--, to += size)
		host_store(to, size, value);
}

/* How many elements fit between this offset and the end of the address size, so that no run wraps. */
INLINE uint64_t before_wrap(uint64_t offset, unsigned asize, unsigned size)
{
	return asize == 8 ? ~UINT64_C(0) : (size_mask(asize) - offset + 1) / size;
}

INLINE uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/*
 * A run of MOVS or STOS upwards: as many elements as lie in one page of the source and one page of the target.
 * Returns: how many were done; 0 when the next element must be done alone.
 */
INLINE uint64_t run(struct cpu *cpu, const struct op *op, enum string k, unsigned size, unsigned asize, uint64_t count)
{
	uint64_t si = index_read(cpu, CPU_RSI, asize), di = index_read(cpu, CPU_RDI, asize), n = count;
	const uint8_t *from = NULL;
	unsigned bytes;
	uint8_t *to;

	if (count < 4 || !(cpu->seg_fast >> CPU_ES & 1))
		return 0;
	if (k == STRING_MOVS) {
		if (!(cpu->seg_fast >> op->seg & 1))
			return 0;
		n = least(n, before_wrap(si, asize, size));
		from = mem_span(cpu, seg_linear(cpu, op->seg, si, size, false), false, &bytes);
		if (from == NULL)
			return 0;
		n = least(n, bytes / size);
		if (n == 0)
			return 0;
	}
	n = least(n, before_wrap(di, asize, size));
	to = mem_span(cpu, seg_linear(cpu, CPU_ES, di, size, true), true, &bytes);
	if (to == NULL)
		return 0;
	n = least(n, bytes / size);
	if (n == 0)
		return 0;
	if (k == STRING_MOVS) {
		copy_elements(to, from, n, size);
		index_add(cpu, CPU_RSI, asize, n * size);
	} else {
		fill_elements(to, reg_read(cpu, OPR(CPU_RAX), size), n, size);
	}
	index_add(cpu, CPU_RDI, asize, n * size);
	return n;
}

INLINE void string(struct cpu *cpu, const struct op *op, enum string k, unsigned size, enum repeat repeat,
		   unsigned asize)
{
	uint64_t done;

	if (repeat == REPEAT_NONE) {
		element(cpu, op, k, size, asize);
		return;
	}
	for (;;) {
		uint64_t count = index_read(cpu, CPU_RCX, asize);

		if (count == 0)
			return;
		done = 0;
		if ((k == STRING_MOVS || k == STRING_STOS) && !(cpu->s.rflags & RFLAGS_DF))
			done = run(cpu, op, k, size, asize, count);
		if (done == 0) {
			element(cpu, op, k, size, asize);
			done = 1;
		}
		index_add(cpu, CPU_RCX, asize, 0 - done);
		if (done == count)
			return;
		if (repeat == REPEAT_EQUAL && !flag_zf(cpu))
			return;
		if (repeat == REPEAT_UNEQUAL && flag_zf(cpu))
			return;
		if (rep_must_stop(cpu))
			rep_restart(cpu);
	}
}

/* Chooses the address size at run time, outside the loops. */
INLINE void string_any(struct cpu *cpu, const struct op *op, enum string k, unsigned size, enum repeat repeat)
{
	if (likely(op->asize == 8))
		string(cpu, op, k, size, repeat, 8);
	else if (op->asize == 4)
		string(cpu, op, k, size, repeat, 4);
	else
		string(cpu, op, k, size, repeat, 2);
}

#define STRING_SIZE(name, k, size)                                                                            \
	static void name##size##_once(struct cpu *cpu, const struct op *op)                                   \
	{                                                                                                     \
		string_any(cpu, op, k, size, REPEAT_NONE);                                                    \
	}                                                                                                     \
	static void name##size##_f3(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		string_any(cpu, op, k, size, k >= STRING_CMPS ? REPEAT_EQUAL : REPEAT);                       \
	}                                                                                                     \
	static void name##size##_f2(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		string_any(cpu, op, k, size, k >= STRING_CMPS ? REPEAT_UNEQUAL : REPEAT);                     \
	}
#define STRING_ALL(name, k)                                                                                   \
	STRING_SIZE(name, k, 1)                                                                               \
	STRING_SIZE(name, k, 2)                                                                               \
	STRING_SIZE(name, k, 4)                                                                               \
	STRING_SIZE(name, k, 8)                                                                               \
	static op_fn *const name##_forms[3][4] = { BY_SIZE(name, _once), BY_SIZE(name, _f3), BY_SIZE(name, _f2) };
STRING_ALL(movs, STRING_MOVS)
STRING_ALL(stos, STRING_STOS)
STRING_ALL(lods, STRING_LODS)
STRING_ALL(cmps, STRING_CMPS)
STRING_ALL(scas, STRING_SCAS)

op_fn *string_select(const struct insn *insn, struct op *op)
{
	unsigned prefix = op->flags & OPF_REP ? 1 : op->flags & OPF_REPNE ? 2 : 0;

	/* MOVSD and CMPSD also name SSE instructions. */
	if (insn->z->meta.category != ZYDIS_CATEGORY_STRINGOP)
		return NULL;
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_MOVSB: return movs_forms[prefix][0];
	case ZYDIS_MNEMONIC_MOVSW: return movs_forms[prefix][1];
	case ZYDIS_MNEMONIC_MOVSD: return movs_forms[prefix][2];
	case ZYDIS_MNEMONIC_MOVSQ: return movs_forms[prefix][3];
	case ZYDIS_MNEMONIC_STOSB: return stos_forms[prefix][0];
	case ZYDIS_MNEMONIC_STOSW: return stos_forms[prefix][1];
	case ZYDIS_MNEMONIC_STOSD: return stos_forms[prefix][2];
	case ZYDIS_MNEMONIC_STOSQ: return stos_forms[prefix][3];
	case ZYDIS_MNEMONIC_LODSB: return lods_forms[prefix][0];
	case ZYDIS_MNEMONIC_LODSW: return lods_forms[prefix][1];
	case ZYDIS_MNEMONIC_LODSD: return lods_forms[prefix][2];
	case ZYDIS_MNEMONIC_LODSQ: return lods_forms[prefix][3];
	case ZYDIS_MNEMONIC_CMPSB: return cmps_forms[prefix][0];
	case ZYDIS_MNEMONIC_CMPSW: return cmps_forms[prefix][1];
	case ZYDIS_MNEMONIC_CMPSD: return cmps_forms[prefix][2];
	case ZYDIS_MNEMONIC_CMPSQ: return cmps_forms[prefix][3];
	case ZYDIS_MNEMONIC_SCASB: return scas_forms[prefix][0];
	case ZYDIS_MNEMONIC_SCASW: return scas_forms[prefix][1];
	case ZYDIS_MNEMONIC_SCASD: return scas_forms[prefix][2];
	case ZYDIS_MNEMONIC_SCASQ: return scas_forms[prefix][3];
	default: return NULL;
	}
}

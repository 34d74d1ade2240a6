/* SPDX-License-Identifier: MIT */
/* XCHG XADD CMPXCHG CMPXCHG8B CMPXCHG16B. On memory they are atomic with LOCK, and XCHG always is. */
#include "cpu/insn/insn.h"

INLINE void xchg_reg(struct cpu *cpu, const struct op *op, unsigned size)
{
	uint64_t a = operand_read(cpu, op, 0, size), b = operand_read(cpu, op, 1, size);

	reg_write(cpu, op->reg[0], size, b);
	reg_write(cpu, op->reg[1], size, a);
}

INLINE void xchg_mem(struct cpu *cpu, const struct op *op, unsigned size)
{
	unsigned reg = op->reg[op->mem ^ 1];
	struct mem_rmw m;
	uint64_t old;

	mem_lock_begin(cpu, op_linear(cpu, op, size, true), size, &m);
	old = atomic_exchange_sized(m.host, size, reg_read(cpu, reg, size));
	mem_lock_end(cpu, &m);
	reg_write(cpu, reg, size, old);
}

INLINE void xadd_reg(struct cpu *cpu, const struct op *op, unsigned size)
{
	uint64_t a = operand_read(cpu, op, 0, size), b = operand_read(cpu, op, 1, size);

	flags_add(cpu, a, b, a + b, size);
	reg_write(cpu, op->reg[1], size, a);
	reg_write(cpu, op->reg[0], size, a + b);
}

INLINE void xadd_mem(struct cpu *cpu, const struct op *op, unsigned size, bool lock)
{
	uint64_t a, b = operand_read(cpu, op, 1, size), linear = op_linear(cpu, op, size, true);
	struct mem_rmw m;

	if (lock) {
		mem_lock_begin(cpu, linear, size, &m);
		a = atomic_add_sized(m.host, size, b);
		mem_lock_end(cpu, &m);
	} else {
		mem_rmw_begin(cpu, linear, size, &m);
		a = host_load(m.host, size);
		host_store(m.host, size, a + b);
		mem_rmw_end(cpu, &m);
	}
	flags_add(cpu, a, b, a + b, size);
	reg_write(cpu, op->reg[1], size, a);
}

INLINE void cmpxchg_reg(struct cpu *cpu, const struct op *op, unsigned size)
{
	uint64_t acc = reg_read(cpu, OPR(CPU_RAX), size), a = operand_read(cpu, op, 0, size);

	flags_sub(cpu, acc, a, acc - a, size);
	if (acc == a)
		reg_write(cpu, op->reg[0], size, operand_read(cpu, op, 1, size));
	else
		reg_write(cpu, OPR(CPU_RAX), size, a);
}

/* Memory is written in any case. When the comparison fails, its old value is written. */
INLINE void cmpxchg_mem(struct cpu *cpu, const struct op *op, unsigned size, bool lock)
{
	uint64_t acc = reg_read(cpu, OPR(CPU_RAX), size), b = operand_read(cpu, op, 1, size), a;
	uint64_t linear = op_linear(cpu, op, size, true);
	struct mem_rmw m;

	if (lock) {
		mem_lock_begin(cpu, linear, size, &m);
		a = atomic_cas_sized(m.host, size, acc, b);
		mem_lock_end(cpu, &m);
	} else {
		mem_rmw_begin(cpu, linear, size, &m);
		a = host_load(m.host, size);
		host_store(m.host, size, acc == a ? b : a);
		mem_rmw_end(cpu, &m);
	}
	flags_sub(cpu, acc, a, acc - a, size);
	if (acc != a)
		reg_write(cpu, OPR(CPU_RAX), size, a);
}

#define EXCHANGE(size)                                                                                        \
	static void xchg##size##_r(struct cpu *cpu, const struct op *op) { xchg_reg(cpu, op, size); }         \
	static void xchg##size##_m(struct cpu *cpu, const struct op *op) { xchg_mem(cpu, op, size); }         \
	static void xadd##size##_r(struct cpu *cpu, const struct op *op) { xadd_reg(cpu, op, size); }         \
	static void xadd##size##_m(struct cpu *cpu, const struct op *op) { xadd_mem(cpu, op, size, false); }  \
	static void xadd##size##_l(struct cpu *cpu, const struct op *op) { xadd_mem(cpu, op, size, true); }   \
	static void cmpxchg##size##_r(struct cpu *cpu, const struct op *op) { cmpxchg_reg(cpu, op, size); }   \
	static void cmpxchg##size##_m(struct cpu *cpu, const struct op *op)                                   \
	{                                                                                                     \
		cmpxchg_mem(cpu, op, size, false);                                                            \
	}                                                                                                     \
	static void cmpxchg##size##_l(struct cpu *cpu, const struct op *op) { cmpxchg_mem(cpu, op, size, true); }
EXCHANGE(1)
EXCHANGE(2)
EXCHANGE(4)
EXCHANGE(8)

static op_fn *const xchg_forms[3][4] = { BY_SIZE(xchg, _r), BY_SIZE(xchg, _m), BY_SIZE(xchg, _m) };
static op_fn *const xadd_forms[3][4] = { BY_SIZE(xadd, _r), BY_SIZE(xadd, _m), BY_SIZE(xadd, _l) };
static op_fn *const cmpxchg_forms[3][4] = { BY_SIZE(cmpxchg, _r), BY_SIZE(cmpxchg, _m), BY_SIZE(cmpxchg, _l) };

/* ---- double width: always done as one atomic access, LOCK or not --------------------------------------------- */

static void cmpxchg8b(struct cpu *cpu, const struct op *op)
{
	uint64_t expect = (uint32_t)cpu->s.gpr[CPU_RAX] | cpu->s.gpr[CPU_RDX] << 32;
	uint64_t with = (uint32_t)cpu->s.gpr[CPU_RBX] | cpu->s.gpr[CPU_RCX] << 32, seen;
	struct mem_rmw m;

	mem_lock_begin(cpu, op_linear(cpu, op, 8, true), 8, &m);
	seen = atomic_cas_sized(m.host, 8, expect, with);
	mem_lock_end(cpu, &m);
	flags_update(cpu, RFLAGS_ZF, seen == expect ? RFLAGS_ZF : 0);
	if (seen != expect) {
		reg_write(cpu, OPR(CPU_RAX), 4, seen);
		reg_write(cpu, OPR(CPU_RDX), 4, seen >> 32);
	}
}

/*
 * Written in assembly, since gcc and clang emit this instruction for C code only with flags for the whole file.
 * Returns: true when it exchanged; both words of `expect` stay as they are then.
 */
static bool cas16(void *at, uint64_t expect[2], uint64_t low, uint64_t high)
{
	bool equal;

	__asm__ volatile("lock cmpxchg16b %[at]"
			 : "=@ccz"(equal), [at] "+m"(*(char(*)[16])at), "+a"(expect[0]), "+d"(expect[1])
			 : "b"(low), "c"(high)
			 : "memory");
	return equal;
}

static void cmpxchg16b(struct cpu *cpu, const struct op *op)
{
	uint64_t *gpr = cpu->s.gpr, linear = op_linear(cpu, op, 16, true);
	uint64_t expect[2] = { gpr[CPU_RAX], gpr[CPU_RDX] };
	struct mem_rmw m;
	bool equal;

	if (linear & 15)
		cpu_gp(cpu);
	mem_lock_begin(cpu, linear, 16, &m);
	equal = cas16(m.host, expect, gpr[CPU_RBX], gpr[CPU_RCX]);
	mem_lock_end(cpu, &m);
	flags_update(cpu, RFLAGS_ZF, equal ? RFLAGS_ZF : 0);
	gpr[CPU_RAX] = expect[0];
	gpr[CPU_RDX] = expect[1];
}

op_fn *exchange_select(const struct insn *insn, struct op *op)
{
	unsigned n = size_index(op->size), form = op->mem == OP_NO_MEM ? 0 : op->flags & OPF_LOCK ? 2 : 1;

	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_XCHG: return xchg_forms[form][n];
	case ZYDIS_MNEMONIC_XADD: return xadd_forms[form][n];
	case ZYDIS_MNEMONIC_CMPXCHG: return cmpxchg_forms[form][n];
	case ZYDIS_MNEMONIC_CMPXCHG8B: return cmpxchg8b;
	case ZYDIS_MNEMONIC_CMPXCHG16B: return cmpxchg16b;
	default: return NULL;
	}
}

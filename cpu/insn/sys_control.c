/* SPDX-License-Identifier: MIT */
/* Control and debug registers. */
#include "cpu/insn/sys_int.h"
#include "cpu/system/control.h"
#include "cpu/system/debug.h"
#include "cpu/system/shadow_regs.h"

static bool cr_write(struct cpu *cpu, unsigned n, uint64_t value)
{
	switch (n) {
	case 0: return cr0_write(cpu, value);
	case 2: cpu->s.cr2 = value; return true;
	case 3: return cr3_write(cpu, value);
	case 4: return cr4_write(cpu, value);
	case 8:
		if (value & ~UINT64_C(15))
			return false;
		cpu->s.cr8 = value;
		cpu->p->cr8_written = true;
		return true;
	default: cpu_ud(cpu);
	}
}

static void op_mov_to_cr(struct cpu *cpu, const struct op *op)
{
	uint64_t value = cpu_is_64(cpu) ? reg_read(cpu, op->reg[1], 8) : reg_read(cpu, op->reg[1], 4);

	need_supervisor(cpu);
	cpu_shadow_cr(cpu, op->reg[0], value);
	if (!cr_write(cpu, op->reg[0], value))
		cpu_gp(cpu);
	done(cpu, op);
	if (cpu->p->cr8_written)
		cpu_leave(cpu, LEAVE_DONE);
}

static void op_mov_from_cr(struct cpu *cpu, const struct op *op)
{
	uint64_t value = 0;

	need_supervisor(cpu);
	switch (op->reg[1]) {
	case 0: value = cpu->s.cr0; break;
	case 2: value = cpu->s.cr2; break;
	case 3: value = cpu->s.cr3; break;
	case 4: value = cpu->s.cr4; break;
	case 8: value = cpu->s.cr8; break;
	default: cpu_ud(cpu);
	}
	reg_write(cpu, op->reg[0], 8, cpu_is_64(cpu) ? value : (uint32_t)value);
}

/* Which of DR0-DR7 an encoded number names. DR4 and DR5 are aliases of DR6 and DR7 unless CR4.DE. */
static unsigned dr_number(struct cpu *cpu, unsigned n)
{
	if (n > 7 || ((n == 4 || n == 5) && (cpu->s.cr4 & CR4_DE)))
		cpu_ud(cpu);
	need_supervisor(cpu);
	debug_register_access(cpu);
	if (cpu->s.dr[7] & 0x2000) {
		cpu->s.events.exception.has_payload = true;
		cpu->s.events.exception.payload = 0x2000; /* BD */
		cpu_raise(cpu, VECTOR_DB);
	}
	return n == 4 ? 6 : n == 5 ? 7 : n;
}

static void op_mov_to_dr(struct cpu *cpu, const struct op *op)
{
	unsigned n = dr_number(cpu, op->reg[0]);
	uint64_t value = reg_read(cpu, op->reg[1], 8);

	if (!cpu_is_64(cpu))
		value = (uint32_t)value;
	if (n >= 6 && value >> 32)
		cpu_gp(cpu);
	if (n == 6)
		value = (value & 0xe00f) | 0xffff0ff0;
	if (n == 7)
		value = (value & 0xffff2bff) | 0x400;
	cpu->s.dr[n] = value;
	done_look(cpu, op);
}

static void op_mov_from_dr(struct cpu *cpu, const struct op *op)
{
	unsigned n = dr_number(cpu, op->reg[1]);

	reg_write(cpu, op->reg[0], 8, cpu_is_64(cpu) ? cpu->s.dr[n] : (uint32_t)cpu->s.dr[n]);
}

static void op_clts(struct cpu *cpu, const struct op *op)
{
	(void)op;
	need_supervisor(cpu);
	cpu->s.cr0 &= ~CR0_TS;
}

static void op_lmsw(struct cpu *cpu, const struct op *op)
{
	uint64_t value;

	need_supervisor(cpu);
	value = operand16(cpu, op, 0) & 15;
	/* LMSW can set PE and cannot clear it. */
	if (!cr0_write(cpu, (cpu->s.cr0 & ~UINT64_C(14)) | value))
		cpu_gp(cpu);
	done(cpu, op);
}

static void op_smsw(struct cpu *cpu, const struct op *op)
{
	need_umip(cpu);
	if (op->mem == 0 || op->size == 2)
		store16(cpu, op, cpu->s.cr0);
	else
		reg_write(cpu, op->reg[0], op->size == 4 ? 4 : 8, cpu->s.cr0);
}

static op_fn *select_mov(const struct insn *insn, struct op *op)
{
	if (operand_is(insn, 0, ZYDIS_REGCLASS_CONTROL))
		return ends(op, op_mov_to_cr);
	if (operand_is(insn, 1, ZYDIS_REGCLASS_CONTROL))
		return op_mov_from_cr;
	if (operand_is(insn, 0, ZYDIS_REGCLASS_DEBUG))
		return ends(op, op_mov_to_dr);
	if (operand_is(insn, 1, ZYDIS_REGCLASS_DEBUG))
		return op_mov_from_dr;
	return NULL;
}

op_fn *sys_control_select(const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_MOV: return select_mov(insn, op);
	case ZYDIS_MNEMONIC_CLTS: return op_clts;
	case ZYDIS_MNEMONIC_LMSW: return ends(op, op_lmsw);
	case ZYDIS_MNEMONIC_SMSW: return op_smsw;
	default: return NULL;
	}
}

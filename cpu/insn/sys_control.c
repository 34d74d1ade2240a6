/* SPDX-License-Identifier: MIT */
/* Control and debug registers. */
#include "cpu/insn/sys_int.h"
#include "cpu/system/control.h"
#include "cpu/system/debug.h"
#include "cpu/system/intercept.h"
#include "cpu/system/shadow_regs.h"
#include "cpu/system/svm.h"

/* What EXITINFO1 says of a MOV to or from a control register (APM vol. 2, 15.8.1). */
static uint64_t mov_cr_info(unsigned opr)
{
	return UINT64_C(1) << 63 | opr_number(opr);
}

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
		if (cpu->s.svm.guest)
			svm_tpr_write(cpu, value);
		if (svm_has_tpr(cpu))
			return true;
		cpu->s.cr8 = value;
		cpu->p->cr8_written = true;
		return true;
	default: cpu_ud(cpu);
	}
}

static bool cr_exists(unsigned n)
{
	return n == 0 || (n >= 2 && n <= 4) || n == 8;
}

/* Is a bit of CR0 changed that the selective intercept guards? */
static bool cr0_guarded(const struct cpu *cpu, uint64_t value)
{
	return ((value | CR0_ET) ^ cpu->s.cr0) & ~(CR0_TS | CR0_MP);
}

/* Exceptions for the value come before the intercept, and CR0's general intercept before the selective one. */
static void cr_write_intercept(struct cpu *cpu, const struct op *op, unsigned n, uint64_t value)
{
	bool general = svm_intercepts(cpu, SVM_EXIT_WRITE_CR0 + n);

	if (likely(!general) &&
	    likely(n != 0 || !svm_intercepts(cpu, SVM_EXIT_CR0_SELECTIVE) || !cr0_guarded(cpu, value)))
		return;
	if (!cr_exists(n))
		cpu_ud(cpu);
	if (!cr_legal(cpu, n, value))
		cpu_gp(cpu);
	svm_exit(cpu, general ? SVM_EXIT_WRITE_CR0 + n : SVM_EXIT_CR0_SELECTIVE, mov_cr_info(op->reg[1]), 0);
}

static void op_mov_to_cr(struct cpu *cpu, const struct op *op)
{
	uint64_t value = cpu_is_64(cpu) ? reg_read(cpu, op->reg[1], 8) : reg_read(cpu, op->reg[1], 4);

	need_supervisor(cpu);
	cr_write_intercept(cpu, op, op->reg[0], value);
	cpu_shadow_cr(cpu, op->reg[0], value);
	if (!cr_write(cpu, op->reg[0], value))
		cpu_gp(cpu);
	done(cpu, op);
	intercept_cr_written(cpu, op->reg[0]);
	if (cpu->p->cr8_written || (cpu->s.svm.guest && cpu_needs_look(cpu)))
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
	case 8: value = svm_has_tpr(cpu) ? svm_tpr_read(cpu) : cpu->s.cr8; break;
	default: cpu_ud(cpu);
	}
	if (svm_intercepts(cpu, SVM_EXIT_READ_CR0 + op->reg[1]))
		svm_exit(cpu, SVM_EXIT_READ_CR0 + op->reg[1], mov_cr_info(op->reg[0]), 0);
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
	if (svm_intercepts(cpu, SVM_EXIT_WRITE_DR0 + op->reg[0]))
		svm_exit(cpu, SVM_EXIT_WRITE_DR0 + op->reg[0], opr_number(op->reg[1]), 0);
	if (n == 6)
		value = (value & 0xe00f) | 0xffff0ff0;
	if (n == 7)
		value = (value & 0xffff2bff) | 0x400;
	cpu->s.dr[n] = value;
	debug_arm(cpu);
	done_look(cpu, op);
}

static void op_mov_from_dr(struct cpu *cpu, const struct op *op)
{
	unsigned n = dr_number(cpu, op->reg[1]);

	if (svm_intercepts(cpu, SVM_EXIT_READ_DR0 + op->reg[1]))
		svm_exit(cpu, SVM_EXIT_READ_DR0 + op->reg[1], opr_number(op->reg[0]), 0);
	reg_write(cpu, op->reg[0], 8, cpu_is_64(cpu) ? cpu->s.dr[n] : (uint32_t)cpu->s.dr[n]);
}

static void op_clts(struct cpu *cpu, const struct op *op)
{
	need_supervisor(cpu);
	svm_check(cpu, SVM_EXIT_WRITE_CR0);
	cpu->s.cr0 &= ~CR0_TS;
	if (svm_intercepts(cpu, SVM_EXIT_CR0_WRITTEN)) {
		done(cpu, op);
		intercept_cr_written(cpu, 0);
	}
}

static void op_lmsw(struct cpu *cpu, const struct op *op)
{
	uint64_t value;

	need_supervisor(cpu);
	svm_check(cpu, SVM_EXIT_WRITE_CR0);
	svm_check(cpu, SVM_EXIT_CR0_SELECTIVE); /* whatever LMSW would write */
	value = operand16(cpu, op, 0) & 15;
	/* LMSW can set PE and cannot clear it. */
	if (!cr0_write(cpu, (cpu->s.cr0 & ~UINT64_C(14)) | value))
		cpu_gp(cpu);
	done(cpu, op);
	intercept_cr_written(cpu, 0);
}

static void op_smsw(struct cpu *cpu, const struct op *op)
{
	need_umip(cpu);
	svm_check(cpu, SVM_EXIT_READ_CR0);
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

/* SPDX-License-Identifier: MIT */
/*
 * Control transfers in their general form: every width, every mode. The fast ones of 64-bit mode are in run/execute.c.
 */
#include "cpu/base/flags.h"
#include "cpu/insn/sys_int.h"
#include "cpu/system/control.h"
#include "cpu/system/event.h"
#include "cpu/system/far.h"
#include "cpu/system/seg.h"
#include "cpu/system/vme.h"

/* As rip_behind. 16-bit code wraps at 64 KiB where its segment ends there; handlers of SMM have segments of 4 GiB. */
static uint64_t rip_behind_wrapped(const struct cpu *cpu, const struct op *op)
{
	uint64_t rip = rip_behind(cpu, op);

	return (cpu->mode & MODE_BITS) == MODE_BITS_16 && cpu->s.seg[CPU_CS].limit <= 0xffff ? rip & 0xffff : rip;
}

static uint64_t wrap(const struct op *op, uint64_t rip)
{
	return op->osize == 2 ? (uint16_t)rip : op->osize == 4 ? (uint32_t)rip : rip;
}

/* #GP for a target outside the code segment. Called before anything is committed. */
static void check_target(struct cpu *cpu, uint64_t rip)
{
	if (cpu_is_64(cpu) ? !canonical(cpu, rip) : rip > cpu->s.seg[CPU_CS].limit)
		cpu_gp(cpu);
}

static void jump_to(struct cpu *cpu, uint64_t rip)
{
	check_target(cpu, rip);
	cpu->s.rip = rip;
}

/* IF, TF or the stack segment may have changed: leave if an interrupt or a step waits for that. */
static void look(struct cpu *cpu)
{
	if (unlikely(cpu_needs_look(cpu)))
		cpu_leave(cpu, LEAVE_DONE);
}

static uint64_t operand(struct cpu *cpu, const struct op *op, unsigned size)
{
	if (op->mem == 0)
		return mem_read(cpu, op_linear(cpu, op, size, false), size);
	return reg_read(cpu, op->reg[0], size);
}

static uint64_t operand_sized(struct cpu *cpu, const struct op *op)
{
	return op->osize == 2 ? operand(cpu, op, 2) : op->osize == 4 ? operand(cpu, op, 4) : operand(cpu, op, 8);
}

/* ---- near ---------------------------------------------------------------------------------------------- */

static void op_jcc(struct cpu *cpu, const struct op *op)
{
	if (flags_cond(cpu, op->sub))
		jump_to(cpu, (uint64_t)op->imm);
	else
		cpu->s.rip = rip_behind_wrapped(cpu, op);
}

static uint64_t count_mask(const struct op *op)
{
	return op->asize == 2 ? 0xffff : op->asize == 4 ? 0xffffffff : ~UINT64_C(0);
}

static void op_jcxz(struct cpu *cpu, const struct op *op)
{
	if ((cpu->s.gpr[CPU_RCX] & count_mask(op)) == 0)
		jump_to(cpu, (uint64_t)op->imm);
	else
		cpu->s.rip = rip_behind_wrapped(cpu, op);
}

/* sub: 0 LOOPNE, 1 LOOPE, 2 LOOP, as the opcode's low bits. */
static void op_loop(struct cpu *cpu, const struct op *op)
{
	uint64_t count = (cpu->s.gpr[CPU_RCX] - 1) & count_mask(op);
	bool taken = count != 0 && (op->sub == 2 || flag_zf(cpu) == (op->sub == 1));

	if (taken)
		check_target(cpu, (uint64_t)op->imm);
	reg_write(cpu, OPR(CPU_RCX), 8, op->asize == 2 ? (cpu->s.gpr[CPU_RCX] & ~UINT64_C(0xffff)) | count : count);
	cpu->s.rip = taken ? (uint64_t)op->imm : rip_behind_wrapped(cpu, op);
}

static void op_jmp_rel(struct cpu *cpu, const struct op *op)
{
	jump_to(cpu, (uint64_t)op->imm);
}

static void op_jmp(struct cpu *cpu, const struct op *op)
{
	jump_to(cpu, operand_sized(cpu, op));
}

static void push_sized(struct cpu *cpu, const struct op *op, uint64_t value)
{
	if (op->osize == 2)
		stack_push(cpu, 2, value);
	else if (op->osize == 4)
		stack_push(cpu, 4, value);
	else
		stack_push(cpu, 8, value);
}

static void call_to(struct cpu *cpu, const struct op *op, uint64_t rip)
{
	check_target(cpu, rip);
	push_sized(cpu, op, rip_behind_wrapped(cpu, op));
	cpu->s.rip = rip;
}

static void op_call_rel(struct cpu *cpu, const struct op *op)
{
	call_to(cpu, op, (uint64_t)op->imm);
}

static void op_call(struct cpu *cpu, const struct op *op)
{
	call_to(cpu, op, operand_sized(cpu, op));
}

static void op_ret(struct cpu *cpu, const struct op *op)
{
	uint64_t rip = wrap(op, stack_peek(cpu, op->osize, 0));

	check_target(cpu, rip);
	stack_pointer_set(cpu, cpu->s.gpr[CPU_RSP] + op->osize + (uint16_t)op->imm);
	cpu->s.rip = rip;
}

/* ---- far ----------------------------------------------------------------------------------------------- */

/* The m16:16, m16:32, m16:64 or immediate pointer. */
static uint64_t far_pointer(struct cpu *cpu, const struct op *op, uint16_t *selector)
{
	uint64_t linear, offset;

	if (op->mem == OP_NO_MEM) {
		*selector = (uint16_t)((uint64_t)op->imm >> 32);
		return (uint32_t)op->imm;
	}
	linear = op_linear(cpu, op, op->osize + 2u, false);
	offset = mem_read(cpu, linear, op->osize);
	*selector = (uint16_t)mem_read(cpu, (linear + op->osize) & cpu->lin_mask, 2);
	return offset;
}

static void op_jmp_far(struct cpu *cpu, const struct op *op)
{
	uint16_t selector;
	uint64_t offset = far_pointer(cpu, op, &selector);

	far_jump(cpu, selector, offset, op->osize);
}

static void op_call_far(struct cpu *cpu, const struct op *op)
{
	uint16_t selector;
	uint64_t offset = far_pointer(cpu, op, &selector);

	far_call(cpu, selector, offset, rip_behind_wrapped(cpu, op), op->osize);
}

static void op_ret_far(struct cpu *cpu, const struct op *op)
{
	far_return(cpu, op->osize, (uint16_t)op->imm);
	look(cpu);
}

static void op_iret(struct cpu *cpu, const struct op *op)
{
	svm_check(cpu, SVM_EXIT_IRET);
	iret(cpu, op->osize);
	cpu->s.events.nmi.masked = false;
	cpu->p->rf_loaded = cpu->s.rflags & RFLAGS_RF;
	look(cpu);
}

/* ---- software interrupts ------------------------------------------------------------------------------- */

static void soft(struct cpu *cpu, const struct op *op, unsigned vector, enum event_kind kind)
{
	unsigned type = kind == EVENT_SOFT_INT ? EVENT_TYPE_SOFTWARE : EVENT_TYPE_EXCEPTION;

	cpu->p->delivering_soft = (uint32_t)EVENT_VALID | type << EVENT_TYPE_SHIFT | vector;
	event_deliver(cpu, vector, kind, false, 0, rip_behind_wrapped(cpu, op));
	cpu->p->delivering_soft = 0;
	cpu->p->step_trap = false; /* TF is in the frame that was pushed, and steps again after the IRET */
	look(cpu);
}

static void op_int(struct cpu *cpu, const struct op *op)
{
	if (svm_intercepts(cpu, SVM_EXIT_SOFT_INT))
		svm_exit(cpu, SVM_EXIT_SOFT_INT, (uint8_t)op->imm, 0);
	if ((cpu->mode & MODE_V86) && vme_int(cpu, (uint8_t)op->imm, rip_behind_wrapped(cpu, op))) {
		cpu->p->step_trap = false; /* as in soft() */
		return;
	}
	soft(cpu, op, (uint8_t)op->imm, EVENT_SOFT_INT);
}

static void op_int3(struct cpu *cpu, const struct op *op)
{
	if (cpu->p->debug & CPU_DEBUG_SW_BP) {
		cpu->p->exit.debug.exception = VECTOR_BP;
		cpu->p->exit.debug.pc = cpu->seg_base[CPU_CS] + op->rip;
		cpu->p->exit.debug.dr6 = cpu->p->exit.debug.dr7 = 0;
		cpu_leave_exit(cpu, CPU_EXIT_DEBUG, COMPLETE_NONE);
	}
	svm_check(cpu, SVM_EXIT_EXCEPTION + VECTOR_BP);
	soft(cpu, op, VECTOR_BP, EVENT_SOFT_EXCEPTION);
}

/* INT1 raises #DB, which is not intercepted as such. Breakpoints that a MOV SS held are reported with it. */
static void op_int1(struct cpu *cpu, const struct op *op)
{
	svm_check(cpu, SVM_EXIT_ICEBP);
	cpu->s.dr[6] |= cpu->p->dr6_held;
	cpu->p->dr6_held = 0;
	soft(cpu, op, VECTOR_DB, EVENT_EXTERNAL);
}

static void op_into(struct cpu *cpu, const struct op *op)
{
	if (flag_of(cpu)) {
		svm_check(cpu, SVM_EXIT_EXCEPTION + VECTOR_OF);
		soft(cpu, op, VECTOR_OF, EVENT_SOFT_EXCEPTION);
	} else {
		cpu->s.rip = rip_behind_wrapped(cpu, op);
	}
}

/* ---- fast system calls --------------------------------------------------------------------------------- */

static void flat_code(struct cpu *cpu, uint16_t selector, unsigned dpl, bool is_64)
{
	cpu->s.seg[CPU_CS] = (struct cpu_segment){
		.limit = 0xffffffff, .selector = selector, .type = 11, .present = 1, .dpl = (uint8_t)dpl,
		.db = !is_64, .s = 1, .l = is_64, .g = 1,
	};
}

static void flat_stack(struct cpu *cpu, uint16_t selector, unsigned dpl)
{
	cpu->s.seg[CPU_SS] = (struct cpu_segment){
		.limit = 0xffffffff, .selector = selector, .type = 3, .present = 1, .dpl = (uint8_t)dpl, .db = 1,
		.s = 1,
		.g = 1,
	};
}

/* SYSCALL and SYSRET load TF. They trap when TF is set after them, whatever it was before. */
static void step_as_loaded(struct cpu *cpu)
{
	cpu->p->step_trap = cpu->s.rflags & RFLAGS_TF;
	if (cpu->p->step_trap)
		cpu->single = true;
}

static void op_syscall(struct cpu *cpu, const struct op *op)
{
	uint16_t selector = (uint16_t)(cpu->s.star >> 32) & 0xfffc;
	bool from_64 = cpu_is_64(cpu);

	if (!(cpu->s.efer & EFER_SCE) || !(cpu->s.efer & EFER_LMA))
		cpu_ud(cpu);
	cpu->s.gpr[CPU_RCX] = rip_behind_wrapped(cpu, op);
	cpu->s.gpr[CPU_R11] = rflags_get(cpu) & ~RFLAGS_RF;
	cpu->s.rip = from_64 ? cpu->s.lstar : cpu->s.cstar;
	rflags_set(cpu, rflags_get(cpu) & ~(cpu->s.sfmask | RFLAGS_RF));
	flat_code(cpu, selector, 0, true);
	flat_stack(cpu, (uint16_t)(selector + 8), 0);
	mode_update(cpu);
	step_as_loaded(cpu);
	look(cpu);
}

static void op_sysret(struct cpu *cpu, const struct op *op)
{
	uint16_t selector = (uint16_t)(cpu->s.star >> 48);
	bool to_64 = op->osize == 8;

	if (!(cpu->s.efer & EFER_SCE) || !(cpu->s.efer & EFER_LMA))
		cpu_ud(cpu);
	if (cpu->cpl != 0)
		cpu_gp(cpu);
	if (to_64)
		check_target(cpu, cpu->s.gpr[CPU_RCX]);
	cpu->s.rip = to_64 ? cpu->s.gpr[CPU_RCX] : (uint32_t)cpu->s.gpr[CPU_RCX];
	flat_code(cpu, (uint16_t)((to_64 ? selector + 16 : selector) | 3), 3, to_64);
	flat_stack(cpu, (uint16_t)((selector + 8) | 3), 3);
	rflags_set(cpu, (cpu->s.gpr[CPU_R11] & 0x3c7fd7) & ~RFLAGS_RF);
	mode_update(cpu);
	step_as_loaded(cpu);
	look(cpu);
}

/* AMD has SYSENTER and SYSEXIT in legacy mode only (APM vol. 2, 6.1.2). */
static void need_sysenter(struct cpu *cpu)
{
	if ((cpu->s.efer & EFER_LMA) && !cpu->p->intel)
		cpu_ud(cpu);
}

static void op_sysenter(struct cpu *cpu, const struct op *op)
{
	uint16_t selector = (uint16_t)cpu->s.sysenter_cs & 0xfffc;
	bool is_long = cpu->s.efer & EFER_LMA;

	(void)op;
	need_sysenter(cpu);
	if (!(cpu->s.cr0 & CR0_PE) || selector == 0)
		cpu_gp(cpu);
	rflags_set(cpu, rflags_get(cpu) & ~(RFLAGS_VM | RFLAGS_IF));
	cpu->s.rip = is_long ? cpu->s.sysenter_eip : (uint32_t)cpu->s.sysenter_eip;
	cpu->s.gpr[CPU_RSP] = is_long ? cpu->s.sysenter_esp : (uint32_t)cpu->s.sysenter_esp;
	flat_code(cpu, selector, 0, is_long);
	flat_stack(cpu, (uint16_t)(selector + 8), 0);
	mode_update(cpu);
	look(cpu);
}

static void op_sysexit(struct cpu *cpu, const struct op *op)
{
	uint16_t selector = (uint16_t)cpu->s.sysenter_cs;
	bool to_64 = op->osize == 8;

	need_sysenter(cpu);
	if (!(cpu->s.cr0 & CR0_PE) || (selector & 0xfffc) == 0 || cpu->cpl != 0)
		cpu_gp(cpu);
	if (to_64)
		check_target(cpu, cpu->s.gpr[CPU_RDX]);
	cpu->s.rip = to_64 ? cpu->s.gpr[CPU_RDX] : (uint32_t)cpu->s.gpr[CPU_RDX];
	cpu->s.gpr[CPU_RSP] = to_64 ? cpu->s.gpr[CPU_RCX] : (uint32_t)cpu->s.gpr[CPU_RCX];
	flat_code(cpu, (uint16_t)((selector + (to_64 ? 32 : 16)) | 3), 3, to_64);
	flat_stack(cpu, (uint16_t)((selector + (to_64 ? 40 : 24)) | 3), 3);
	mode_update(cpu);
	look(cpu);
}

/* ---- selection ----------------------------------------------------------------------------------------- */

static op_fn *near_or_far(const struct insn *insn, op_fn *relative, op_fn *near, op_fn *far)
{
	if (insn->z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		return far;
	return insn->o[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? relative : near;
}

static op_fn *select_jump(const struct insn *insn, struct op *op)
{
	const ZydisDecodedInstruction *z = insn->z;

	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_JMP: return near_or_far(insn, op_jmp_rel, op_jmp, op_jmp_far);
	case ZYDIS_MNEMONIC_CALL: return near_or_far(insn, op_call_rel, op_call, op_call_far);
	case ZYDIS_MNEMONIC_RET: return z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ? op_ret_far : op_ret;
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ: return op_iret;
	case ZYDIS_MNEMONIC_INT: return op_int;
	case ZYDIS_MNEMONIC_INT1: return op_int1;
	case ZYDIS_MNEMONIC_INT3: return op_int3;
	case ZYDIS_MNEMONIC_INTO: return op_into;
	case ZYDIS_MNEMONIC_SYSCALL: return op_syscall;
	case ZYDIS_MNEMONIC_SYSRET: return op_sysret;
	case ZYDIS_MNEMONIC_SYSENTER: return op_sysenter;
	case ZYDIS_MNEMONIC_SYSEXIT: return op_sysexit;
	case ZYDIS_MNEMONIC_LOOP:
	case ZYDIS_MNEMONIC_LOOPE:
	case ZYDIS_MNEMONIC_LOOPNE: op->sub = z->opcode & 3; return op_loop;
	case ZYDIS_MNEMONIC_JCXZ:
	case ZYDIS_MNEMONIC_JECXZ:
	case ZYDIS_MNEMONIC_JRCXZ: return op_jcxz;
	default: return z->meta.category == ZYDIS_CATEGORY_COND_BR ? op_jcc : NULL;
	}
}

op_fn *jump_select(const struct insn *insn, struct op *op)
{
	op_fn *fn = select_jump(insn, op);

	if (fn != NULL)
		op->flags |= OPF_END;
	return fn;
}

/* SPDX-License-Identifier: MIT */
/* Segment registers and their bases. */
#include "cpu/insn/sys_int.h"
#include "cpu/system/seg.h"

/* After SS is loaded, interrupts and traps wait for one instruction, so that RSP can be loaded too. */
static void segment_loaded(struct cpu *cpu, const struct op *op, unsigned seg)
{
	if (seg == CPU_SS) {
		cpu->s.events.shadow = CPU_SHADOW_MOV_SS;
		cpu->p->shadow_set = true;
	}
	done_look(cpu, op);
}

static void op_mov_to_seg(struct cpu *cpu, const struct op *op)
{
	seg_load(cpu, op->reg[0], operand16(cpu, op, 1));
	segment_loaded(cpu, op, op->reg[0]);
}

static void op_mov_from_seg(struct cpu *cpu, const struct op *op)
{
	store16(cpu, op, cpu->s.seg[op->reg[1]].selector);
}

static void op_push_seg(struct cpu *cpu, const struct op *op)
{
	uint16_t selector = cpu->s.seg[op->reg[0]].selector;

	if (op->osize == 2)
		stack_push(cpu, 2, selector);
	else if (op->osize == 4)
		stack_push(cpu, 4, selector);
	else
		stack_push(cpu, 8, selector);
}

static void op_pop_seg(struct cpu *cpu, const struct op *op)
{
	uint16_t selector = (uint16_t)stack_peek(cpu, 2, 0);
	uint64_t mask = stack_mask(cpu), sp = cpu->s.gpr[CPU_RSP] + op->osize;

	seg_load(cpu, op->reg[0], selector);
	/* The stack pointer moves with the width of the old stack. */
	cpu->s.gpr[CPU_RSP] = mask == 0xffff ? (cpu->s.gpr[CPU_RSP] & ~mask) | (sp & mask) : sp & mask;
	segment_loaded(cpu, op, op->reg[0]);
}

/* LDS, LES, LFS, LGS, LSS. op->sub is the segment. */
static void op_load_far(struct cpu *cpu, const struct op *op)
{
	unsigned size = op->osize;
	uint64_t linear = op_linear(cpu, op, size + 2, false), offset = mem_read(cpu, linear, size);
	uint16_t selector = (uint16_t)mem_read(cpu, (linear + size) & cpu->lin_mask, 2);

	seg_load(cpu, op->sub, selector);
	reg_write(cpu, op->reg[0], size, offset);
	done(cpu, op);
}

static void op_swapgs(struct cpu *cpu, const struct op *op)
{
	uint64_t base = cpu->s.seg[CPU_GS].base;

	(void)op;
	if (!cpu_is_64(cpu))
		cpu_ud(cpu);
	need_supervisor(cpu);
	cpu->s.seg[CPU_GS].base = cpu->s.kernel_gs_base;
	cpu->s.kernel_gs_base = base;
	cpu->seg_base[CPU_GS] = cpu->s.seg[CPU_GS].base;
}

/* RDFSBASE .. WRGSBASE. op->sub is the segment. */
static void need_fsgsbase(struct cpu *cpu)
{
	if (!cpu_is_64(cpu) || !(cpu->s.cr4 & CR4_FSGSBASE))
		cpu_ud(cpu);
}

static void op_rdbase(struct cpu *cpu, const struct op *op)
{
	need_fsgsbase(cpu);
	reg_write(cpu, op->reg[0], op->size == 4 ? 4 : 8, cpu->s.seg[op->sub].base);
}

static void op_wrbase(struct cpu *cpu, const struct op *op)
{
	uint64_t value = reg_read(cpu, op->reg[0], op->size == 4 ? 4 : 8);

	need_fsgsbase(cpu);
	if (!canonical_register(cpu, value))
		cpu_gp(cpu);
	cpu->s.seg[op->sub].base = cpu->seg_base[op->sub] = value;
}

static op_fn *select_mov(const struct insn *insn, struct op *op)
{
	if (operand_is(insn, 0, ZYDIS_REGCLASS_SEGMENT))
		return ends(op, op->reg[0] == CPU_CS ? op_undefined : op_mov_to_seg);
	if (operand_is(insn, 1, ZYDIS_REGCLASS_SEGMENT))
		return op_mov_from_seg;
	return NULL;
}

op_fn *sys_segment_select(const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_LES: return ends(op, with(op, CPU_ES, op_load_far));
	case ZYDIS_MNEMONIC_LDS: return ends(op, with(op, CPU_DS, op_load_far));
	case ZYDIS_MNEMONIC_LSS: return ends(op, with(op, CPU_SS, op_load_far));
	case ZYDIS_MNEMONIC_LFS: return ends(op, with(op, CPU_FS, op_load_far));
	case ZYDIS_MNEMONIC_LGS: return ends(op, with(op, CPU_GS, op_load_far));
	case ZYDIS_MNEMONIC_SWAPGS: return op_swapgs;
	case ZYDIS_MNEMONIC_RDFSBASE: return with(op, CPU_FS, op_rdbase);
	case ZYDIS_MNEMONIC_RDGSBASE: return with(op, CPU_GS, op_rdbase);
	case ZYDIS_MNEMONIC_WRFSBASE: return with(op, CPU_FS, op_wrbase);
	case ZYDIS_MNEMONIC_WRGSBASE: return with(op, CPU_GS, op_wrbase);
	case ZYDIS_MNEMONIC_PUSH: return operand_is(insn, 0, ZYDIS_REGCLASS_SEGMENT) ? op_push_seg : NULL;
	case ZYDIS_MNEMONIC_POP: return operand_is(insn, 0, ZYDIS_REGCLASS_SEGMENT) ? ends(op, op_pop_seg) : NULL;
	case ZYDIS_MNEMONIC_MOV: return select_mov(insn, op);
	default: return NULL;
	}
}

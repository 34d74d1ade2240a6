/* SPDX-License-Identifier: MIT */
/* Descriptor tables, and instructions that ask about descriptors: LAR, LSL, VERR, VERW, ARPL. */
#include "cpu/base/flags.h"
#include "cpu/insn/sys_int.h"
#include "cpu/system/seg.h"

static void table_load(struct cpu *cpu, const struct op *op, struct cpu_table *table, enum svm_exit exit)
{
	unsigned size = cpu_is_64(cpu) ? 8 : 4;
	uint64_t linear, base;
	uint16_t limit;

	need_supervisor(cpu);
	linear = op_linear(cpu, op, 2 + size, false);
	svm_check(cpu, exit);
	limit = (uint16_t)mem_read(cpu, linear, 2);
	base = mem_read(cpu, (linear + 2) & cpu->lin_mask, size == 8 ? 8 : 4);
	if (size == 4 && op->osize == 2)
		base &= 0xffffff;
	if (size == 8 && !canonical_register(cpu, base))
		cpu_gp(cpu);
	table->limit = limit;
	table->base = base;
}

static void table_store(struct cpu *cpu, const struct op *op, const struct cpu_table *table, enum svm_exit exit)
{
	unsigned size = cpu_is_64(cpu) ? 8 : 4;
	uint8_t image[10];
	uint64_t linear;

	need_umip(cpu);
	linear = op_linear(cpu, op, 2 + size, true);
	svm_check(cpu, exit);
	memcpy(image, &table->limit, 2);
	memcpy(image + 2, &table->base, 8);
	mem_write_bytes(cpu, linear, image, 2 + size);
}

static void op_lgdt(struct cpu *cpu, const struct op *op) { table_load(cpu, op, &cpu->s.gdt, SVM_EXIT_WRITE_GDTR); }
static void op_lidt(struct cpu *cpu, const struct op *op) { table_load(cpu, op, &cpu->s.idt, SVM_EXIT_WRITE_IDTR); }
static void op_sgdt(struct cpu *cpu, const struct op *op) { table_store(cpu, op, &cpu->s.gdt, SVM_EXIT_READ_GDTR); }
static void op_sidt(struct cpu *cpu, const struct op *op) { table_store(cpu, op, &cpu->s.idt, SVM_EXIT_READ_IDTR); }

static void op_sldt(struct cpu *cpu, const struct op *op)
{
	need_protected(cpu);
	need_umip(cpu);
	operand16_check(cpu, op, true);
	svm_check(cpu, SVM_EXIT_READ_LDTR);
	store16(cpu, op, cpu->s.seg[CPU_LDTR].selector);
}

static void op_str(struct cpu *cpu, const struct op *op)
{
	need_protected(cpu);
	need_umip(cpu);
	operand16_check(cpu, op, true);
	svm_check(cpu, SVM_EXIT_READ_TR);
	store16(cpu, op, cpu->s.seg[CPU_TR].selector);
}

/* For LLDT and LTR: a system descriptor, of 16 bytes in long mode. `types`: a bit for each allowed type. */
static struct cpu_segment system_segment(struct cpu *cpu, uint16_t selector, unsigned types)
{
	uint32_t error = selector & 0xfffcu;
	struct cpu_segment s;
	uint64_t low, high = 0;

	if ((selector & 4) || !descriptor_read(cpu, selector, &low))
		cpu_raise_error(cpu, VECTOR_GP, error);
	s = descriptor_segment(selector, low);
	if (s.s || !(types >> s.type & 1))
		cpu_raise_error(cpu, VECTOR_GP, error);
	if (!s.present)
		cpu_raise_error(cpu, VECTOR_NP, error);
	if (cpu->s.efer & EFER_LMA) {
		if (!descriptor_read(cpu, selector + 8, &high))
			cpu_raise_error(cpu, VECTOR_GP, error);
		s.base |= high << 32;
		if (!canonical_register(cpu, s.base))
			cpu_raise_error(cpu, VECTOR_GP, error);
	}
	return s;
}

static void op_lldt(struct cpu *cpu, const struct op *op)
{
	uint16_t selector;

	need_protected(cpu);
	need_supervisor(cpu);
	operand16_check(cpu, op, false);
	svm_check(cpu, SVM_EXIT_WRITE_LDTR);
	selector = operand16(cpu, op, 0);
	if ((selector & 0xfffc) == 0)
		cpu->s.seg[CPU_LDTR] = (struct cpu_segment){ .selector = selector, .unusable = 1 };
	else
		cpu->s.seg[CPU_LDTR] = system_segment(cpu, selector, 1u << 2);
}

static void op_ltr(struct cpu *cpu, const struct op *op)
{
	struct cpu_segment tss;
	uint16_t selector;

	need_protected(cpu);
	need_supervisor(cpu);
	operand16_check(cpu, op, false);
	svm_check(cpu, SVM_EXIT_WRITE_TR);
	selector = operand16(cpu, op, 0);
	if ((selector & 0xfffc) == 0)
		cpu_gp(cpu);
	tss = system_segment(cpu, selector, cpu->s.efer & EFER_LMA ? 1u << 9 : 1u << 9 | 1u << 1);
	/* The TSS is busy from now on. */
	tss.type |= 2;
	sys_write(cpu, cpu->s.gdt.base + (selector & 0xfff8u) + 5, 1,
	          (unsigned)tss.type | (unsigned)tss.dpl << 5 | 0x80);
	cpu->s.seg[CPU_TR] = tss;
}

/* Is the selector's segment visible at this privilege? `system`: a bit for each allowed system type. */
static bool segment_visible(struct cpu *cpu, uint16_t selector, unsigned system, uint64_t *descriptor)
{
	struct cpu_segment s;

	if ((selector & 0xfffc) == 0 || !descriptor_read(cpu, selector, descriptor))
		return false;
	s = descriptor_segment(selector, *descriptor);
	if (!s.s && !(system >> s.type & 1))
		return false;
	if (s.s && (s.type & 12) == 12)
		return true; /* conforming code is always visible */
	return s.dpl >= cpu->cpl && s.dpl >= (selector & 3);
}

static void op_lar(struct cpu *cpu, const struct op *op)
{
	unsigned system = cpu->s.efer & EFER_LMA ? 0x1a04 : 0x1a36;
	uint64_t descriptor;
	bool ok;

	need_protected(cpu);
	ok = segment_visible(cpu, operand16(cpu, op, 1), system, &descriptor);
	if (ok)
		reg_write(cpu, op->reg[0], op->size == 2 ? 2 : 4, descriptor >> 32 & 0xf0ff00);
	flags_update(cpu, RFLAGS_ZF, ok ? RFLAGS_ZF : 0);
}

static void op_lsl(struct cpu *cpu, const struct op *op)
{
	unsigned system = cpu->s.efer & EFER_LMA ? 0x0a04 : 0x0a0e;
	uint64_t descriptor;
	bool ok;

	need_protected(cpu);
	ok = segment_visible(cpu, operand16(cpu, op, 1), system, &descriptor);
	if (ok)
		reg_write(cpu, op->reg[0], op->size == 2 ? 2 : 4, descriptor_segment(0, descriptor).limit);
	flags_update(cpu, RFLAGS_ZF, ok ? RFLAGS_ZF : 0);
}

/* op->sub is 1 for VERW. */
static void op_verr(struct cpu *cpu, const struct op *op)
{
	uint64_t descriptor;
	bool ok;

	need_protected(cpu);
	ok = segment_visible(cpu, operand16(cpu, op, 0), 0, &descriptor);
	if (ok) {
		unsigned type = descriptor >> 40 & 15;

		ok = op->sub ? (type & 10) == 2 : !(type & 8) || (type & 2);
	}
	flags_update(cpu, RFLAGS_ZF, ok ? RFLAGS_ZF : 0);
}

static void op_arpl(struct cpu *cpu, const struct op *op)
{
	uint16_t rpl, dest;

	need_protected(cpu);
	rpl = (uint16_t)(reg_read(cpu, op->reg[1], 2) & 3);
	dest = operand16(cpu, op, 0);
	if ((dest & 3) < rpl) {
		dest = (uint16_t)((dest & ~3u) | rpl);
		if (op->mem == 0)
			mem_write(cpu, op_linear(cpu, op, 2, true), 2, dest);
		else
			reg_write(cpu, op->reg[0], 2, dest);
		flags_update(cpu, RFLAGS_ZF, RFLAGS_ZF);
	} else {
		flags_update(cpu, RFLAGS_ZF, 0);
	}
}

op_fn *sys_descriptor_select(const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_LGDT: return op_lgdt;
	case ZYDIS_MNEMONIC_LIDT: return op_lidt;
	case ZYDIS_MNEMONIC_SGDT: return op_sgdt;
	case ZYDIS_MNEMONIC_SIDT: return op_sidt;
	case ZYDIS_MNEMONIC_LLDT: return op_lldt;
	case ZYDIS_MNEMONIC_SLDT: return op_sldt;
	case ZYDIS_MNEMONIC_LTR: return op_ltr;
	case ZYDIS_MNEMONIC_STR: return op_str;
	case ZYDIS_MNEMONIC_LAR: return op_lar;
	case ZYDIS_MNEMONIC_LSL: return op_lsl;
	case ZYDIS_MNEMONIC_VERR: return with(op, 0, op_verr);
	case ZYDIS_MNEMONIC_VERW: return with(op, 1, op_verr);
	case ZYDIS_MNEMONIC_ARPL: return op_arpl;
	default: return NULL;
	}
}

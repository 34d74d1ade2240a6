/* SPDX-License-Identifier: MIT */
/* AMD SVM: VMRUN, VMLOAD, VMSAVE, STGI, CLGI, INVLPGA, SKINIT (APM vol. 3). What they do is in system/svm*.c. */
#include "cpu/insn/sys_int.h"
#include "cpu/memory/tlb.h"
#include "cpu/system/svm.h"

/* What all of them check first. Virtual-8086 mode is not protected mode here. */
static void need_svm(struct cpu *cpu)
{
	if (!(cpu->s.efer & EFER_SVME) || !(cpu->mode & MODE_PROT))
		cpu_ud(cpu);
	need_supervisor(cpu);
}

static uint64_t rax(const struct cpu *cpu, const struct op *op)
{
	uint64_t value = cpu->s.gpr[CPU_RAX];

	return op->asize == 8 ? value : op->asize == 4 ? (uint32_t)value : (uint16_t)value;
}

/* op->sub is an enum svm_operation. The address is checked before the intercept, as without SVME_ADDR_CHK. */
static void op_vmcb(struct cpu *cpu, const struct op *op)
{
	static const uint8_t exits[] = {
		[SVM_VMRUN] = SVM_EXIT_VMRUN, [SVM_VMLOAD] = SVM_EXIT_VMLOAD, [SVM_VMSAVE] = SVM_EXIT_VMSAVE,
	};
	uint64_t at = rax(cpu, op);

	need_svm(cpu);
	if ((at & 0xfff) || (at & ~cpu->p->phys_mask))
		cpu_gp(cpu);
	svm_check(cpu, exits[op->sub]);
	if (op->sub == SVM_VMRUN && cpu->s.svm.hsave_pa == 0)
		cpu_gp(cpu); /* as in KVM: no processor could save the host's state */
	cpu->p->svm.operation = op->sub;
	cpu->p->svm.operand = at;
	cpu->p->svm.operand_virtual = op->sub != SVM_VMRUN && svm_operand_is_virtual(cpu, exits[op->sub]);
	cpu_leave_exit(cpu, EXIT_SVM, COMPLETE_NONE);
}

static void op_stgi(struct cpu *cpu, const struct op *op)
{
	need_svm(cpu);
	svm_check(cpu, SVM_EXIT_STGI);
	if (!svm_virtual_gif_set(cpu, true))
		cpu->s.svm.gif = true;
	if (unlikely(cpu->s.svm.init_held)) {
		cpu->p->svm.operation = SVM_STGI_HELD;
		cpu_leave_exit(cpu, EXIT_SVM, COMPLETE_NONE);
	}
	done_look(cpu, op);
}

static void op_clgi(struct cpu *cpu, const struct op *op)
{
	need_svm(cpu);
	svm_check(cpu, SVM_EXIT_CLGI);
	if (!svm_virtual_gif_set(cpu, false))
		cpu->s.svm.gif = false;
	done(cpu, op);
}

static void op_invlpga(struct cpu *cpu, const struct op *op)
{
	need_svm(cpu);
	if (svm_intercepts(cpu, SVM_EXIT_INVLPGA))
		svm_exit(cpu, SVM_EXIT_INVLPGA, rax(cpu, op), 0);
	tlb_flush_asid_page(cpu, (uint32_t)cpu->s.gpr[CPU_RCX], rax(cpu, op));
	done(cpu, op);
}

/* CPUID has no SKINIT. */
static void op_skinit(struct cpu *cpu, const struct op *op)
{
	(void)op;
	if (cpu->s.efer & EFER_SVME)
		svm_check(cpu, SVM_EXIT_SKINIT);
	cpu_ud(cpu);
}

op_fn *sys_svm_select(const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_VMRUN: return ends(op, with(op, SVM_VMRUN, op_vmcb));
	case ZYDIS_MNEMONIC_VMLOAD: return ends(op, with(op, SVM_VMLOAD, op_vmcb));
	case ZYDIS_MNEMONIC_VMSAVE: return ends(op, with(op, SVM_VMSAVE, op_vmcb));
	case ZYDIS_MNEMONIC_STGI: return ends(op, op_stgi);
	case ZYDIS_MNEMONIC_CLGI: return ends(op, op_clgi);
	case ZYDIS_MNEMONIC_INVLPGA: return ends(op, op_invlpga);
	case ZYDIS_MNEMONIC_SKINIT: return ends(op, op_skinit);
	default: return NULL;
	}
}

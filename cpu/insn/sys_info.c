/* SPDX-License-Identifier: MIT */
/* CPUID, and registers that are reached by number: TSC, MSRs, XCR0, PKRU. */
#include "cpu/base/mxcsr.h"
#include "cpu/base/x87_host.h"
#include "cpu/insn/sys_int.h"
#include "cpu/memory/tlb.h"
#include "cpu/system/components.h"
#include "cpu/system/control.h"
#include "cpu/system/cpuid.h"

static void op_cpuid(struct cpu *cpu, const struct op *op)
{
	uint32_t out[4];

	(void)op;
	svm_check(cpu, SVM_EXIT_CPUID);
	cpu_cpuid(cpu, (uint32_t)cpu->s.gpr[CPU_RAX], (uint32_t)cpu->s.gpr[CPU_RCX], out);
	cpu->s.gpr[CPU_RAX] = out[0];
	cpu->s.gpr[CPU_RBX] = out[1];
	cpu->s.gpr[CPU_RCX] = out[2];
	cpu->s.gpr[CPU_RDX] = out[3];
}

/* op->sub is 1 for RDTSCP. */
static void op_rdtsc(struct cpu *cpu, const struct op *op)
{
	uint64_t tsc;

	if (op->sub && !cpu->p->has_rdtscp)
		cpu_ud(cpu);
	if ((cpu->s.cr4 & CR4_TSD) && cpu->cpl != 0)
		cpu_gp(cpu);
	if (op->sub)
		svm_check(cpu, SVM_EXIT_RDTSCP);
	else
		svm_check(cpu, SVM_EXIT_RDTSC);
	tsc = cpu_tsc_read(cpu);
	cpu->s.gpr[CPU_RAX] = (uint32_t)tsc;
	cpu->s.gpr[CPU_RDX] = tsc >> 32;
	if (op->sub)
		cpu->s.gpr[CPU_RCX] = (uint32_t)cpu->s.tsc_aux;
}

static void op_rdpid(struct cpu *cpu, const struct op *op)
{
	if (!cpu->p->has_rdpid)
		cpu_ud(cpu);
	reg_write(cpu, op->reg[0], 8, cpu->s.tsc_aux);
}

static void op_rdpmc(struct cpu *cpu, const struct op *op)
{
	(void)op;
	if (cpu->cpl != 0 && (cpu->s.cr0 & CR0_PE) && !(cpu->s.cr4 & CR4_PCE))
		cpu_gp(cpu);
	svm_check(cpu, SVM_EXIT_RDPMC);
	cpu_gp(cpu); /* there are no counters */
}

static void op_rdmsr(struct cpu *cpu, const struct op *op)
{
	(void)op;
	need_supervisor(cpu);
	cpu->p->exit.msr.index = (uint32_t)cpu->s.gpr[CPU_RCX];
	cpu->p->exit.msr.data = 0;
	cpu_leave_exit(cpu, CPU_EXIT_RDMSR, COMPLETE_RDMSR);
}

static void op_wrmsr(struct cpu *cpu, const struct op *op)
{
	(void)op;
	need_supervisor(cpu);
	cpu->p->exit.msr.index = (uint32_t)cpu->s.gpr[CPU_RCX];
	cpu->p->exit.msr.data = (uint32_t)cpu->s.gpr[CPU_RAX] | cpu->s.gpr[CPU_RDX] << 32;
	cpu_leave_exit(cpu, CPU_EXIT_WRMSR, COMPLETE_WRMSR);
}

/* Register 1 shows which components of XCR0 are not in their initial state. MXCSR belongs to SSE here. */
static uint64_t xcr_in_use(struct cpu *cpu)
{
	uint64_t used;

	x87_unload(cpu);
	used = components_in_use(&cpu->s);
	mxcsr_fold(cpu);
	if (cpu->s.fx.mxcsr != MXCSR_INIT)
		used |= XSTATE_BIT(XSTATE_SSE);
	return used & cpu->s.xcr0;
}

static void op_xgetbv(struct cpu *cpu, const struct op *op)
{
	uint32_t number = (uint32_t)cpu->s.gpr[CPU_RCX];
	uint64_t value;

	(void)op;
	if (!(cpu->s.cr4 & CR4_OSXSAVE))
		cpu_ud(cpu);
	if (number > 1 || (number == 1 && !xstate_has_xgetbv1()))
		cpu_gp(cpu);
	value = number == 0 ? cpu->s.xcr0 : xcr_in_use(cpu);
	cpu->s.gpr[CPU_RAX] = (uint32_t)value;
	cpu->s.gpr[CPU_RDX] = value >> 32;
}

static void op_xsetbv(struct cpu *cpu, const struct op *op)
{
	uint64_t value = (uint32_t)cpu->s.gpr[CPU_RAX] | cpu->s.gpr[CPU_RDX] << 32;

	(void)op;
	if (!(cpu->s.cr4 & CR4_OSXSAVE))
		cpu_ud(cpu);
	svm_check(cpu, SVM_EXIT_XSETBV);
	need_supervisor(cpu);
	if ((uint32_t)cpu->s.gpr[CPU_RCX] != 0 || !cpu_xcr0_set(cpu, value))
		cpu_gp(cpu);
}

/* op->sub is 1 for WRPKRU. */
static void op_pkru(struct cpu *cpu, const struct op *op)
{
	if (!(cpu->s.cr4 & CR4_PKE))
		cpu_ud(cpu);
	if ((uint32_t)cpu->s.gpr[CPU_RCX] != 0 || (op->sub && (uint32_t)cpu->s.gpr[CPU_RDX] != 0))
		cpu_gp(cpu);
	if (op->sub) {
		cpu->s.pkru = (uint32_t)cpu->s.gpr[CPU_RAX];
		tlb_flush(cpu);
		done(cpu, op);
		return;
	}
	cpu->s.gpr[CPU_RAX] = cpu->s.pkru;
	cpu->s.gpr[CPU_RDX] = 0;
	done(cpu, op);
}

op_fn *sys_info_select(const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_CPUID: return op_cpuid;
	case ZYDIS_MNEMONIC_RDTSC: return with(op, 0, op_rdtsc);
	case ZYDIS_MNEMONIC_RDTSCP: return with(op, 1, op_rdtsc);
	case ZYDIS_MNEMONIC_RDPID: return op_rdpid;
	case ZYDIS_MNEMONIC_RDPMC: return op_rdpmc;
	case ZYDIS_MNEMONIC_RDMSR: return ends(op, op_rdmsr);
	case ZYDIS_MNEMONIC_WRMSR: return ends(op, op_wrmsr);
	case ZYDIS_MNEMONIC_XGETBV: return op_xgetbv;
	case ZYDIS_MNEMONIC_XSETBV: return op_xsetbv;
	case ZYDIS_MNEMONIC_RDPKRU: return ends(op, with(op, 0, op_pkru));
	case ZYDIS_MNEMONIC_WRPKRU: return ends(op, with(op, 1, op_pkru));
	default: return NULL;
	}
}

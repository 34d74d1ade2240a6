/* SPDX-License-Identifier: MIT */
/* System instructions: flags, TLB and caches, hints, HLT and hypercalls. The selection of all system instructions. */
#include "cpu/base/flags.h"
#include "cpu/base/owner.h"
#include "cpu/insn/sys_int.h"
#include "cpu/memory/tlb.h"
#include "cpu/system/control.h"
#include "cpu/system/cpuid.h"
#include "cpu/system/intercept.h"
#include "cpu/system/shadow_regs.h"
#include "cpu/system/vme.h"

static void op_nop(struct cpu *cpu, const struct op *op)
{
	(void)cpu;
	(void)op;
}

void op_undefined(struct cpu *cpu, const struct op *op)
{
	(void)op;
	cpu_ud(cpu);
}

/* ---- flags ----------------------------------------------------------------------------------------------- */

static unsigned iopl(const struct cpu *cpu)
{
	return cpu->s.rflags >> 12 & 3;
}

static void op_pushf(struct cpu *cpu, const struct op *op)
{
	uint64_t flags = rflags_get(cpu) & ~(RFLAGS_VM | RFLAGS_RF);

	svm_check(cpu, SVM_EXIT_PUSHF);
	if (cpu->mode & MODE_V86)
		flags = vme_flags(cpu, op->osize);
	if (op->osize == 2)
		stack_push(cpu, 2, flags);
	else if (op->osize == 4)
		stack_push(cpu, 4, flags);
	else
		stack_push(cpu, 8, flags);
}

static void popf_v86(struct cpu *cpu, const struct op *op)
{
	uint64_t flags;

	vme_flags_check(cpu, 0, op->osize); /* before the stack is read */
	flags = stack_peek(cpu, op->osize, 0);
	vme_flags_check(cpu, flags, op->osize);
	stack_pointer_set(cpu, cpu->s.gpr[CPU_RSP] + op->osize);
	vme_flags_load(cpu, flags, op->osize, 0);
	done_look(cpu, op);
}

static void op_popf(struct cpu *cpu, const struct op *op)
{
	uint64_t mask = RFLAGS_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT, flags;

	svm_check(cpu, SVM_EXIT_POPF);
	if (cpu->mode & MODE_V86) {
		popf_v86(cpu, op);
		return;
	}
	flags = stack_peek(cpu, op->osize, 0);
	if (op->osize != 2)
		mask |= RFLAGS_AC | RFLAGS_ID;
	if (cpu->cpl == 0)
		mask |= RFLAGS_IOPL;
	if (cpu->cpl <= iopl(cpu))
		mask |= RFLAGS_IF;
	stack_pointer_set(cpu, cpu->s.gpr[CPU_RSP] + op->osize);
	rflags_set(cpu, (rflags_get(cpu) & ~mask & ~RFLAGS_RF) | (flags & mask));
	done_look(cpu, op);
}

static void op_cli(struct cpu *cpu, const struct op *op)
{
	(void)op;
	if (cpu->cpl > iopl(cpu))
		vme_interrupt_flag(cpu, false);
	else
		cpu->s.rflags &= ~RFLAGS_IF;
}

static void op_sti(struct cpu *cpu, const struct op *op)
{
	if (cpu->cpl > iopl(cpu)) {
		vme_interrupt_flag(cpu, true);
	} else if (!(cpu->s.rflags & RFLAGS_IF)) {
		cpu->s.rflags |= RFLAGS_IF;
		cpu->s.events.shadow = CPU_SHADOW_STI;
		cpu->p->shadow_set = true;
	}
	done_look(cpu, op);
}

/* op->sub is 1 for STAC. */
static void op_stac(struct cpu *cpu, const struct op *op)
{
	/* The CPU must have SMAP; CR4.SMAP may be clear. */
	if (!(cpu->p->cr4_valid & CR4_SMAP) || cpu->cpl != 0)
		cpu_ud(cpu);
	cpu->s.rflags = op->sub ? cpu->s.rflags | RFLAGS_AC : cpu->s.rflags & ~RFLAGS_AC;
	tlb_tag_update(cpu);
}

/* ---- TLB ------------------------------------------------------------------------------------------------- */

static void op_invlpg(struct cpu *cpu, const struct op *op)
{
	uint64_t linear = (cpu->seg_base[op->seg] + op_ea(cpu, op)) & cpu->lin_mask;

	need_supervisor(cpu);
	if (svm_intercepts(cpu, SVM_EXIT_INVLPG))
		svm_exit(cpu, SVM_EXIT_INVLPG, linear, 0);
	cpu_shadow_invlpg(cpu, linear);
	tlb_flush_page(cpu, linear);
	done(cpu, op);
}

static void op_invpcid(struct cpu *cpu, const struct op *op)
{
	uint64_t type, linear, pcid, address;

	if (!cpu->p->has_invpcid)
		cpu_ud(cpu);
	need_supervisor(cpu);
	type = reg_read(cpu, op->reg[0], cpu_is_64(cpu) ? 8 : 4);
	if (svm_intercepts(cpu, SVM_EXIT_INVPCID))
		svm_exit(cpu, SVM_EXIT_INVPCID, (cpu->seg_base[op->seg] + op_ea(cpu, op)) & cpu->lin_mask, type);
	linear = op_linear(cpu, op, 16, false);
	pcid = mem_read(cpu, linear, 8);
	address = mem_read(cpu, (linear + 8) & cpu->lin_mask, 8);
	if (type > 3 || pcid >> 12 || (type < 2 && pcid != 0 && !(cpu->s.cr4 & CR4_PCIDE)) ||
	    (type == 0 && !canonical_register(cpu, address)))
		cpu_gp(cpu);
	cpu_shadow_invpcid(cpu, (unsigned)type, pcid, address);
	tlb_flush(cpu);
	done(cpu, op);
}

/* INVD, WBINVD, and WBNOINVD, which Zydis does not tell from it: op->sub is 0 for INVD. Guest memory is coherent. */
static void op_wbinvd(struct cpu *cpu, const struct op *op)
{
	need_supervisor(cpu);
	svm_check(cpu, op->sub ? SVM_EXIT_WBINVD : SVM_EXIT_INVD);
}

/* CLFLUSH faults as a read does. */
static void op_clflush(struct cpu *cpu, const struct op *op)
{
	(void)mem_read(cpu, op_linear(cpu, op, 1, false), 1);
}

/* ---- the outside ----------------------------------------------------------------------------------------- */

static void op_hlt(struct cpu *cpu, const struct op *op)
{
	(void)op;
	need_supervisor(cpu);
	svm_check(cpu, SVM_EXIT_HLT);
	cpu_leave_exit(cpu, CPU_EXIT_HLT, COMPLETE_STEP);
}

/* The guest runs VMMCALL from now on, first of all here. Raises what a store to the instruction's bytes raises. */
static void rewrite_vmcall(struct cpu *cpu, const struct op *op)
{
	static const uint8_t vmmcall[] = { 0x0f, 0x01, 0xd9 };
	uint64_t base = cpu_is_64(cpu) ? 0 : cpu->s.seg[CPU_CS].base;

	mem_write_bytes(cpu, (base + op->rip) & cpu->lin_mask, vmmcall, sizeof(vmmcall));
	cpu->s.rip = op->rip;
	if (unlikely(cpu_needs_look(cpu)))
		cpu_leave(cpu, LEAVE_DONE);
}

static bool may_rewrite(struct cpu *cpu)
{
	uint32_t guest = owner_begin(cpu);
	bool may = cpu->p->ops->may_rewrite_vmcall(cpu->p->ops_state);

	host_mxcsr_set(guest);
	return may;
}

/* op->sub is 1 for VMCALL. */
static void op_hypercall(struct cpu *cpu, const struct op *op)
{
	const struct cpu_ops *ops = cpu->p->ops;

	if (op->sub && ops->may_rewrite_vmcall != NULL && ops->hypercall != NULL) {
		/* A nested guest's, too, as KVM; but a hypervisor that asks for the #UD may rewrite it as it likes. */
		if (svm_intercepts(cpu, SVM_EXIT_EXCEPTION + VECTOR_UD) || !may_rewrite(cpu))
			cpu_ud(cpu);
		rewrite_vmcall(cpu, op);
		return;
	}
	if (!op->sub)
		svm_check(cpu, SVM_EXIT_VMMCALL);
	if (ops->hypercall == NULL || cpu->s.svm.guest) /* a nested guest's calls are for its hypervisor, or nobody */
		cpu_ud(cpu);
	cpu_leave_exit(cpu, CPU_EXIT_HYPERCALL, COMPLETE_STEP);
}

/* At any privilege level, and only in SMM. */
static void op_rsm(struct cpu *cpu, const struct op *op)
{
	(void)op;
	svm_check(cpu, SVM_EXIT_RSM);
	if (!cpu->s.events.smi.smm)
		cpu_ud(cpu);
	cpu_leave_exit(cpu, EXIT_RSM, COMPLETE_NONE);
}

static bool has_monitor(struct cpu *cpu)
{
	uint32_t out[4];

	if (cpu->p->ops->has_monitor != NULL) {
		uint32_t guest = owner_begin(cpu);
		bool has = cpu->p->ops->has_monitor(cpu->p->ops_state);

		owner_end(guest);
		return has;
	}
	cpu_cpuid(cpu, 1, 0, out);
	return out[2] & 1u << 3;
}

/*
 * The address is checked as for the read of a byte, and ECX may ask for nothing. As in AMD's processors, all that
 * comes before the intercept.
 */
static void op_monitor(struct cpu *cpu, const struct op *op)
{
	uint64_t ea = cpu->s.gpr[CPU_RAX];

	if (cpu->cpl != 0 || !has_monitor(cpu))
		cpu_ud(cpu);
	if ((uint32_t)cpu->s.gpr[CPU_RCX] != 0)
		cpu_gp(cpu);
	if (op->asize != 8)
		ea &= op->asize == 4 ? 0xffffffffu : 0xffffu;
	mem_check_read(cpu, seg_linear(cpu, op->seg, ea, 1, false), 1);
	svm_check(cpu, SVM_EXIT_MONITOR);
	cpu->p->svm.monitor_armed = true;
}

/*
 * MWAIT does not wait. Where it might have waited, the conditional intercept comes before the other. ECX may ask that
 * interrupts wake it even while they are masked.
 */
static void op_mwait(struct cpu *cpu, const struct op *op)
{
	(void)op;
	if (cpu->cpl != 0 || !has_monitor(cpu))
		cpu_ud(cpu);
	if ((uint32_t)cpu->s.gpr[CPU_RCX] > 1)
		cpu_gp(cpu);
	if (cpu->p->svm.monitor_armed)
		svm_check(cpu, SVM_EXIT_MWAIT_ARMED);
	svm_check(cpu, SVM_EXIT_MWAIT);
	cpu->p->svm.monitor_armed = false;
}

static void op_pause(struct cpu *cpu, const struct op *op)
{
	(void)op;
	if (svm_intercepts(cpu, SVM_EXIT_PAUSE) && intercept_pause(cpu))
		svm_exit(cpu, SVM_EXIT_PAUSE, 0, 0);
}

/* The decoder knows of no memory operand, and so of no segment. */
static op_fn *select_monitor(const struct insn *insn, struct op *op)
{
	static const struct {
		uint8_t prefix, seg;
	} overrides[] = {
		{ 0x26, CPU_ES }, { 0x2e, CPU_CS }, { 0x36, CPU_SS }, { 0x3e, CPU_DS },
		{ 0x64, CPU_FS }, { 0x65, CPU_GS },
	};

	for (unsigned i = 0; i < insn->z->raw.prefix_count; i++) {
		for (unsigned n = 0; n < sizeof(overrides) / sizeof(overrides[0]); n++)
			if (insn->z->raw.prefixes[i].value == overrides[n].prefix && (insn->bits != 64 || n >= 4))
				op->seg = overrides[n].seg;
	}
	op->flags |= OPF_HIDDEN;
	return op_monitor;
}

/* ---- selection ------------------------------------------------------------------------------------------- */

static op_fn *select_here(const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_PUSHF: case ZYDIS_MNEMONIC_PUSHFD: case ZYDIS_MNEMONIC_PUSHFQ: return op_pushf;
	case ZYDIS_MNEMONIC_POPF: case ZYDIS_MNEMONIC_POPFD: case ZYDIS_MNEMONIC_POPFQ: return ends(op, op_popf);
	case ZYDIS_MNEMONIC_CLI: return op_cli;
	case ZYDIS_MNEMONIC_STI: return ends(op, op_sti);
	case ZYDIS_MNEMONIC_STAC: return with(op, 1, op_stac);
	case ZYDIS_MNEMONIC_CLAC: return with(op, 0, op_stac);
	case ZYDIS_MNEMONIC_INVLPG: return ends(op, op_invlpg);
	case ZYDIS_MNEMONIC_INVPCID: return ends(op, op_invpcid);
	case ZYDIS_MNEMONIC_INVD: return with(op, 0, op_wbinvd);
	case ZYDIS_MNEMONIC_WBINVD: return with(op, 1, op_wbinvd);
	case ZYDIS_MNEMONIC_CLFLUSH: case ZYDIS_MNEMONIC_CLFLUSHOPT: case ZYDIS_MNEMONIC_CLWB: return op_clflush;
	case ZYDIS_MNEMONIC_HLT: return ends(op, op_hlt);
	case ZYDIS_MNEMONIC_VMCALL: return with(op, 1, ends(op, op_hypercall));
	case ZYDIS_MNEMONIC_VMMCALL: return with(op, 0, ends(op, op_hypercall));
	case ZYDIS_MNEMONIC_RSM: return ends(op, op_rsm);
	case ZYDIS_MNEMONIC_MONITOR: return select_monitor(insn, op);
	case ZYDIS_MNEMONIC_MWAIT: return op_mwait;
	case ZYDIS_MNEMONIC_PAUSE: return op_pause;
	default: return NULL;
	}
}

static op_fn *select_nothing(const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_UD0: case ZYDIS_MNEMONIC_UD1: case ZYDIS_MNEMONIC_UD2:
		return ends(op, op_undefined);
	case ZYDIS_MNEMONIC_NOP: case ZYDIS_MNEMONIC_LFENCE: case ZYDIS_MNEMONIC_SFENCE:
	case ZYDIS_MNEMONIC_ENDBR32: case ZYDIS_MNEMONIC_ENDBR64: case ZYDIS_MNEMONIC_PREFETCH:
	case ZYDIS_MNEMONIC_PREFETCHNTA: case ZYDIS_MNEMONIC_PREFETCHT0: case ZYDIS_MNEMONIC_PREFETCHT1:
	case ZYDIS_MNEMONIC_PREFETCHT2: case ZYDIS_MNEMONIC_PREFETCHW: case ZYDIS_MNEMONIC_PREFETCHWT1:
	case ZYDIS_MNEMONIC_SERIALIZE:
		return op_nop;
	default:
		return NULL;
	}
}

static void op_mfence(struct cpu *cpu, const struct op *op)
{
	(void)cpu;
	(void)op;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

op_fn *sys_select(const struct insn *insn, struct op *op)
{
	op_fn *fn = jump_select(insn, op);

	if (fn == NULL)
		fn = io_select(insn, op);
	if (fn == NULL)
		fn = sys_control_select(insn, op);
	if (fn == NULL)
		fn = sys_descriptor_select(insn, op);
	if (fn == NULL)
		fn = sys_segment_select(insn, op);
	if (fn == NULL)
		fn = sys_info_select(insn, op);
	if (fn == NULL)
		fn = sys_svm_select(insn, op);
	if (fn == NULL)
		fn = select_here(insn, op);
	if (fn == NULL && insn->z->mnemonic == ZYDIS_MNEMONIC_MFENCE)
		fn = op_mfence;
	if (fn == NULL)
		fn = select_nothing(insn, op);
	return fn;
}

/* SPDX-License-Identifier: MIT */
/*
 * AMD SVM: VMRUN, VMLOAD and VMSAVE (APM vol. 2, 15.5). All of it runs outside the guest.
 *
 * Other CPUs of the guest may change a VMCB at any time. So it is read once, and what was read is checked and loaded.
 */
#include <string.h>

#include "cpu/base/flags.h"
#include "cpu/memory/tlb.h"
#include "cpu/system/control.h"
#include "cpu/system/intercept.h"
#include "cpu/system/seg.h"
#include "cpu/system/shadow_regs.h"
#include "cpu/system/svm_int.h"

/* The fields of a VMCB's control area that processors without SEV-ES and AVIC have. */
#define CONTROL_BYTES 0xe0u

static enum vmmu_status read_part(struct cpu *cpu, uint64_t at, struct vmcb *to, size_t first, size_t end)
{
	return vmmu_guest_read(cpu->p->vcpu, (struct vmmu_gpa){ at + first }, (char *)to + first, end - first);
}

static enum vmmu_status vmcb_read(struct cpu *cpu, uint64_t at, struct vmcb *vmcb)
{
	enum vmmu_status status = read_part(cpu, at, vmcb, 0, CONTROL_BYTES);

	if (status != VMMU_OK)
		return status;
	return read_part(cpu, at, vmcb, VMCB_SAVE, offsetof(struct vmcb, save.debugctl));
}

/* ---- guest mode on and off ------------------------------------------------------------------------------- */

bool svm_is_nested(const struct cpu *cpu)
{
	return svm_control_const(cpu)->nested & NESTED_PAGING;
}

const struct vmmu_nested *svm_nested(struct cpu *cpu, struct vmmu_nested *to)
{
	if (!svm_is_nested(cpu))
		return NULL;
	*to = (struct vmmu_nested){
		.format = VMMU_NESTED_NPT, .root = svm_control(cpu)->nested_cr3, .cr4 = cpu->s.svm.host.cr4,
		.efer = cpu->s.svm.host.efer, .gbpages = cpu->p->gbpages,
		.phys_bits = (unsigned)__builtin_popcountll(cpu->p->phys_mask),
	};
	return to;
}

enum vmmu_status svm_guest_attach(struct cpu *cpu)
{
	struct vmmu_nested nested;

	if (svm_nested(cpu, &nested) != NULL) {
		enum vmmu_status status = vmmu_nested_enter(cpu->p->vcpu, &nested);

		if (status != VMMU_OK)
			return status;
		cpu->p->svm.attached = true;
	}
	memcpy(cpu->p->svm.intercepts, svm_control(cpu)->intercepts, sizeof(cpu->p->svm.intercepts));
	cpu->s.svm.guest = true;
	return VMMU_OK;
}

void svm_guest_detach(struct cpu *cpu)
{
	if (cpu->p->svm.attached)
		vmmu_nested_leave(cpu->p->vcpu);
	cpu->p->svm.attached = false;
	memset(cpu->p->svm.intercepts, 0, sizeof(cpu->p->svm.intercepts));
	cpu->s.svm.guest = false;
}

/* ---- VMRUN ----------------------------------------------------------------------------------------------- */

static void host_save(struct cpu *cpu)
{
	const struct cpu_state *s = &cpu->s;
	struct cpu_svm *svm = &cpu->s.svm;

	svm->host.es = s->seg[CPU_ES];
	svm->host.cs = s->seg[CPU_CS];
	svm->host.ss = s->seg[CPU_SS];
	svm->host.ds = s->seg[CPU_DS];
	svm->host.gdt = s->gdt;
	svm->host.idt = s->idt;
	svm->host.efer = s->efer;
	svm->host.cr0 = s->cr0;
	svm->host.cr3 = s->cr3;
	svm->host.cr4 = s->cr4;
	svm->host.rflags = rflags_get(cpu) & ~RFLAGS_RF;
	svm->host.rip = cpu->p->complete_next;
	svm->host.rsp = s->gpr[CPU_RSP];
	svm->host.rax = s->gpr[CPU_RAX];
	svm->host.pat = s->pat;
	svm->host_if = s->rflags & RFLAGS_IF;
}

static void control_load(struct cpu *cpu, const struct vmcb *vmcb)
{
	struct vmcb_control *control = svm_control(cpu);
	struct svm_private *svm = &cpu->p->svm;

	_Static_assert(sizeof(svm->found.control) == CONTROL_BYTES, "what is read");
	_Static_assert(VMCB_SAVE + sizeof(svm->found.save) == offsetof(struct vmcb, save.debugctl), "what is read");
	memset(control, 0, sizeof(*control));
	memcpy(control, &vmcb->control, CONTROL_BYTES);
	memcpy(svm->found.control, &vmcb->control, CONTROL_BYTES);
	memcpy(svm->found.save, &vmcb->save, sizeof(svm->found.save));
	svm->found.valid = true;
	/* Bits of addresses that processors ignore. */
	control->iopm &= ~UINT64_C(0xfff);
	control->msrpm &= ~UINT64_C(0xfff);
}

static void segments_load(struct cpu *cpu, const struct vmcb_save *save)
{
	struct cpu_state *s = &cpu->s;
	struct cpu_segment *cs = &s->seg[CPU_CS];

	s->seg[CPU_ES] = svm_segment_unpack(cpu, &save->es);
	*cs = svm_segment_unpack(cpu, &save->cs);
	s->seg[CPU_SS] = svm_segment_unpack(cpu, &save->ss);
	s->seg[CPU_DS] = svm_segment_unpack(cpu, &save->ds);
	/* CS is present and code whatever its other attributes say. */
	cs->present = cs->s = 1;
	cs->unusable = 0;
	cs->type |= 8 | 1;
	/* The CPL, of which the CPU keeps no other copy. */
	s->seg[CPU_SS].dpl = !(save->cr0 & CR0_PE) ? 0 : save->rflags & RFLAGS_VM ? 3 : save->cpl & 3;
	s->gdt = svm_table_unpack(cpu, &save->gdtr);
	s->idt = svm_table_unpack(cpu, &save->idtr);
}

#define CR0_LOADED (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)

static void guest_load(struct cpu *cpu, const struct vmcb_save *save)
{
	struct cpu_state *s = &cpu->s;
	bool is_long = (save->efer & EFER_LME) && (save->cr0 & CR0_PG);

	segments_load(cpu, save);
	s->efer = (save->efer & ~EFER_LMA) | (is_long ? EFER_LMA : 0);
	s->cr0 = (save->cr0 & CR0_LOADED) | CR0_ET;
	s->cr2 = save->cr2;
	s->cr3 = is_long ? save->cr3 : (uint32_t)save->cr3;
	s->cr4 = save->cr4;
	s->dr[6] = (save->dr6 & DR6_WRITABLE) | DR6_FIXED1;
	s->dr[7] = (save->dr7 & DR7_WRITABLE) | DR7_FIXED1;
	s->rip = save->rip;
	s->gpr[CPU_RSP] = save->rsp;
	s->gpr[CPU_RAX] = save->rax;
	if (svm_is_nested(cpu))
		s->pat = save->pat;
	rflags_set(cpu, save->rflags);
	cpu->p->shadow.regs_written = cpu->p->shadow.owner_wrote = true;
}

/* Nothing was loaded. The VMCB says so, and VMRUN is complete. */
static enum vmmu_status vmrun_invalid(struct cpu *cpu, struct vmcb *vmcb)
{
	struct vmcb_control *c = &vmcb->control;
	enum vmmu_status status;

	c->exit_code = SVM_EXIT_INVALID;
	c->exit_info1 = c->exit_info2 = c->exit_int_info = c->event_inject = c->next_rip = 0;
	status = svm_parts_write(cpu, cpu->p->svm.operand, vmcb, true);
	if (status == VMMU_OK)
		cpu->s.svm.gif = false;
	return status;
}

static void tlb_command(struct cpu *cpu, const struct vmcb_control *control)
{
	if (control->tlb_control == TLB_CONTROL_ALL)
		tlb_flush_asids(cpu);
	else if (control->tlb_control != TLB_CONTROL_NOTHING)
		tlb_flush_asid(cpu, control->asid);
}

/*
 * PAE paging reads the four PDPTEs with CR3. With nested paging it does not: there they are entries like others (APM
 * vol. 2, 15.25.10).
 */
static bool pdptes_legal(struct cpu *cpu, const struct vmcb *vmcb)
{
	const struct vmcb_save *save = &vmcb->save;

	return (vmcb->control.nested & NESTED_PAGING) || (save->efer & EFER_LME) || !(save->cr0 & CR0_PG) ||
	       !(save->cr4 & CR4_PAE) || cpu_pdptes_legal(cpu, save->cr3);
}

static enum vmmu_status vmrun(struct cpu *cpu)
{
	struct cpu_state *s = &cpu->s;
	struct vmmu_nested nested;
	struct vmcb vmcb;
	enum vmmu_status status = vmcb_read(cpu, cpu->p->svm.operand, &vmcb);

	if (status != VMMU_OK)
		return status;
	if (!svm_vmcb_legal(cpu, &vmcb, s->cr0) || !pdptes_legal(cpu, &vmcb))
		return vmrun_invalid(cpu, &vmcb);
	host_save(cpu);
	control_load(cpu, &vmcb);
	s->svm.vmcb_pa = cpu->p->svm.operand;
	tlb_context_leave(cpu);
	status = svm_guest_attach(cpu);
	if (status != VMMU_OK) {
		tlb_context_enter(cpu, TLB_ASID_HOST, NULL);
		return status == VMMU_EINVAL ? vmrun_invalid(cpu, &vmcb) : status;
	}
	tlb_command(cpu, &vmcb.control);
	guest_load(cpu, &vmcb.save);
	s->svm.gif = true;
	s->events.shadow = vmcb.control.interrupt_shadow & SHADOW_GUEST ? CPU_SHADOW_STI : 0;
	tlb_context_enter(cpu, vmcb.control.asid, svm_nested(cpu, &nested));
	mode_update(cpu);
	intercept_reset(cpu);
	svm_control(cpu)->event_inject = 0;
	svm_event_inject(cpu, vmcb.control.event_inject);
	return VMMU_OK;
}

/* ---- VMLOAD and VMSAVE ----------------------------------------------------------------------------------- */

bool svm_operand_is_virtual(struct cpu *cpu, unsigned exit)
{
	const struct cpu_svm *svm = &cpu->s.svm;

	if (!svm->guest || !cpu->p->svm.has_virtual_vmload || !(svm_control(cpu)->virtual_extension & VIRTUAL_VMLOAD))
		return false;
	if (!svm_is_nested(cpu) || !(svm->host.efer & EFER_LMA) || !svm->host.cs.l)
		svm_exit(cpu, exit, 0, 0);
	return true;
}

static enum vmmu_status vmload(struct cpu *cpu)
{
	struct cpu_state *s = &cpu->s;
	struct vmcb vmcb;
	enum vmmu_status status = read_part(cpu, cpu->p->svm.operand, &vmcb, offsetof(struct vmcb, save.fs),
	                                    offsetof(struct vmcb, save.cr2));

	if (status != VMMU_OK)
		return status;
	s->seg[CPU_FS] = svm_segment_unpack(cpu, &vmcb.save.fs);
	s->seg[CPU_GS] = svm_segment_unpack(cpu, &vmcb.save.gs);
	s->seg[CPU_TR] = svm_segment_unpack(cpu, &vmcb.save.tr);
	s->seg[CPU_LDTR] = svm_segment_unpack(cpu, &vmcb.save.ldtr);
	s->kernel_gs_base = svm_canonical(cpu, vmcb.save.kernel_gs_base);
	s->star = vmcb.save.star;
	s->lstar = svm_canonical(cpu, vmcb.save.lstar);
	s->cstar = svm_canonical(cpu, vmcb.save.cstar);
	s->sfmask = vmcb.save.sfmask;
	s->sysenter_cs = vmcb.save.sysenter_cs;
	s->sysenter_esp = svm_canonical(cpu, vmcb.save.sysenter_esp);
	s->sysenter_eip = svm_canonical(cpu, vmcb.save.sysenter_eip);
	mode_update(cpu);
	return VMMU_OK;
}

static enum vmmu_status vmsave(struct cpu *cpu)
{
	static const struct part {
		size_t first, end;
	} parts[] = {
		{ offsetof(struct vmcb, save.fs), offsetof(struct vmcb, save.gdtr) },
		{ offsetof(struct vmcb, save.ldtr), offsetof(struct vmcb, save.idtr) },
		{ offsetof(struct vmcb, save.tr), offsetof(struct vmcb, save.reserved_4a0) },
		{ offsetof(struct vmcb, save.star), offsetof(struct vmcb, save.cr2) },
	};
	const struct cpu_state *s = &cpu->s;
	enum vmmu_status status = VMMU_OK;
	struct vmcb vmcb;

	vmcb.save.fs = svm_segment_pack(&s->seg[CPU_FS]);
	vmcb.save.gs = svm_segment_pack(&s->seg[CPU_GS]);
	vmcb.save.tr = svm_segment_pack(&s->seg[CPU_TR]);
	vmcb.save.ldtr = svm_segment_pack(&s->seg[CPU_LDTR]);
	vmcb.save.kernel_gs_base = s->kernel_gs_base;
	vmcb.save.star = s->star;
	vmcb.save.lstar = s->lstar;
	vmcb.save.cstar = s->cstar;
	vmcb.save.sfmask = s->sfmask;
	vmcb.save.sysenter_cs = s->sysenter_cs;
	vmcb.save.sysenter_esp = s->sysenter_esp;
	vmcb.save.sysenter_eip = s->sysenter_eip;
	for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]) && status == VMMU_OK; i++)
		status = vmmu_guest_write(cpu->p->vcpu, (struct vmmu_gpa){ cpu->p->svm.operand + parts[i].first },
		                          (const char *)&vmcb + parts[i].first, parts[i].end - parts[i].first);
	return status;
}

enum vmmu_status svm_operate(struct cpu *cpu)
{
	switch (cpu->p->svm.operation) {
	case SVM_VMRUN: return vmrun(cpu);
	case SVM_VMLOAD: return vmload(cpu);
	default: return vmsave(cpu);
	}
}

/* SPDX-License-Identifier: MIT */
/* AMD SVM for the CPU's owner: a nested guest is saved, restored and given up; what ends a HLT. */
#include <string.h>

#include "cpu/base/flags.h"
#include "cpu/system/control.h"
#include "cpu/system/svm_int.h"
#include "cpu/system/svm_owner.h"

#define RFLAGS_ALL UINT64_C(0x3f7fd7) /* the bits that exist */

/* ---- state ------------------------------------------------------------------------------------------------- */

/* What VMRUN does not save, L1 has in the registers while its guest runs. It is shown, too, as it is there now. */
static void save_registers(const struct cpu_state *s, struct vmcb_save *out)
{
	out->fs = svm_segment_pack(&s->seg[CPU_FS]);
	out->gs = svm_segment_pack(&s->seg[CPU_GS]);
	out->ldtr = svm_segment_pack(&s->seg[CPU_LDTR]);
	out->tr = svm_segment_pack(&s->seg[CPU_TR]);
	out->star = s->star;
	out->lstar = s->lstar;
	out->cstar = s->cstar;
	out->sfmask = s->sfmask;
	out->kernel_gs_base = s->kernel_gs_base;
	out->sysenter_cs = s->sysenter_cs;
	out->sysenter_esp = s->sysenter_esp;
	out->sysenter_eip = s->sysenter_eip;
	out->pat = s->svm.host.pat;
}

void cpu_nested_get(struct cpu *cpu, void *vmcb)
{
	const struct cpu_svm *svm = &cpu->s.svm;
	struct vmcb_save save = { 0 };

	memset(vmcb, 0, CPU_VMCB_BYTES);
	memcpy(vmcb, svm->control, sizeof(svm->control));
	save_registers(&cpu->s, &save);
	save.es = svm_segment_pack(&svm->host.es);
	save.cs = svm_segment_pack(&svm->host.cs);
	save.ss = svm_segment_pack(&svm->host.ss);
	save.ds = svm_segment_pack(&svm->host.ds);
	save.gdtr = svm_table_pack(&svm->host.gdt);
	save.idtr = svm_table_pack(&svm->host.idt);
	save.efer = svm->host.efer;
	save.cr0 = svm->host.cr0;
	save.cr3 = svm->host.cr3;
	save.cr4 = svm->host.cr4;
	/* #VMEXIT disables L1's breakpoints, so these are what L1 will have. */
	save.dr6 = DR6_FIXED1;
	save.dr7 = DR7_FIXED1;
	save.rflags = svm->host.rflags;
	save.rip = svm->host.rip;
	save.rsp = svm->host.rsp;
	save.rax = svm->host.rax;
	memcpy((char *)vmcb + VMCB_SAVE, &save, sizeof(save));
}

static void host_load(struct cpu *cpu, const struct vmcb_save *save)
{
	struct cpu_svm *svm = &cpu->s.svm;

	svm->host.es = svm_segment_unpack(cpu, &save->es);
	svm->host.cs = svm_segment_unpack(cpu, &save->cs);
	svm->host.ss = svm_segment_unpack(cpu, &save->ss);
	svm->host.ds = svm_segment_unpack(cpu, &save->ds);
	svm->host.gdt = svm_table_unpack(cpu, &save->gdtr);
	svm->host.idt = svm_table_unpack(cpu, &save->idtr);
	svm->host.efer = save->efer & ~EFER_LMA;
	if (save->efer & EFER_LME) /* CR0.PG is set */
		svm->host.efer |= EFER_LMA;
	svm->host.cr0 = save->cr0;
	svm->host.cr3 = save->cr3;
	svm->host.cr4 = save->cr4;
	svm->host.rflags = (save->rflags & RFLAGS_ALL) | RFLAGS_FIXED1;
	svm->host.rip = save->rip;
	svm->host.rsp = save->rsp;
	svm->host.rax = save->rax;
	svm->host.pat = cpu_pat_is_legal(save->pat) ? save->pat : cpu->s.pat;
	svm->host_if = save->rflags & RFLAGS_IF;
}

bool svm_guest_restore(struct cpu *cpu, uint64_t vmcb_pa, const struct vmcb *vmcb)
{
	const uint64_t needed = CR0_PE | CR0_PG;
	struct cpu_svm *svm = &cpu->s.svm;

	/* The rules for what VMRUN loads hold for L1's own state, too. */
	if (!svm_vmcb_legal(cpu, vmcb, vmcb->save.cr0) || (vmcb->save.cr0 & needed) != needed ||
	    vmcb->save.rflags & RFLAGS_VM)
		return false;
	memcpy(svm->control, &vmcb->control, sizeof(svm->control));
	host_load(cpu, &vmcb->save);
	svm->vmcb_pa = vmcb_pa;
	svm->guest = true;
	svm_state_changed(cpu);
	/* The next cpu_run attaches the rest. These decide before it what ends a HLT, and what becomes of an INIT. */
	memcpy(cpu->p->svm.intercepts, vmcb->control.intercepts, sizeof(cpu->p->svm.intercepts));
	return true;
}

bool cpu_nested_set(struct cpu *cpu, uint64_t vmcb_pa, const void *from)
{
	struct vmcb vmcb;

	memcpy(&vmcb, from, sizeof(vmcb));
	return svm_guest_restore(cpu, vmcb_pa, &vmcb);
}

void cpu_nested_leave(struct cpu *cpu)
{
	if (!cpu->s.svm.guest)
		return;
	cpu->s.svm.guest = false;
	svm_state_changed(cpu);
}

bool cpu_nested_inject(struct cpu *cpu)
{
	struct vmcb_control *control = svm_control(cpu);
	uint64_t event = control->event_inject;

	if (!cpu->s.svm.guest || !(event & EVENT_VALID))
		return false;
	control->event_inject &= ~EVENT_VALID;
	svm_event_inject(cpu, event);
	return true;
}

bool cpu_nested_paging(const struct cpu *cpu)
{
	return cpu->s.svm.guest && svm_is_nested(cpu);
}

/* ---- what comes from outside --------------------------------------------------------------------------------- */

bool cpu_event_wakes(struct cpu *cpu)
{
	const struct cpu_events *e = &cpu->s.events;

	if (e->exception.pending || e->exception.injected || e->interrupt.injected || e->nmi.injected)
		return true;
	if (!cpu->s.svm.gif)
		return false;
	if ((e->smi.pending && !e->smi.smm) || (e->nmi.pending && !e->nmi.masked))
		return true;
	return cpu->s.svm.guest && (svm_virtual_possible(cpu) || svm_event_possible(cpu));
}

/* SPDX-License-Identifier: MIT */
/* What VMRUN refuses by VMEXIT_INVALID (APM vol. 2, 15.5.1 and 15.20). */
#include "cpu/system/control.h"
#include "cpu/system/svm_int.h"

#define IOPM_BYTES  (3u * 4096u)
#define MSRPM_BYTES (2u * 4096u)

/* Does a map of so many bytes end below the highest physical address? As in KVM, an odd address counts from its end. */
static bool map_legal(const struct cpu *cpu, uint64_t at, unsigned bytes)
{
	uint64_t first = (at + 0xfff) & ~UINT64_C(0xfff), mask = cpu->p->phys_mask;

	return at <= mask && first <= mask && first + bytes - 1 <= mask;
}

static bool intercepted(const struct vmcb_control *control, unsigned exit)
{
	return control->intercepts[exit / 32] >> exit % 32 & 1;
}

static bool tlb_control_legal(unsigned command)
{
	return command == TLB_CONTROL_NOTHING || command == TLB_CONTROL_ALL || command == TLB_CONTROL_ASID ||
	       command == TLB_CONTROL_ASID_LOCAL;
}

static bool control_legal(const struct cpu *cpu, const struct vmcb_control *control, uint64_t l1_cr0)
{
	if (!intercepted(control, SVM_EXIT_VMRUN) || control->asid == 0 || !tlb_control_legal(control->tlb_control))
		return false;
	if (control->nested & NESTED_PAGING) {
		if (!cpu->p->svm.has_npt || !(l1_cr0 & CR0_PG) || (control->nested_cr3 & ~cpu->p->phys_mask))
			return false;
	}
	return map_legal(cpu, control->iopm, IOPM_BYTES) && map_legal(cpu, control->msrpm, MSRPM_BYTES) &&
	       svm_event_legal(control->event_inject);
}

/* The descriptor of CS has L and D set, which no 64-bit code has. */
static bool code_contradicts(const struct vmcb_segment *cs)
{
	return (cs->attributes >> 9 & 1) && (cs->attributes >> 10 & 1);
}

static bool save_legal(const struct cpu *cpu, const struct vmcb_save *save)
{
	bool is_long = (save->efer & EFER_LME) && (save->cr0 & CR0_PG);

	if (!(save->efer & EFER_SVME) || (save->efer & ~cpu->p->efer_valid))
		return false;
	if ((save->cr0 & CR0_NW) && !(save->cr0 & CR0_CD))
		return false;
	if (save->cr0 >> 32 || save->dr6 >> 32 || save->dr7 >> 32 || (save->cr4 & ~cpu->p->cr4_valid))
		return false;
	if (!is_long)
		return true;
	return (save->cr4 & CR4_PAE) && (save->cr0 & CR0_PE) && !(save->cr3 & ~cpu->p->phys_mask) &&
	       !code_contradicts(&save->cs);
}

/* #BR in 64-bit mode, which has no BOUND. */
static bool event_impossible(const struct vmcb *vmcb)
{
	const struct vmcb_save *save = &vmcb->save;
	const uint64_t br = EVENT_VALID | EVENT_TYPE_EXCEPTION << EVENT_TYPE_SHIFT | VECTOR_BR;
	const uint64_t mask = EVENT_VALID | UINT64_C(7) << EVENT_TYPE_SHIFT | EVENT_VECTOR;

	return (vmcb->control.event_inject & mask) == br && (save->efer & EFER_LME) && (save->cr0 & CR0_PG) &&
	       (save->cs.attributes >> 9 & 1);
}

bool svm_vmcb_legal(struct cpu *cpu, const struct vmcb *vmcb, uint64_t l1_cr0)
{
	bool nested = vmcb->control.nested & NESTED_PAGING;

	return control_legal(cpu, &vmcb->control, l1_cr0) && save_legal(cpu, &vmcb->save) && !event_impossible(vmcb) &&
	       (!nested || cpu_pat_is_legal(vmcb->save.pat));
}

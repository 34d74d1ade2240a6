/* SPDX-License-Identifier: MIT */
/* A CPU's birth, reset and death, and changes of its state from outside. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/base/private.h"
#include "cpu/decode/block.h"
#include "cpu/fpu/x87.h"
#include "cpu/memory/codemap.h"
#include "cpu/memory/tlb.h"
#include "cpu/system/cpuid.h"
#include "cpu/system/debug.h"
#include "cpu/system/seg.h"
#include "cpu/system/smm.h"
#include "cpu/system/svm.h"

/* Pages that are never touched cost nothing, so that 2048 CPUs that never run are cheap. */
static void *zeroed(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

struct cpu *cpu_create(struct vmmu_vcpu *vcpu, const struct cpu_ops *ops, void *state, struct cpu_vm *vm)
{
	struct cpu *cpu = zeroed(sizeof(struct cpu));

	if (cpu == NULL)
		return NULL;
	cpu->p = zeroed(sizeof(struct cpu_private));
	if (cpu->p == NULL) {
		munmap(cpu, sizeof(struct cpu));
		return NULL;
	}
	cpu->p->vcpu = vcpu;
	cpu->p->ops = ops;
	cpu->p->ops_state = state;
	cpu->p->vm = vm;
	cpu->p->context = &cpu->p->contexts[0];
	cpu->p->delivering = -1;
	cpu->p->step_past = cpu->p->rep_rip = ~UINT64_C(0);
	cpu_reset(cpu, false);
	if (!codemap_cpu_add(vm, cpu)) {
		munmap(cpu->p, sizeof(struct cpu_private));
		munmap(cpu, sizeof(struct cpu));
		return NULL;
	}
	return cpu;
}

void cpu_destroy(struct cpu *cpu)
{
	codemap_cpu_remove(cpu->p->vm, cpu);
	block_memory_fini(cpu);
	munmap(cpu->p, sizeof(struct cpu_private));
	munmap(cpu, sizeof(struct cpu));
}

struct cpu_state *cpu_state(struct cpu *cpu)
{
	return &cpu->s;
}

static struct cpu_segment reset_segment(uint8_t type, uint8_t s)
{
	return (struct cpu_segment){ .limit = 0xffff, .type = type, .present = 1, .s = s };
}

static void reset_fpu(struct cpu_state *s)
{
	memset(&s->fx, 0, sizeof(s->fx));
	memset(&s->vectors, 0, sizeof(s->vectors));
	s->fx.fcw = 0x37f; /* what KVM gives a new vCPU: as after FNINIT */
	s->fx.mxcsr = 0x1f80;
	s->fx.mxcsr_mask = 0xffff;
	s->xcr0 = 1;
}

void cpu_reset(struct cpu *cpu, bool init)
{
	struct cpu_state old = cpu->s, *s = &cpu->s;

	memset(s, 0, sizeof(*s));
	s->rip = 0xfff0;
	s->rflags = RFLAGS_FIXED1;
	s->gpr[CPU_RDX] = 0xf61;
	for (unsigned i = CPU_ES; i <= CPU_GS; i++)
		s->seg[i] = reset_segment(3, 1);
	s->seg[CPU_CS].type = 11;
	s->seg[CPU_CS].selector = 0xf000;
	s->seg[CPU_CS].base = 0xffff0000;
	s->seg[CPU_LDTR] = reset_segment(2, 0);
	s->seg[CPU_TR] = reset_segment(11, 0);
	s->gdt.limit = s->idt.limit = 0xffff;
	s->cr0 = CR0_ET | CR0_NW | CR0_CD;
	s->dr[6] = 0xffff0ff0;
	s->dr[7] = 0x400;
	s->apic_base = 0xfee00900;
	s->pat = UINT64_C(0x0007040600070406);
	s->smbase = 0x30000;
	s->svm.gif = true;
	s->misc_enable = 0x1800; /* no branch trace storage, no precise events */
	reset_fpu(s);
	if (init) {
		s->cr0 = CR0_ET | (old.cr0 & (CR0_NW | CR0_CD));
		s->fx = old.fx;
		s->vectors = old.vectors;
		s->xcr0 = old.xcr0;
		s->xss = old.xss;
		s->pkru = old.pkru;
		s->star = old.star;
		s->lstar = old.lstar;
		s->cstar = old.cstar;
		s->sfmask = old.sfmask;
		s->kernel_gs_base = old.kernel_gs_base;
		s->pat = old.pat;
		s->tsc_aux = old.tsc_aux;
		s->tsc_offset = old.tsc_offset;
		s->tsc_ratio = old.tsc_ratio;
		s->apic_base = old.apic_base;
		s->misc_enable = old.misc_enable;
		s->smbase = old.smbase;
		s->svm.vm_cr = old.svm.vm_cr;
		s->svm.hsave_pa = old.svm.hsave_pa;
	} else {
		s->tsc_ratio = CPU_TSC_RATIO_ONE;
		s->tsc_offset = 0 - cpu_tsc(cpu); /* counts from 0 */
	}
	/* The instruction of the last exit is not completed any more: the reset was first. */
	cpu->p->completion = COMPLETE_NONE;
	cpu->p->completing = false;
	cpu_state_changed(cpu, CPU_CHANGED_ALL);
}

void cpu_state_changed(struct cpu *cpu, unsigned what)
{
	if (what & CPU_CHANGED_SMM)
		smm_address_space(cpu);
	if (what & CPU_CHANGED_SVM)
		svm_state_changed(cpu);
	if (what & CPU_CHANGED_CPUID)
		features_update(cpu);
	if (what & (CPU_CHANGED_PAGING | CPU_CHANGED_CPUID)) {
		tlb_flush_contexts(cpu);
		cpu->p->shadow.regs_written = cpu->p->shadow.owner_wrote = true;
	}
	if (what & (CPU_CHANGED_MODE | CPU_CHANGED_PAGING))
		cpu->p->task.loading = false;
	if (what & (CPU_CHANGED_MODE | CPU_CHANGED_RFLAGS | CPU_CHANGED_PAGING))
		mode_update(cpu);
	if (what & CPU_CHANGED_FPU)
		cpu->s.fx.fsw = x87_status(cpu->s.fx.fsw, cpu->s.fx.fcw);
	if (what & CPU_CHANGED_DEBUG)
		debug_arm(cpu);
}

/* SPDX-License-Identifier: MIT */
/* The hypervisor of hypervisor.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "guest_asm.h"
#include "hypervisor.h"

GUEST_ASM(host_loop, "1: vmrun \n out %al, $0x70 \n jmp 1b")
GUEST_ASM(l2_vmmcall, "vmmcall \n hlt")

struct vmcb *l1_vmcb(struct guest *g)
{
	return (struct vmcb *)(void *)(g->ram + VMCB);
}

void l1_intercept(struct guest *g, unsigned exit)
{
	l1_vmcb(g)->control.intercepts[exit / 32] |= 1u << exit % 32;
}

void l1_intercept_not(struct guest *g, unsigned exit)
{
	l1_vmcb(g)->control.intercepts[exit / 32] &= ~(1u << exit % 32);
}

static struct vmcb_segment segment(const struct cpu_segment *s)
{
	unsigned bits = s->type | s->s << 4 | s->dpl << 5 | s->present << 7 | s->avl << 8 | s->l << 9 | s->db << 10 |
	                s->g << 11;

	return (struct vmcb_segment){ s->selector, (uint16_t)bits, s->limit, s->base };
}

void l1_vmcb_fill(struct guest *g)
{
	struct cpu_state *s = cpu_state(g->cpu);
	struct vmcb *v = l1_vmcb(g);

	memset(v, 0, sizeof(*v));
	l1_intercept(g, SVM_EXIT_VMRUN);
	l1_intercept(g, SVM_EXIT_VMMCALL);
	v->control.iopm = IOPM;
	v->control.msrpm = MSRPM;
	v->control.asid = 1;
	if (g->has_nested) {
		v->control.nested = NESTED_PAGING;
		v->control.nested_cr3 = NPT;
	}
	v->save.es = segment(&s->seg[CPU_ES]);
	v->save.cs = segment(&s->seg[CPU_CS]);
	v->save.ss = segment(&s->seg[CPU_SS]);
	v->save.ds = segment(&s->seg[CPU_DS]);
	v->save.gdtr = (struct vmcb_segment){ .limit = s->gdt.limit, .base = s->gdt.base };
	v->save.idtr = (struct vmcb_segment){ .limit = s->idt.limit, .base = s->idt.base };
	v->save.efer = s->efer;
	v->save.cr0 = s->cr0;
	v->save.cr3 = s->cr3;
	v->save.cr4 = s->cr4;
	v->save.dr6 = 0xffff0ff0;
	v->save.dr7 = 0x400;
	v->save.rflags = 2;
	v->save.rip = L2;
	v->save.rsp = L2_STACK;
	v->save.pat = s->pat;
}

uint64_t *l1_npt(struct guest *g, uint64_t gpa, unsigned level)
{
	static const uint64_t tables[] = { 0, NPT + 0x3000, NPT + 0x2000, NPT + 0x1000, NPT };
	uint64_t table = tables[level] + (level == 1 ? gpa >> 21 << 12 : 0);

	return (uint64_t *)(void *)(g->ram + table) + (gpa >> (12 + 9 * (level - 1)) & 511);
}

uint64_t *l1_npte(struct guest *g, uint64_t gpa)
{
	return l1_npt(g, gpa, 1);
}

static void npt_fill(struct guest *g)
{
	*l1_npt(g, 0, 4) = (NPT + 0x1000) | ALL;
	*l1_npt(g, 0, 3) = (NPT + 0x2000) | ALL;
	for (uint64_t gpa = 0; gpa < HIGH; gpa += 0x200000)
		*l1_npt(g, gpa, 2) = (NPT + 0x3000 + (gpa >> 21 << 12)) | ALL;
	for (uint64_t gpa = 0; gpa < HIGH; gpa += 0x1000)
		*l1_npte(g, gpa) = (gpa + HIGH) | ALL;
}

uint64_t l2_read(struct guest *g, uint64_t gpa)
{
	return guest_read(g, gpa + HIGH, 8);
}

uint64_t *l2_pte(struct guest *g, uint64_t linear)
{
	return (uint64_t *)(void *)((uint8_t *)guest_pte(g, linear) + HIGH);
}

static struct guest *hypervisor_make(bool nested)
{
	struct guest *g = guest_make();
	struct cpu_state *s = cpu_state(g->cpu);

	guest_long(g);
	g->has_nested = nested;
	s->efer |= EFER_SVME;
	s->svm.hsave_pa = HSAVE;
	s->gpr[CPU_RAX] = VMCB;
	l1_vmcb_fill(g);
	GUEST_LOAD(g, GUEST_CODE, host_loop);
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	return g;
}

int hypervisor_setup(void **state)
{
	struct guest *g = hypervisor_make(true);

	memcpy(g->ram + HIGH, g->ram, 0x100000);
	cpu_state(g->cpu)->gpr[CPU_RBX] = L2_DATA;
	npt_fill(g);
	L2_LOAD(g, L2, l2_vmmcall);
	*state = g;
	return 0;
}

int hypervisor_flat_setup(void **state)
{
	struct guest *g = hypervisor_make(false);

	GUEST_LOAD(g, L2, l2_vmmcall);
	*state = g;
	return 0;
}

uint64_t l2_run(struct guest *g)
{
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IO);
	assert_int_equal(cpu_exit_info(g->cpu)->io.port, 0x70);
	assert_false(cpu_state(g->cpu)->svm.guest || cpu_state(g->cpu)->svm.gif);
	return l1_vmcb(g)->control.exit_code;
}

void assert_l2_vmmcall(struct guest *g)
{
	uint64_t code = l2_run(g);

	if (code == SVM_EXIT_NPF)
		print_error("#NPF %#llx at %#llx\n", (unsigned long long)l1_vmcb(g)->control.exit_info1,
		            (unsigned long long)l1_vmcb(g)->control.exit_info2);
	assert_int_equal(code, SVM_EXIT_VMMCALL);
}

void assert_l2_runs(struct guest *g)
{
	l1_vmcb(g)->save.rip = L2;
	assert_l2_vmmcall(g);
}

void assert_l2_npf(struct guest *g, uint64_t info1, uint64_t info2)
{
	assert_int_equal(l2_run(g), SVM_EXIT_NPF);
	assert_int_equal(l1_vmcb(g)->control.exit_info1, info1);
	assert_int_equal(l1_vmcb(g)->control.exit_info2, info2);
	assert_int_equal(l1_vmcb(g)->control.next_rip, 0);
}

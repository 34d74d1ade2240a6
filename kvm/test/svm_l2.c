/* SPDX-License-Identifier: MIT */
/* L2 of the tests of AMD SVM: its VMCB in each mode, its code, and what a check prints; see svm_guest.h. */
#include "svm_guest.h"

uint64_t *l2_reg(unsigned v, unsigned number)
{
	if (number == RAX)
		return &vmcb(v)->save.rax;
	return number == RSP ? &vmcb(v)->save.rsp : own64(v, OWN_L2 + number * 8);
}

static struct vmcb_segment segment(uint16_t selector, uint16_t attributes, uint32_t limit, uint64_t base)
{
	return (struct vmcb_segment){ selector, attributes, limit, base };
}

void intercept(unsigned v, unsigned exit)
{
	vmcb(v)->control.intercepts[exit / 32] |= 1u << exit % 32;
}

void intercept_not(unsigned v, unsigned exit)
{
	vmcb(v)->control.intercepts[exit / 32] &= ~(1u << exit % 32);
}

void l2_reset(unsigned v)
{
	struct vmcb *b = vmcb(v);
	struct vmcb_save *save = &b->save;

	memset(b, 0, sizeof(*b));
	memset(own64(v, OWN_L2), 0, 0x80);
	*own64(v, OWN_MARK) = 0;
	memset(at(L2_CODE + v * PAGE), 0, PAGE);
	*own64(v, OWN_FLAGS) = 0;
	*own64(v, OWN_VMCB) = SVM_VMCB + v * PAGE;
	*own64(v, OWN_HOST) = SVM_HOST + v * PAGE;
	intercept(v, SVM_EXIT_VMRUN);
	intercept(v, SVM_EXIT_VMMCALL);
	intercept(v, SVM_EXIT_SHUTDOWN);
	b->control.iopm = SVM_IOPM;
	b->control.msrpm = SVM_MSRPM;
	b->control.asid = 1 + v;
	b->control.tlb_control = TLB_CONTROL_ALL;
	b->control.nested = s.np;
	b->control.nested_cr3 = s.np ? SVM_NPT : 0;
	save->cs = segment(8, 0xa9b, UINT32_MAX, 0);
	save->es = save->ss = save->ds = save->fs = segment(16, 0xc93, UINT32_MAX, 0);
	save->gs = segment(16, 0xc93, UINT32_MAX, L2_DATA);
	save->gdtr = segment(0, 0, 0x4f, L2_GDT);
	save->idtr = segment(0, 0, 0xfff, L2_IDT);
	save->tr = segment(48, 0x8b, 0x67, L2_TSS);
	save->efer = 0x1d01;
	save->cr0 = 0x80050033;
	save->cr3 = L2_TABLES;
	save->cr4 = 0x6a0;
	save->dr6 = 0xffff0ff0;
	save->dr7 = 0x400;
	save->rflags = 2;
	save->rip = L2_CODE + v * PAGE;
	save->rsp = L2_STACK + (v + 1) * PAGE;
	save->pat = UINT64_C(0x0007040600070406);
}

void l2_user_mode(unsigned v)
{
	struct vmcb_save *save = &vmcb(v)->save;

	save->cpl = 3;
	save->cs = segment(0x2b, 0xafb, UINT32_MAX, 0);
	save->ss = save->ds = save->es = segment(0x23, 0xcf3, UINT32_MAX, 0);
}

void l2_protected_mode(unsigned v)
{
	struct vmcb_save *save = &vmcb(v)->save;

	save->cs = segment(64, 0xc9b, UINT32_MAX, 0);
	save->cr0 = 0x33;
	save->cr4 = 0;
	save->cr3 = 0;
	save->efer = 0x1000;
}

void l2_real_mode(unsigned v)
{
	struct vmcb_save *save = &vmcb(v)->save;
	uint32_t code = L2_CODE + v * (uint32_t)PAGE;

	save->cs = segment((uint16_t)(code >> 4), 0x9b, 0xffff, code);
	save->ds = save->es = save->fs = save->gs = segment(0, 0x93, 0xffff, 0);
	save->ss = segment(L2_STACK >> 4, 0x93, 0xffff, L2_STACK);
	save->idtr = segment(0, 0, 0x3ff, 0);
	save->cr0 = 0x10;
	save->cr4 = 0;
	save->cr3 = 0;
	save->efer = 0x1000;
	save->rip = 0;
	save->rsp = (v + 1) * PAGE;
}

void l2_mode(unsigned v, enum l2_mode mode)
{
	l2_reset(v);
	if (mode == L2_USER)
		l2_user_mode(v);
	else if (mode == L2_PROTECTED)
		l2_protected_mode(v);
	else if (mode == L2_REAL)
		l2_real_mode(v);
}

uint64_t l2_start(enum l2_mode mode)
{
	return mode == L2_REAL ? 0 : L2_CODE;
}

void l2_code(unsigned v, const void *bytes, size_t count)
{
	uint8_t *code = at(L2_CODE + v * PAGE);

	memcpy(code, bytes, count);
	memcpy(code + count, "\x0f\x01\xd9", 3);
}

void l2_skip(unsigned v)
{
	vmcb(v)->save.rip = vmcb(v)->control.next_rip;
}

struct l2_frame *l2_frame(unsigned v)
{
	return at(vmcb(v)->save.rsp);
}

int l2_vector(unsigned v)
{
	if (vmcb(v)->control.exit_code != SVM_EXIT_VMMCALL || vmcb(v)->save.rip != L2_COMMON)
		return -1;
	return (int)l2_frame(v)->vector;
}

void l2_return(unsigned v)
{
	vmcb(v)->save.rip = L2_COMMON + 3;
}

/* ---- checks ---------------------------------------------------------------------------------------------- */

bool is_u64(uint64_t value, uint64_t wanted, const char *what, int line)
{
	if (value == wanted)
		return true;
	fprintf(stderr, "line %d, %s: %s is %#llx; wanted: %#llx\n", line, s.what, what, (unsigned long long)value,
	        (unsigned long long)wanted);
	return false;
}

bool l2_faulted(unsigned v, int vector, int line)
{
	uint64_t exit = svm_go(v);

	if (exit == SVM_EXIT_VMMCALL && l2_vector(v) == vector)
		return true;
	fprintf(stderr, "line %d, %s: exit %#llx, vector %d; wanted: vector %d\n", line, s.what,
	        (unsigned long long)exit, l2_vector(v), vector);
	return false;
}

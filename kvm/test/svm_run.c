/* SPDX-License-Identifier: MIT */
/* VMRUN and #VMEXIT: what they load, save and refuse; VMLOAD and VMSAVE; which code may run SVM's instructions. */
#include "svm_guest.h"
#include <stddef.h>

static void test_msrs(void)
{
	uint64_t limit = UINT64_C(1) << features.phys_bits;

	SAME(features.asids >= 2, 1);
	/* RDMSR of VM_CR: SVM is not disabled. */
	SAME(L1(0, 0, "\xb9\x14\x01\x01\xc0\x0f\x32\x89\xc3"), 0);
	SAME(msr_get(0, MSR_VM_CR) >> 4 & 1, 0);
	/* WRMSR of VM_HSAVE_PA, EDX from the upper half of RAX. */
	SAME(L1(0, SVM_OTHER, "\x48\x89\xc2\x48\xc1\xea\x20\xb9\x17\x01\x01\xc0\x0f\x30"), 0);
	SAME(msr_get(0, MSR_HSAVE_PA), SVM_OTHER);
	SAME(L1(0, SVM_OTHER + 8, "\x48\x89\xc2\x48\xc1\xea\x20\xb9\x17\x01\x01\xc0\x0f\x30"), L1_FAULT + 13);
	SAME(L1(0, limit, "\x48\x89\xc2\x48\xc1\xea\x20\xb9\x17\x01\x01\xc0\x0f\x30"), L1_FAULT + 13);
	SAME(msr_get(0, MSR_HSAVE_PA), SVM_OTHER);
	/* EFER.SVME by WRMSR, off and on. */
	SAME(L1(0, 0xd01, "\x31\xd2\xb9\x80\x00\x00\xc0\x0f\x30"), 0);
	SAME(sregs_get(0).efer >> 12 & 1, 0);
	SAME(L1(0, 0x1d01, "\x31\xd2\xb9\x80\x00\x00\xc0\x0f\x30"), 0);
	SAME(sregs_get(0).efer >> 12 & 1, 1);
	L2(0, "\x90");
	ENDS(0);
}

/* The base that SGDT or SIDT stored behind the limit, at no multiple of 8. */
static uint64_t table_base(unsigned offset)
{
	uint64_t base;

	memcpy(&base, (const char *)own64(0, offset) + 2, sizeof(base));
	return base;
}

/* What VMRUN loads, as L2 sees it: it stores each register to GS:0 ..., where GS is L1's own page. */
static void test_loads(void)
{
	static const uint8_t code[] =
		"\x9c\x58\x65\x48\x89\x04\x25\x00\x01\x00\x00"     /* pushf; pop %rax; mov %rax, %gs:0x100 */
		"\x0f\x20\xc0\x65\x48\x89\x04\x25\x08\x01\x00\x00" /* mov %cr0, %rax */
		"\x0f\x20\xd0\x65\x48\x89\x04\x25\x10\x01\x00\x00" /* cr2 */
		"\x0f\x20\xd8\x65\x48\x89\x04\x25\x18\x01\x00\x00" /* cr3 */
		"\x0f\x20\xe0\x65\x48\x89\x04\x25\x20\x01\x00\x00" /* cr4 */
		"\x0f\x21\xf0\x65\x48\x89\x04\x25\x28\x01\x00\x00" /* dr6 */
		"\x0f\x21\xf8\x65\x48\x89\x04\x25\x30\x01\x00\x00" /* dr7 */
		"\x65\x48\x89\x24\x25\x38\x01\x00\x00"             /* mov %rsp, %gs:0x138 */
		"\x65\x0f\x01\x04\x25\x40\x01\x00\x00"             /* sgdt */
		"\x65\x0f\x01\x0c\x25\x50\x01\x00\x00"             /* sidt */
		"\x65\x8c\x04\x25\x60\x01\x00\x00"                 /* mov %es */
		"\x65\x8c\x0c\x25\x62\x01\x00\x00\x65\x8c\x14\x25\x64\x01\x00\x00\x65\x8c\x1c\x25\x66\x01\x00\x00"
		"\xb9\x80\x00\x00\xc0\x0f\x32\x65\x89\x04\x25\x70\x01\x00\x00" /* rdmsr EFER */
		"\x65\x48\x89\x1c\x25\x80\x01\x00\x00\x65\x4c\x89\x3c\x25\x88\x01\x00\x00" /* rbx, r15 */
		"\x0f\x01\xd9";
	struct vmcb_save *save = &vmcb(0)->save;

	l2_code(0, code, sizeof(code) - 1);
	memcpy(at(L2_CODE + 0x800), L2_MOVE "\xe9\xf9\xf7\xff\xff", 7); /* OUT, then JMP to the code */
	save->rip = L2_CODE + 0x800;
	save->rflags = 0x8d7;
	save->cr2 = UINT64_C(0x123456789abcdef0);
	save->cr4 = 0x620;
	save->dr6 = 0xffff4ff0;
	save->dr7 = 0x600;
	save->rsp -= 0x18;
	save->gdtr.limit = 0x48;
	save->idtr.limit = 0xffe;
	save->es.selector = 0x23;
	save->ds.selector = 0x1b;
	*l2_reg(0, RBX) = 0x1111;
	*l2_reg(0, R15) = 0x2222;
	ENDS(0);
	SAME(*own64(0, 0x100), 0x8d7);
	SAME(*own64(0, 0x108), 0x80050033);
	SAME(*own64(0, 0x110), UINT64_C(0x123456789abcdef0));
	SAME(*own64(0, 0x118), L2_TABLES);
	SAME(*own64(0, 0x120), 0x620);
	SAME(*own64(0, 0x128), 0xffff4ff0);
	SAME(*own64(0, 0x130), 0x600);
	SAME(*own64(0, 0x138), L2_STACK + PAGE - 0x18);
	SAME(*own64(0, 0x140) & 0xffff, 0x48);
	SAME(table_base(0x140), L2_GDT);
	SAME(*own64(0, 0x150) & 0xffff, 0xffe);
	SAME(table_base(0x150), L2_IDT);
	SAME(*own64(0, 0x160), UINT64_C(0x001b001000080023));
	SAME((uint32_t)*own64(0, 0x170), 0x1d01);
	SAME(*own64(0, 0x180), 0x1111);
	SAME(*own64(0, 0x188), 0x2222);
}

/* What L2 changes is in the VMCB after #VMEXIT. */
static void test_saves(void)
{
	static const uint8_t code[] =
		L2_MOVE
		"\x48\xc7\xc0\x55\x05\x00\x00\x0f\x22\xd0"         /* cr2 = 0x555 */
		"\xb8\x20\x02\x00\x00\x0f\x22\xe0"                 /* cr4 = 0x220 */
		"\xb8\x31\x00\x01\x80\x0f\x22\xc0"                 /* cr0 = PG WP NE ET PE */
		"\xb8\xf1\x0f\xff\xff\x0f\x23\xf0"                 /* dr6 */
		"\xb8\x00\x05\x00\x00\x0f\x23\xf8"                 /* dr7: LE is no more than remembered */
		"\x0f\x01\x14\x25\x00\x80\x05\x00"                 /* lgdt L2_DATA */
		"\x0f\x01\x1c\x25\x10\x80\x05\x00"                 /* lidt L2_DATA + 0x10 */
		"\xb8\x23\x00\x00\x00\x8e\xc0\xb8\x00\x00\x00\x00\x8e\xd8" /* es = 0x23, ds = 0 */
		"\x48\xbc\x88\x77\x66\x55\x44\x33\x22\x11"         /* rsp */
		"\xb9\x80\x00\x00\xc0\x31\xd2\xb8\x00\x1d\x00\x00\x0f\x30" /* EFER: SCE = 0 */
		"\xbb\x77\x00\x00\x00\x41\xbf\x78\x00\x00\x00"     /* rbx, r15 */
		"\x48\xb8\xef\xcd\xab\x89\x67\x45\x23\x01"         /* rax */
		"\xf9\xfd\x0f\x01\xd9";                            /* stc; std; vmmcall */
	const struct vmcb_save *save = &vmcb(0)->save;

	memcpy(at(L2_DATA), "\x4e\x00\x00\x50\x05\x00\x00\x00\x00\x00", 10);
	memcpy(at(L2_DATA + 0x10), "\xfd\x0f\x00\x40\x05\x00\x00\x00\x00\x00", 10);
	l2_code(0, code, sizeof(code) - 1);
	ENDS(0);
	SAME(save->cr2, 0x555);
	SAME(save->cr4, 0x220);
	SAME(save->cr0, 0x80010031);
	SAME(save->cr3, L2_TABLES);
	SAME(save->dr6, 0xffff0ff1);
	SAME(save->dr7, 0x500);
	SAME(save->gdtr.limit, 0x4e);
	SAME(save->gdtr.base, L2_GDT);
	SAME(save->idtr.limit, 0xffd);
	SAME(save->idtr.base, L2_IDT);
	SAME(save->es.selector, 0x23);
	SAME(save->es.attributes & 0xf0, 0xf0);
	SAME(save->es.limit, UINT32_MAX);
	SAME(save->ds.selector, 0);
	SAME(save->ds.attributes >> 7 & 1, 0);
	SAME(save->cs.selector, 8);
	SAME(save->cs.attributes & 0xe9a, 0xa9a);
	SAME(save->ss.selector, 16);
	SAME(save->rsp, UINT64_C(0x1122334455667788));
	SAME(save->efer, 0x1d00);
	SAME(save->rax, UINT64_C(0x0123456789abcdef));
	SAME(save->rflags & 0x401, 0x401);
	SAME(save->rip, L2_CODE + sizeof(code) - 1 - 3);
	SAME(save->cpl, 0);
	SAME(*l2_reg(0, RBX), 0x77);
	SAME(*l2_reg(0, R15), 0x78);
	SAME(vmcb(0)->control.exit_int_info >> 31 & 1, 0);
	if (features.nrip)
		SAME(vmcb(0)->control.next_rip, L2_CODE + sizeof(code) - 1);
}

/* L1 behind VMRUN: as it was, whatever L2 had. FS, GS, TR, LDTR, CR2 and the rest of the MSRs stay L2's. */
static void test_host(void)
{
	struct kvm_sregs before = sregs_get(0), after;
	struct kvm_debugregs debug;
	struct kvm_regs regs;
	unsigned flags = SVM_LEAVE | SVM_GIF_LATER;

	*own64(0, OWN_FLAGS) = flags;
	l2_user_mode(0);
	vmcb(0)->save.cr4 = 0x220;
	vmcb(0)->save.dr7 = 0x401;
	vmcb(0)->save.cr2 = 0x777;
	vmcb(0)->save.gdtr.limit = 0x2f;
	vmcb(0)->save.rax = 0x4444;
	L2(0, "\xf9\x90");
	SAME(svm_go(0), SVM_EXIT_VMMCALL);
	after = sregs_get(0);
	NEED(ioctl(s.m.vcpu[0], KVM_GET_REGS, &regs) == 0 && ioctl(s.m.vcpu[0], KVM_GET_DEBUGREGS, &debug) == 0);
	SAME(same_segment(&after.cs, &before.cs), 1);
	SAME(same_segment(&after.ss, &before.ss), 1);
	SAME(same_segment(&after.ds, &before.ds), 1);
	SAME(same_segment(&after.es, &before.es), 1);
	SAME(after.gdt.limit, before.gdt.limit);
	SAME(after.gdt.base, before.gdt.base);
	SAME(after.idt.limit, before.idt.limit);
	SAME(after.idt.base, before.idt.base);
	SAME(after.cr0, before.cr0);
	SAME(after.cr3, before.cr3);
	SAME(after.cr4, before.cr4);
	SAME(after.efer, before.efer);
	SAME(after.cr2, 0x777);
	SAME(regs.rax, SVM_VMCB);
	SAME(regs.rsp, SVM_OWN + OWN_L2);
	SAME(*own64(0, OWN_RFLAGS) & ~STATUS, 2);
	SAME(debug.dr7, 0x400);
	SAME(vmcb(0)->save.cpl, 3);
	SAME(vmcb(0)->save.dr7, 0x401);
	SAME(svm_continue(0), SVM_DONE);
	/* L1's IF is as it was. */
	*own64(0, OWN_FLAGS) = SVM_HOST_IF;
	l2_reset(0);
	*own64(0, OWN_FLAGS) = SVM_HOST_IF;
	L2(0, "\x90");
	ENDS(0);
	SAME(*own64(0, OWN_RFLAGS) & ~STATUS, 0x202);
}

/* With nested paging L2 has a PAT of its own; without, it has L1's (15.25.8). */
static void test_pat(void)
{
	const uint64_t l1 = UINT64_C(0x0007040600070406), l2 = UINT64_C(0x0407050600070106);
	const uint64_t put = UINT64_C(0x0606060606060606);

	s.what = "PAT";
	msr_set(0, MSR_PAT, l1);
	vmcb(0)->save.pat = l2;
	/* RDMSR to EBX and EDI, then write `put`. */
	L2(0, L2_MOVE "\xb9\x77\x02\x00\x00\x0f\x32\x89\xc3\x89\xd7\xb8\x06\x06\x06\x06\x89\xc2\x0f\x30");
	ENDS(0);
	SAME(*l2_reg(0, RBX) | *l2_reg(0, RDI) << 32, s.np ? l2 : l1);
	SAME(vmcb(0)->save.pat, s.np ? put : l2);
	SAME(msr_get(0, MSR_PAT), s.np ? l1 : put);
}

/* ---- what VMRUN refuses ---------------------------------------------------------------------------------- */

struct change {
	const char *name;
	unsigned offset, bytes;
	uint64_t clear, set;
	enum { ALWAYS, WITH_NP, WITHOUT_NP } when;
};

#define BIT(n)         (UINT64_C(1) << (n))
#define ALL            UINT64_MAX
#define INJECT(type, vector) (EVENT_VALID | (type) << EVENT_TYPE_SHIFT | (vector))

static void change_apply(const struct change *change)
{
	uint64_t value = 0;

	memcpy(&value, (char *)vmcb(0) + change->offset, change->bytes);
	value = (value & ~change->clear) | change->set;
	memcpy((char *)vmcb(0) + change->offset, &value, change->bytes);
}

static bool applies(const struct change *change)
{
	return change->when == ALWAYS || (change->when == WITH_NP) == s.np;
}

/* L2 would write a mark, if it ran. */
static void run_changed(const struct change *change, bool valid)
{
	l2_reset(0);
	L2(0, "\x65\xc6\x04\x25\x00\x01\x00\x00\x01");
	*own64(0, 0x100) = 0;
	change_apply(change);
	s.what = change->name;
	SAME(svm_go(0), valid ? SVM_EXIT_VMMCALL : SVM_EXIT_INVALID);
	SAME(*own64(0, 0x100), valid);
}

static void test_invalid(void)
{
	const uint64_t limit = BIT(features.phys_bits);
	const struct change changes[] = {
		{ "EFER.SVME clear", SAVE(efer), 8, BIT(12), 0, ALWAYS },
		{ "EFER bit 9", SAVE(efer), 8, 0, BIT(9), ALWAYS },
		{ "EFER bit 2", SAVE(efer), 8, 0, BIT(2), ALWAYS },
		{ "EFER bit 19", SAVE(efer), 8, 0, BIT(19), ALWAYS },
		{ "EFER bit 32", SAVE(efer), 8, 0, BIT(32), ALWAYS },
		{ "EFER bit 63", SAVE(efer), 8, 0, BIT(63), ALWAYS },
		{ "CR0.NW without CD", SAVE(cr0), 8, 0, BIT(29), ALWAYS },
		{ "CR0 bit 32", SAVE(cr0), 8, 0, BIT(32), ALWAYS },
		{ "CR0 bit 63", SAVE(cr0), 8, 0, BIT(63), ALWAYS },
		{ "CR3 bit 63", SAVE(cr3), 8, 0, BIT(63), ALWAYS },
		{ "CR3 bit 52", SAVE(cr3), 8, 0, BIT(52), ALWAYS },
		{ "CR3 at MAXPHYADDR", SAVE(cr3), 8, 0, limit, ALWAYS },
		{ "CR4 bit 15", SAVE(cr4), 8, 0, BIT(15), ALWAYS },
		{ "CR4 bit 31", SAVE(cr4), 8, 0, BIT(31), ALWAYS },
		{ "CR4 bit 32", SAVE(cr4), 8, 0, BIT(32), ALWAYS },
		{ "CR4 bit 63", SAVE(cr4), 8, 0, BIT(63), ALWAYS },
		{ "DR6 bit 32", SAVE(dr6), 8, 0, BIT(32), ALWAYS },
		{ "DR6 bit 63", SAVE(dr6), 8, 0, BIT(63), ALWAYS },
		{ "DR7 bit 32", SAVE(dr7), 8, 0, BIT(32), ALWAYS },
		{ "DR7 bit 63", SAVE(dr7), 8, 0, BIT(63), ALWAYS },
		{ "LME, PG, no PAE", SAVE(cr4), 8, BIT(5), 0, ALWAYS },
		{ "LME, PG, no PE", SAVE(cr0), 8, BIT(0), 0, ALWAYS },
		{ "LME, PG, PAE, CS.L and CS.D", SAVE(cs.attributes), 2, 0, BIT(10), ALWAYS },
		{ "VMRUN not intercepted", CONTROL(intercepts[4]), 4, BIT(0), 0, ALWAYS },
		{ "ASID 0", CONTROL(asid), 4, ALL, 0, ALWAYS },
		{ "IOPM at MAXPHYADDR - 1 page", CONTROL(iopm), 8, ALL, limit - PAGE, ALWAYS },
		{ "IOPM at MAXPHYADDR - 2 pages", CONTROL(iopm), 8, ALL, limit - 2 * PAGE, ALWAYS },
		{ "IOPM at MAXPHYADDR", CONTROL(iopm), 8, ALL, limit, ALWAYS },
		{ "IOPM, bit 63", CONTROL(iopm), 8, 0, BIT(63), ALWAYS },
		{ "MSRPM at MAXPHYADDR - 1 page", CONTROL(msrpm), 8, ALL, limit - PAGE, ALWAYS },
		{ "MSRPM at MAXPHYADDR", CONTROL(msrpm), 8, ALL, limit, ALWAYS },
		{ "MSRPM, bit 63", CONTROL(msrpm), 8, 0, BIT(63), ALWAYS },
		{ "inject type 1", CONTROL(event_inject), 8, 0, INJECT(1, 0x40), ALWAYS },
		{ "inject type 5", CONTROL(event_inject), 8, 0, INJECT(5, 0x40), ALWAYS },
		{ "inject type 6", CONTROL(event_inject), 8, 0, INJECT(6, 0x40), ALWAYS },
		{ "inject type 7", CONTROL(event_inject), 8, 0, INJECT(7, 0x40), ALWAYS },
		{ "inject exception 2", CONTROL(event_inject), 8, 0, INJECT(3, 2), ALWAYS },
		{ "inject exception 32", CONTROL(event_inject), 8, 0, INJECT(3, 32), ALWAYS },
		{ "inject exception 255", CONTROL(event_inject), 8, 0, INJECT(3, 255), ALWAYS },
		{ "inject #BR in 64-bit mode", CONTROL(event_inject), 8, 0, INJECT(3, 5), ALWAYS },
		{ "nCR3 bit 63", CONTROL(nested_cr3), 8, 0, BIT(63), WITH_NP },
		{ "nCR3 bit 52", CONTROL(nested_cr3), 8, 0, BIT(52), WITH_NP },
		{ "nCR3 at MAXPHYADDR", CONTROL(nested_cr3), 8, 0, limit, WITH_NP },
		{ "PAT type 2", SAVE(pat), 8, 0xff, 2, WITH_NP },
		{ "PAT type 3", SAVE(pat), 8, UINT64_C(0xff) << 56, UINT64_C(3) << 56, WITH_NP },
		{ "PAT bit 3", SAVE(pat), 8, 0, BIT(11), WITH_NP },
		{ "PAT bit 31", SAVE(pat), 8, 0, BIT(31), WITH_NP },
	};

	for (unsigned i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
		if (applies(&changes[i]))
			run_changed(&changes[i], false);
}

/* What looks like the above and is allowed. */
static void test_valid(void)
{
	const uint64_t limit = BIT(features.phys_bits);
	const struct change changes[] = {
		{ "CR0.CD and NW", SAVE(cr0), 8, 0, BIT(29) | BIT(30), ALWAYS },
		{ "CR0.CD", SAVE(cr0), 8, 0, BIT(30), ALWAYS },
		{ "CR3.PCD and PWT", SAVE(cr3), 8, 0, 0x18, ALWAYS },
		{ "IOPM at MAXPHYADDR - 3 pages", CONTROL(iopm), 8, ALL, limit - 3 * PAGE, ALWAYS },
		{ "IOPM, low bits", CONTROL(iopm), 8, 0, 0xfff, ALWAYS },
		{ "MSRPM at MAXPHYADDR - 2 pages", CONTROL(msrpm), 8, ALL, limit - 2 * PAGE, ALWAYS },
		{ "MSRPM, low bits", CONTROL(msrpm), 8, 0, 0xfff, ALWAYS },
		{ "highest ASID", CONTROL(asid), 4, ALL, features.asids - 1, ALWAYS },
		{ "event of type 1, not valid", CONTROL(event_inject), 8, 0, 1 << 8 | 2, ALWAYS },
		{ "nCR3 without nested paging", CONTROL(nested_cr3), 8, 0, BIT(63), WITHOUT_NP },
		{ "PAT without nested paging", SAVE(pat), 8, 0, 2, WITHOUT_NP },
		{ "CPL is the VMCB's, not CS's", SAVE(cs.attributes), 2, 0, 0x60, ALWAYS },
		{ "clean bits", CONTROL(clean), 4, 0, UINT32_MAX, ALWAYS },
	};

	for (unsigned i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
		if (applies(&changes[i]))
			run_changed(&changes[i], true);
}

/* PDPTEs are loaded with CR3, and then VMRUN refuses them; with nested paging they are L2's matter. */
static void test_pdptes(void)
{
	static const struct {
		const char *name;
		uint64_t value;
		bool valid;
	} rows[] = {
		{ "PDPTEs", (SVM_SPARE + PAGE) | 1, true },
		{ "a PDPTE that is absent", 0x1fe, true },
		{ "bit 1", (SVM_SPARE + PAGE) | 3, false },
		{ "bit 8", (SVM_SPARE + PAGE) | 0x101, false },
		{ "bit 63", (SVM_SPARE + PAGE) | 1 | BIT(63), false },
		{ "PWT, PCD and available bits", (SVM_SPARE + PAGE) | 0xe19, true },
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		s.what = rows[i].name;
		l2_reset(0);
		l2_protected_mode(0);
		vmcb(0)->save.cr0 = 0x80000033;
		vmcb(0)->save.cr3 = SVM_SPARE;
		vmcb(0)->save.cr4 = 0x20;
		memset(at(SVM_SPARE), 0, 2 * PAGE);
		*at64(SVM_SPARE) = (SVM_SPARE + PAGE) | 1;
		*at64(SVM_SPARE + 24) = rows[i].value;
		*at64(SVM_SPARE + PAGE) = 0xe7;
		L2(0, "\x90");
		SAME(svm_go(0), rows[i].valid || s.np ? SVM_EXIT_VMMCALL : SVM_EXIT_INVALID);
		if (rows[i].valid)
			continue;
		/* L2 uses it. */
		vmcb(0)->save.rip = L2_CODE;
		intercept(0, SVM_EXIT_EXCEPTION + 14);
		L2(0, "\xa1\x08\x00\x00\xc0");
		SAME(svm_go(0), s.np ? SVM_EXIT_EXCEPTION + 14 : SVM_EXIT_INVALID);
		if (s.np)
			SAME(vmcb(0)->control.exit_info1, 9);
	}
}

/* Bits of DR6 and DR7 that cannot be written are as always. */
static void test_debug_registers(void)
{
	vmcb(0)->save.dr6 = 0x1001;
	vmcb(0)->save.dr7 = 0x1000;
	L2(0, "\x0f\x21\xf3\x0f\x21\xfa"); /* MOV RBX, DR6; MOV RDX, DR7 */
	ENDS(0);
	SAME(*l2_reg(0, RBX), 0xffff0ff1);
	SAME(*l2_reg(0, RDX), 0x400);
	SAME(vmcb(0)->save.dr6, 0xffff0ff1);
	SAME(vmcb(0)->save.dr7, 0x400);
}

/* Bases are made canonical. */
static void test_canonical(void)
{
	uint64_t top = top_bit(), wanted = -top | 0x123;

	L2(0, "\x90");
	vmcb(0)->save.es.base = top | 0x123;
	vmcb(0)->save.gdtr.base = UINT64_C(0x7e00000000000123) | top;
	vmcb(0)->save.idtr.base = UINT64_C(0x1200000000000123) | top;
	vmcb(0)->save.ds.base = UINT64_C(0x1200000000000456);
	ENDS(0);
	SAME(vmcb(0)->save.es.base, wanted);
	SAME(vmcb(0)->save.gdtr.base, wanted);
	SAME(vmcb(0)->save.idtr.base, wanted);
	SAME(vmcb(0)->save.ds.base, 0x456);
}

/* ---- who may --------------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	const char *bytes;
	bool takes_address;
} instructions[] = {
	{ "VMRUN", "\x0f\x01\xd8", true },  { "VMLOAD", "\x0f\x01\xda", true }, { "VMSAVE", "\x0f\x01\xdb", true },
	{ "STGI", "\x0f\x01\xdc", false },  { "CLGI", "\x0f\x01\xdd", false },  { "INVLPGA", "\x0f\x01\xdf", false },
};
#define INSTRUCTIONS (sizeof(instructions) / sizeof(instructions[0]))

static void l1_level(unsigned cpl, uint64_t efer)
{
	struct kvm_sregs sregs = sregs_get(0);

	sregs.cs.dpl = sregs.ss.dpl = (uint8_t)cpl;
	sregs.cs.selector = cpl ? 0x2b : 8;
	sregs.ss.selector = cpl ? 0x23 : 16;
	sregs.efer = efer;
	sregs_set(0, &sregs);
}

/* IOPL 0 is enough: if the instruction does nothing, the OUT behind it is a #GP of its own, at another RIP. */
static void l1_refuses(unsigned i, uint64_t rax, unsigned vector)
{
	s.what = instructions[i].name;
	SAME(l1_code(0, rax, instructions[i].bytes, 3), L1_FAULT + vector);
	SAME(*own64(0, OWN_VECTOR + 16), SVM_CODE);
	if (vector == 13)
		SAME(*own64(0, OWN_VECTOR + 8), 0);
}

static void test_privilege(void)
{
	const uint64_t limit = UINT64_C(1) << features.phys_bits;

	for (unsigned i = 0; i < INSTRUCTIONS; i++) {
		l1_level(3, 0x1d01);
		l1_refuses(i, SVM_VMCB, 13);
		l1_level(0, 0xd01);
		l1_refuses(i, SVM_VMCB, 6);
		l1_level(3, 0xd01);
		l1_refuses(i, SVM_VMCB, 6);
		l1_level(0, 0x1d01);
		if (!instructions[i].takes_address)
			continue;
		l1_refuses(i, SVM_VMCB + 8, 13);
		l1_refuses(i, SVM_VMCB + 0x800, 13);
		l1_refuses(i, limit, 13);
		l1_refuses(i, limit + SVM_VMCB, 13);
		l1_refuses(i, UINT64_C(1) << 63, 13);
	}
}

/* The same in L2, which may have no SVM instruction intercepted (but VMRUN): they are #UD outside protected mode. */
static void test_privilege_l2(void)
{
	for (unsigned i = 0; i < INSTRUCTIONS; i++) {
		s.what = instructions[i].name;
		l2_reset(0);
		l2_user_mode(0);
		l2_code(0, instructions[i].bytes, 3);
		FAULTS(0, 13);
		SAME(l2_frame(0)->rip, L2_CODE);
		l2_reset(0);
		l2_real_mode(0);
		intercept(0, SVM_EXIT_EXCEPTION + 6);
		l2_code(0, instructions[i].bytes, 3);
		EXITS(0, SVM_EXIT_EXCEPTION + 6);
		SAME(vmcb(0)->save.rip, 0);
	}
	s.what = "VMMCALL, SKINIT";
	l2_reset(0);
	intercept_not(0, SVM_EXIT_VMMCALL);
	intercept(0, SVM_EXIT_EXCEPTION + 6);
	L2(0, "\x0f\x01\xd9");
	EXITS(0, SVM_EXIT_EXCEPTION + 6);
	/* SKINIT is not there. */
	l2_reset(0);
	L2(0, "\x0f\x01\xde");
	FAULTS(0, 6);
}

/* VMRUN with an operand where no memory is, and on a VMCB in each vCPU's own place. */
static void test_two(void)
{
	l2_reset(0);
	l2_reset(1);
	L2(0, L2_MOVE "\x48\xff\xc3");
	L2(1, L2_MOVE "\x48\xff\xcb");
	for (unsigned i = 0; i < 3; i++) {
		for (unsigned v = 0; v < SVM_VCPUS; v++) {
			vmcb(v)->save.rip = L2_CODE + v * PAGE;
			ENDS(v);
		}
	}
	SAME(*l2_reg(0, RBX), 3);
	SAME(*l2_reg(1, RBX), (uint64_t)-3);
	/* Another VMCB on the same vCPU. */
	memcpy(at(SVM_OTHER), vmcb(1), PAGE);
	((struct vmcb *)at(SVM_OTHER))->save.rip = L2_CODE + PAGE;
	*own64(0, OWN_VMCB) = SVM_OTHER;
	ENDS(0);
	SAME(*l2_reg(0, RBX), 2);
}

static const struct svm_test tests[] = {
	{ "msrs", test_msrs, SVM_PLAIN },
	{ "loads", test_loads, 0 },
	{ "saves", test_saves, 0 },
	{ "host", test_host, 0 },
	{ "PAT", test_pat, 0 },
	{ "invalid", test_invalid, 0 },
	{ "valid", test_valid, 0 },
	{ "PDPTEs", test_pdptes, 0 },
	{ "debug registers", test_debug_registers, 0 },
	{ "canonical", test_canonical, 0 },
	{ "privilege", test_privilege, SVM_PLAIN },
	{ "privilege of L2", test_privilege_l2, 0 },
	{ "two", test_two, 0 },
};

int main(int argc, char **argv)
{
	int bad = svm_tests(tests, sizeof(tests) / sizeof(tests[0]), argc > 1 ? argv + 1 : NULL);

	return check_end() ? 1 : bad;
}

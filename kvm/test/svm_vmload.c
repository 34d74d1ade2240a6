/* SPDX-License-Identifier: MIT */
/* VMLOAD and VMSAVE of L1, and in L2 at physical addresses of its own (APM vol. 2, 15.5.2 and 15.33.1). */
#include "svm_guest.h"

#define KERNEL_GS 0xc0000102u

static const struct {
	uint32_t msr;
	unsigned offset;
	uint64_t value;
} loaded[] = {
	{ 0xc0000081, SAVE(star), UINT64_C(0x1111222233334444) },
	{ 0xc0000082, SAVE(lstar), UINT64_C(0xffffffff81000000) },
	{ 0xc0000083, SAVE(cstar), UINT64_C(0x00007fff12345678) },
	{ 0xc0000084, SAVE(sfmask), 0x47700 },
	{ KERNEL_GS, SAVE(kernel_gs_base), UINT64_C(0xffff888000000000) },
	{ 0x174, SAVE(sysenter_cs), 0x10 },
	{ 0x175, SAVE(sysenter_esp), UINT64_C(0xfffffe0000003000) },
	{ 0x176, SAVE(sysenter_eip), UINT64_C(0xffffffff81001000) },
};
#define LOADED (sizeof(loaded) / sizeof(loaded[0]))

static void test_vmload(void)
{
	struct kvm_sregs before = sregs_get(0), sregs;
	struct vmcb_save *save = &vmcb(0)->save;

	save->fs = (struct vmcb_segment){ 0x23, 0xcf3, 0xfffff, UINT64_C(0xffff800000001000) };
	save->gs = (struct vmcb_segment){ 0x10, 0xc93, 0x12fff, UINT64_C(0x0000700000002000) };
	save->tr = (struct vmcb_segment){ 0x58, 0x8b, 0x1234, 0x7000 };
	save->ldtr = (struct vmcb_segment){ 0x60, 0x82, 0x7f, UINT64_C(0x9000) };
	for (unsigned i = 0; i < LOADED; i++)
		memcpy((char *)vmcb(0) + loaded[i].offset, &loaded[i].value, 8);
	SAME(L1(0, SVM_VMCB, "\x0f\x01\xda"), 0);
	sregs = sregs_get(0);
	SAME(sregs.fs.selector, 0x23);
	SAME(sregs.fs.base, UINT64_C(0xffff800000001000));
	SAME(sregs.fs.limit, 0xfffff);
	SAME(sregs.fs.dpl, 3);
	SAME(sregs.gs.selector, 0x10);
	SAME(sregs.gs.base, UINT64_C(0x0000700000002000));
	SAME(sregs.tr.selector, 0x58);
	SAME(sregs.tr.base, 0x7000);
	SAME(sregs.tr.limit, 0x1234);
	SAME(sregs.tr.type, 11);
	SAME(sregs.ldt.selector, 0x60);
	SAME(sregs.ldt.base, 0x9000);
	SAME(sregs.ldt.limit, 0x7f);
	for (unsigned i = 0; i < LOADED; i++)
		SAME(msr_get(0, loaded[i].msr), loaded[i].value);
	/* Nothing else: */
	SAME(same_segment(&sregs.cs, &before.cs) && same_segment(&sregs.ds, &before.ds), 1);
	SAME(sregs.cr3, before.cr3);
	SAME(sregs.gdt.base, before.gdt.base);
	/* Back into another VMCB, of which nothing else changes. */
	memset(at(SVM_OTHER), 0x5a, PAGE);
	SAME(L1(0, SVM_OTHER, "\x0f\x01\xdb"), 0);
	SAME(memcmp(at(SVM_OTHER + SAVE(fs)), &save->fs, 2), 0);
	SAME(((struct vmcb *)at(SVM_OTHER))->save.fs.base, save->fs.base);
	SAME(((struct vmcb *)at(SVM_OTHER))->save.fs.attributes & 0xff, 0xf3);
	SAME(((struct vmcb *)at(SVM_OTHER))->save.gs.base, save->gs.base);
	SAME(memcmp(at(SVM_OTHER + SAVE(tr)), &save->tr, sizeof(save->tr)), 0);
	SAME(memcmp(at(SVM_OTHER + SAVE(ldtr)), &save->ldtr, sizeof(save->ldtr)), 0);
	for (unsigned i = 0; i < LOADED; i++)
		SAME(*at64(SVM_OTHER + loaded[i].offset), loaded[i].value);
	SAME(*at64(SVM_OTHER + SAVE(es)), UINT64_C(0x5a5a5a5a5a5a5a5a));
	SAME(*at64(SVM_OTHER + SAVE(cs)), UINT64_C(0x5a5a5a5a5a5a5a5a));
	SAME(*at64(SVM_OTHER + SAVE(cr3)), UINT64_C(0x5a5a5a5a5a5a5a5a));
	SAME(*at64(SVM_OTHER + SAVE(rax)), UINT64_C(0x5a5a5a5a5a5a5a5a));
	SAME(*at64(SVM_OTHER + SAVE(cr2)), UINT64_C(0x5a5a5a5a5a5a5a5a));
	SAME(*at64(SVM_OTHER + CONTROL(exit_code)), UINT64_C(0x5a5a5a5a5a5a5a5a));
	/* Bases that are not canonical become so. */
	save->fs.base = UINT64_C(0x1200000000000000) | top_bit();
	save->kernel_gs_base = UINT64_C(0x4200000000000000) | top_bit();
	save->lstar = save->cstar = save->sysenter_esp = save->sysenter_eip = UINT64_C(0x2200000000000000) | top_bit();
	SAME(L1(0, SVM_VMCB, "\x0f\x01\xda"), 0);
	SAME(sregs_get(0).fs.base, -top_bit());
	SAME(msr_get(0, KERNEL_GS), -top_bit());
	SAME(msr_get(0, 0xc0000082), -top_bit());
	SAME(msr_get(0, 0xc0000083), -top_bit());
	SAME(msr_get(0, 0x175), -top_bit());
	SAME(msr_get(0, 0x176), -top_bit());
}

/* VMLOAD and VMSAVE around VMRUN: L2's values are separate from L1's. */
static void test_switch(void)
{
	*own64(0, OWN_FLAGS) = SVM_VMLOAD;
	msr_set(0, KERNEL_GS, 0x1000);
	vmcb(0)->save.kernel_gs_base = 0x2000;
	/* RDMSR of KERNEL_GS_BASE to EBX, then write 0x3000; MOV GS:0 */
	L2(0, L2_MOVE "\xb9\x02\x01\x00\xc0\x0f\x32\x89\xc3\x31\xd2\xb8\x00\x30\x00\x00\x0f\x30"
	      "\x65\x48\x89\x1c\x25\x00\x00\x00\x00");
	ENDS(0);
	SAME(*l2_reg(0, RBX), 0x2000);
	SAME(vmcb(0)->save.kernel_gs_base, 0x3000);
	SAME(msr_get(0, KERNEL_GS), 0x1000);
	SAME(*at64(L2_DATA), 0x2000);
	SAME(vmcb(0)->save.gs.base, L2_DATA);
	SAME(sregs_get(0).gs.base, SVM_OWN);
}

#define VIRTUAL_FROM (L2_DATA + PAGE)     /* L2's physical address of a VMCB */
#define VIRTUAL_AT   (L2_DATA + 3 * PAGE) /* L1's */

static void virtual_prepare(const char *code)
{
	l2_reset(0);
	l2_code(0, code, 3);
	vmcb(0)->control.virtual_extension = VIRTUAL_VMLOAD;
	vmcb(0)->save.rax = VIRTUAL_FROM;
}

/* VMLOAD and VMSAVE of L2's own, at its physical addresses. */
static void test_virtual_vmload(void)
{
	const struct vmcb_control *control = &vmcb(0)->control;
	struct vmcb *own = at(VIRTUAL_AT);

	if (!features.virtual_vmload)
		return;
	npt_entry_set(TABLE_PT, VIRTUAL_FROM >> 12, VIRTUAL_AT | 7);
	memset(own, 0x5a, PAGE);
	own->save.star = 0x1234;
	own->save.kernel_gs_base = 0x5000;
	own->save.gs.base = 0x777000;
	virtual_prepare("\x0f\x01\xda");
	ENDS(0);
	SAME(msr_get(0, 0xc0000081), 0x1234);
	SAME(msr_get(0, KERNEL_GS), 0x5000);
	SAME(sregs_get(0).gs.base, 0x777000);
	SAME(*at64(SVM_NPT + TABLE_PT * PAGE + (VIRTUAL_FROM >> 12) * 8) & 0x60, 0x20);
	msr_set(0, KERNEL_GS, 0x6000);
	virtual_prepare("\x0f\x01\xdb");
	ENDS(0);
	SAME(own->save.kernel_gs_base, 0x6000);
	SAME(own->save.star, 0x1234);
	SAME(own->save.cr3, UINT64_C(0x5a5a5a5a5a5a5a5a));
	SAME(*at64(SVM_NPT + TABLE_PT * PAGE + (VIRTUAL_FROM >> 12) * 8) & 0x60, 0x60);
	/* The nested table forbids it. */
	npt_entry_set(TABLE_PT, VIRTUAL_FROM >> 12, VIRTUAL_AT | 5);
	msr_set(0, KERNEL_GS, 0x7000);
	virtual_prepare("\x0f\x01\xdb");
	EXITS(0, SVM_EXIT_NPF);
	SAME(control->exit_info1, UINT64_C(1) << 32 | 7);
	SAME(control->exit_info2, VIRTUAL_FROM);
	SAME(vmcb(0)->save.rip, L2_CODE);
	SAME(own->save.kernel_gs_base, 0x6000);
	npt_entry_set(TABLE_PT, VIRTUAL_FROM >> 12, VIRTUAL_AT | 7);
	ENDS(0);
	SAME(own->save.kernel_gs_base, 0x7000);
	npt_entry_set(TABLE_PT, VIRTUAL_FROM >> 12, 0);
	virtual_prepare("\x0f\x01\xda");
	EXITS(0, SVM_EXIT_NPF);
	SAME(control->exit_info1, UINT64_C(1) << 32 | 4);
	/* L1 wants it all the same. */
	npt_entry_set(TABLE_PT, VIRTUAL_FROM >> 12, VIRTUAL_AT | 7);
	intercept(0, SVM_EXIT_VMLOAD);
	EXITS(0, SVM_EXIT_VMLOAD);
	/* Without the bit, the address is L1's. */
	memset(at(VIRTUAL_FROM), 0, PAGE);
	virtual_prepare("\x0f\x01\xda");
	vmcb(0)->control.virtual_extension = 0;
	ENDS(0);
	SAME(msr_get(0, KERNEL_GS), 0);
}

/* Without nested paging it cannot be done, and is an intercept. */
static void test_virtual_vmload_needs_np(void)
{
	if (!features.virtual_vmload)
		return;
	virtual_prepare("\x0f\x01\xda");
	EXITS(0, SVM_EXIT_VMLOAD);
	SAME(vmcb(0)->save.rip, L2_CODE);
	virtual_prepare("\x0f\x01\xdb");
	EXITS(0, SVM_EXIT_VMSAVE);
	/* The rights are asked for before. */
	l2_user_mode(0);
	FAULTS(0, 13);
}

static const struct svm_test tests[] = {
	{ "vmload", test_vmload, SVM_PLAIN | SVM_STAYS },
	{ "switch", test_switch, 0 },
	{ "virtual vmload", test_virtual_vmload, SVM_NP_ONLY },
	{ "virtual vmload without nested paging", test_virtual_vmload_needs_np, SVM_PLAIN },
};

int main(int argc, char **argv)
{
	int bad = svm_tests(tests, sizeof(tests) / sizeof(tests[0]), argc > 1 ? argv + 1 : NULL);

	return check_end() ? 1 : bad;
}

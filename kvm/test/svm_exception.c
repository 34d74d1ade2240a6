/* SPDX-License-Identifier: MIT */
/* Every exception of L2's, intercepted and not; task switches; double faults and shutdown. */
#include "svm_guest.h"

#define CODE(bytes) bytes, sizeof(bytes) - 1
#define NO_INFO UINT64_MAX

static void test_exceptions(void)
{
	static const struct {
		const char *name;
		unsigned vector;
		const char *bytes;
		unsigned total, at; /* where RIP points */
		uint64_t info1, cr0_set, rflags_set;
		enum l2_mode mode;
	} rows[] = {
		{ "#DE", 0, CODE("\x31\xc9\xf7\xf1"), 2, NO_INFO, 0, 0, L2_LONG },
		{ "#DB, TF", 1, CODE("\x90\x90"), 1, NO_INFO, 0, 0x100, L2_LONG },
		{ "#BP", 3, CODE("\x90\xcc"), 1, NO_INFO, 0, 0, L2_LONG },
		{ "#OF", 4, CODE("\xb0\x7f\x04\x01\xce"), 4, NO_INFO, 0, 0, L2_PROTECTED },
		{ "#BR", 5, CODE("\xb8\xff\xff\x00\x00\x62\x05\x00\x80\x05\x00"), 5, NO_INFO, 0, 0, L2_PROTECTED },
		{ "#UD", 6, CODE("\x0f\x0b"), 0, NO_INFO, 0, 0, L2_LONG },
		{ "#NM", 7, CODE("\xd9\xe8"), 0, NO_INFO, 8, 0, L2_LONG },
		{ "#NP", 11, CODE("\xb8\x38\x00\x00\x00\x8e\xd8"), 5, 0x38, 0, 0, L2_LONG },
		{ "#SS", 12, CODE("\x48\xbd\x00\x00\x00\x00\x00\x00\x00\x80\x48\x8b\x45\x00"), 10, 0, 0, 0, L2_LONG },
		{ "#GP, selector", 13, CODE("\xb8\xf0\x00\x00\x00\x8e\xd8"), 5, 0xf0, 0, 0, L2_LONG },
		{ "#GP, address", 13, CODE("\x48\xb8\x00\x00\x00\x00\x00\x00\x00\x80\x48\x8b\x00"), 10, 0, 0, 0,
		  L2_LONG },
		{ "#MF", 16, CODE("\xdb\xe3\xd9\x2d\x02\x00\x00\x00\xeb\x02\x00\x00\xd9\xe8\xd9\xee\xde\xf9\x9b"), 18,
		  NO_INFO, 0,
		  0, L2_LONG },
		{ "#AC", 17, CODE("\x90\x8b\x04\x25\x01\x80\x05\x00"), 1, 0, 0x40000, 0x40000, L2_USER },
		{ "#AC, stack", 17, CODE("\xff\xcc\x50"), 2, 0, 0x40000, 0x40000, L2_USER },
		{ "#XF", 19, CODE("\x0f\xae\x14\x25\x00\x81\x05\x00\x0f\x57\xc0\x0f\x5e\xc0"), 11, NO_INFO, 0, 0,
		  L2_LONG },
	};
	static const uint64_t absent = UINT64_C(0x00cf13000000ffff);

	/* A descriptor that is not present, bounds, MXCSR with everything unmasked. */
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		s.what = rows[i].name;
		memcpy(at(L2_GDT + 0x38), &absent, 8);
		memset(at(L2_DATA), 0, 8);
		*(uint32_t *)at(L2_DATA + 0x100) = 0;
		l2_mode(0, rows[i].mode);
		l2_code(0, rows[i].bytes, rows[i].total);
		vmcb(0)->save.cr0 |= rows[i].cr0_set;
		vmcb(0)->save.rflags |= rows[i].rflags_set;
		intercept(0, SVM_EXIT_EXCEPTION + rows[i].vector);
		EXITS(0, SVM_EXIT_EXCEPTION + rows[i].vector);
		SAME(vmcb(0)->save.rip, L2_CODE + rows[i].at);
		SAME(vmcb(0)->control.exit_int_info >> 31 & 1, 0);
		if (rows[i].info1 != NO_INFO)
			SAME(vmcb(0)->control.exit_info1, rows[i].info1);
		if (rows[i].vector == 3 && features.nrip)
			SAME(vmcb(0)->control.next_rip, L2_CODE + rows[i].at + 1);
		/* And when it is not intercepted, L2's handler gets it. */
		if (rows[i].mode == L2_PROTECTED)
			continue;
		l2_mode(0, rows[i].mode);
		l2_code(0, rows[i].bytes, rows[i].total);
		vmcb(0)->save.cr0 |= rows[i].cr0_set;
		vmcb(0)->save.rflags |= rows[i].rflags_set;
		FAULTS(0, (int)rows[i].vector);
		SAME(l2_frame(0)->rip, L2_CODE + rows[i].at + (rows[i].vector == 3));
		SAME(l2_frame(0)->error, rows[i].info1 == NO_INFO ? 0 : rows[i].info1);
	}
}

/* #PF: error code, address, CR2 as it was, the bytes of the instruction. */
static void test_page_fault(void)
{
	struct vmcb *b = vmcb(0);

	intercept(0, SVM_EXIT_EXCEPTION + 14);
	b->save.cr2 = 0x1234;
	L2(0, "\x48\x8b\x04\x25\x08\x80\x05\x00");
	l2_entry_set(TABLE_PT, L2_DATA >> 12, 0);
	EXITS(0, SVM_EXIT_EXCEPTION + 14);
	SAME(b->control.exit_info1, 0);
	SAME(b->control.exit_info2, L2_DATA + 8);
	SAME(b->save.cr2, 0x1234);
	SAME(b->save.rip, L2_CODE);
	if (features.decode) {
		SAME(b->control.fetched_count, 15);
		SAME(memcmp(b->control.fetched, at(L2_CODE), 15), 0);
	}
	/* A write to a read-only page, from CPL 3. */
	l2_user_mode(0);
	L2(0, "\x48\x89\x04\x25\x08\x80\x05\x00");
	l2_entry_set(TABLE_PT, L2_DATA >> 12, L2_DATA | 5);
	EXITS(0, SVM_EXIT_EXCEPTION + 14);
	SAME(b->control.exit_info1, 7);
	/* A reserved bit. */
	l2_entry_set(TABLE_PT, L2_DATA >> 12, L2_DATA | 7 | (features.phys_bits < 52 ? UINT64_C(1) << 51 : 0));
	EXITS(0, features.phys_bits < 52 ? SVM_EXIT_EXCEPTION + 14 : SVM_EXIT_NPF);
	if (features.phys_bits < 52)
		SAME(b->control.exit_info1, 0xf);
	/* A fetch that NX forbids: no bytes. */
	l2_entry_set(TABLE_PT, L2_DATA >> 12, L2_DATA | 7 | UINT64_C(1) << 63);
	b->save.rip = L2_DATA;
	EXITS(0, SVM_EXIT_EXCEPTION + 14);
	SAME(b->control.exit_info1, 0x15);
	SAME(b->control.exit_info2, L2_DATA);
	if (features.decode)
		SAME(b->control.fetched_count, 0);
	/* The bytes end where the next page is absent. */
	l2_reset(0);
	intercept(0, SVM_EXIT_EXCEPTION + 14);
	l2_entry_set(TABLE_PT, L2_DATA >> 12, 0);
	l2_entry_set(TABLE_PT, (L2_DATA >> 12) + 2, 0);
	memcpy(at(L2_DATA + 2 * PAGE - 8), "\x48\x8b\x04\x25\x08\x80\x05\x00", 8);
	b->save.rip = L2_DATA + 2 * PAGE - 8;
	EXITS(0, SVM_EXIT_EXCEPTION + 14);
	SAME(b->control.exit_info2, L2_DATA + 8);
	if (features.decode)
		SAME(b->control.fetched_count, 8);
	/* Other intercepts say 0. */
	l2_reset(0);
	b->control.fetched_count = 15;
	L2(0, "\x90");
	ENDS(0);
	SAME(b->control.fetched_count, 0);
}

/* INT n goes through the IDT whatever exceptions are intercepted; ICEBP is not #DB's intercept. */
static void test_not_exceptions(void)
{
	intercept(0, SVM_EXIT_EXCEPTION + 3);
	intercept(0, SVM_EXIT_EXCEPTION + 6);
	L2(0, "\xcd\x06");
	FAULTS(0, 6);
	SAME(l2_frame(0)->rip, L2_CODE + 2);
	l2_reset(0);
	intercept(0, SVM_EXIT_EXCEPTION + 3);
	L2(0, "\xcd\x03");
	FAULTS(0, 3);
	l2_reset(0);
	intercept(0, SVM_EXIT_EXCEPTION + 1);
	L2(0, "\xf1");
	FAULTS(0, 1);
	SAME(l2_frame(0)->rip, L2_CODE + 1);
}

/* VMCALL is #UD and stays as it is for a hypervisor that asks for that. Otherwise it becomes VMMCALL, as for L1. */
static void test_vmcall(void)
{
	static const char vmcall[] = "\x0f\x01\xc1", vmmcall[] = "\x0f\x01\xd9";

	intercept(0, SVM_EXIT_EXCEPTION + 6);
	L2(0, "\x0f\x01\xc1");
	EXITS(0, SVM_EXIT_EXCEPTION + 6);
	SAME(vmcb(0)->save.rip, L2_CODE);
	SAME(memcmp(at(L2_CODE), vmcall, 3), 0);
	l2_reset(0);
	L2(0, "\x0f\x01\xc1");
	ENDS(0);
	SAME(vmcb(0)->save.rip, L2_CODE);
	SAME(memcmp(at(L2_CODE), vmmcall, 3), 0);
}

/* ---- task switches, shutdown --------------------------------------------------------------------------------- */

/* A task switch in 32-bit mode: by far jump and call, by IRET, by an exception with an error code. */
static void test_task_switch(void)
{
	static const uint64_t tss_free = UINT64_C(0x0000890590000067), tss_gate = UINT64_C(0x0000e50000380000);
	const struct vmcb_control *control = &vmcb(0)->control;

	memcpy(at(L2_GDT + 0x38), &tss_free, 8);
	memset(at(L2_DATA + PAGE), 0, PAGE);
	s.what = "far jump";
	l2_protected_mode(0);
	*own64(0, OWN_FLAGS) = SVM_VMLOAD; /* for L2's own TR */
	intercept(0, SVM_EXIT_TASK_SWITCH);
	L2(0, "\xea\x00\x00\x00\x00\x38\x00");
	EXITS(0, SVM_EXIT_TASK_SWITCH);
	SAME(control->exit_info1 & 0xffff, 0x38);
	SAME(control->exit_info2 >> 32 & 0x1050, 0x40);
	SAME(vmcb(0)->save.rip, L2_CODE);
	s.what = "far call";
	L2(0, "\x9a\x00\x00\x00\x00\x38\x00");
	EXITS(0, SVM_EXIT_TASK_SWITCH);
	SAME(control->exit_info1 & 0xffff, 0x38);
	SAME(control->exit_info2 >> 32 & 0x1050, 0);
	s.what = "exception through a task gate";
	memset(at(SVM_SPARE), 0, PAGE);
	memcpy(at(SVM_SPARE + 13 * 8), &tss_gate, 8);
	vmcb(0)->save.idtr.base = SVM_SPARE;
	L2(0, "\xb8\xf0\x00\x00\x00\x8e\xd8");
	EXITS(0, SVM_EXIT_TASK_SWITCH);
	SAME(control->exit_info1 & 0xffff, 0x38);
	SAME(control->exit_info2 >> 32 & 0x1050, 0x1000);
	SAME((uint32_t)control->exit_info2, 0xf0);
	SAME(control->exit_int_info & 0xffffffff, EVENT_VALID | EVENT_ERROR | EVENT_TYPE_EXCEPTION << 8 | 13);
	SAME(control->exit_int_info >> 32, 0xf0);
}

/* Shutdown, and what it was that led to it. */
static void test_shutdown(void)
{
	vmcb(0)->save.idtr.limit = 0;
	L2(0, "\x0f\x0b");
	EXITS(0, SVM_EXIT_SHUTDOWN);
	/* #DF is intercepted before. */
	l2_reset(0);
	vmcb(0)->save.idtr.limit = 0;
	intercept(0, SVM_EXIT_EXCEPTION + 8);
	L2(0, "\x0f\x0b");
	EXITS(0, SVM_EXIT_EXCEPTION + 8);
	/* And the #GP before that, with what was being delivered. */
	l2_reset(0);
	vmcb(0)->save.idtr.limit = 0;
	intercept(0, SVM_EXIT_EXCEPTION + 13);
	intercept(0, SVM_EXIT_EXCEPTION + 8);
	L2(0, "\x0f\x0b");
	EXITS(0, SVM_EXIT_EXCEPTION + 13);
	SAME(vmcb(0)->control.exit_info1 & ~UINT64_C(1), 6 << 3 | 2);
	SAME(vmcb(0)->control.exit_int_info & 0xffffffff, EVENT_VALID | EVENT_TYPE_EXCEPTION << 8 | 6);
}

static const struct svm_test tests[] = {
	{ "exceptions", test_exceptions, 0 },
	{ "page fault", test_page_fault, 0 },
	{ "not exceptions", test_not_exceptions, 0 },
	{ "vmcall", test_vmcall, 0 },
	{ "task switch", test_task_switch, 0 },
	{ "shutdown", test_shutdown, 0 },
};

int main(int argc, char **argv)
{
	int bad = svm_tests(tests, sizeof(tests) / sizeof(tests[0]), argc > 1 ? argv + 1 : NULL);

	return check_end() ? 1 : bad;
}

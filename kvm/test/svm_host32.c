/* SPDX-License-Identifier: MIT */
/* L1 in 32-bit mode: its nested tables are as its own are, with 3 levels (PAE) or 2, or it can have none. */
#include "svm_guest.h"

/*
 * L1 in 32-bit mode has nested tables of its mode. It runs VMRUN at SVM_CODE and nothing else. L1's own tables are at
 * SVM_SPARE + 0x10000, the nested ones at + 0x14000.
 */
#define L1_32  (SVM_SPARE + 0x10000u)
#define NPT_32 (SVM_SPARE + 0x14000u)

static void l1_mode32(bool pae, bool paging)
{
	struct kvm_sregs sregs = sregs_get(0);

	memset(at(L1_32), 0, 8 * PAGE);
	if (pae) {
		*at64(L1_32) = (L1_32 + PAGE) | 1;
		*at64(NPT_32) = (NPT_32 + PAGE) | 1;
		for (uint64_t i = 0; i < 512; i++) {
			*at64(L1_32 + PAGE + i * 8) = i << 21 | 0xe7;
			*at64(NPT_32 + PAGE + i * 8) = i << 21 | 0xe7;
			*at64(NPT_32 + 2 * PAGE + i * 8) = i << 12 | 7;
		}
		*at64(NPT_32 + PAGE) = (NPT_32 + 2 * PAGE) | 7;
	} else {
		for (uint32_t i = 0; i < 1024; i++) {
			((uint32_t *)at(L1_32))[i] = i << 22 | 0xe7;
			((uint32_t *)at(NPT_32))[i] = i << 22 | 0xe7;
			((uint32_t *)at(NPT_32 + 2 * PAGE))[i] = i << 12 | 7;
		}
		*(uint32_t *)at(NPT_32) = (NPT_32 + 2 * PAGE) | 7;
	}
	sregs.cs.l = 0;
	sregs.cs.db = 1;
	sregs.cr0 = paging ? 0x80010033 : 0x33;
	sregs.cr3 = L1_32;
	sregs.cr4 = pae ? 0x20 : 0x10;
	sregs.efer = pae ? 0x1800 : 0x1000;
	sregs_set(0, &sregs);
}

/* L1 is to store the low and the high half of `value` at `address`, then to execute VMRUN. */
static void code32(uint32_t address, uint64_t value)
{
	uint8_t code[] = { 0xc7, 0x05, 0, 0, 0, 0, 0, 0, 0, 0, 0xc7, 0x05, 0, 0, 0, 0, 0, 0, 0, 0,
		0x0f, 0x01, 0xdd, 0x0f, 0x01, 0xd8, 0x0f, 0x01, 0xdc, 0xe6, SVM_DONE, 0xeb, 0xfe };
	uint32_t next = address + 4;

	memcpy(code + 2, &address, 4);
	memcpy(code + 6, &value, 4);
	memcpy(code + 12, &next, 4);
	memcpy(code + 16, (char *)&value + 4, 4);
	memcpy(at(SVM_CODE), code, sizeof(code));
}

static uint64_t run32(uint32_t address, uint64_t value)
{
	code32(address, value);
	if (svm_step(0, SVM_CODE, SVM_VMCB) != SVM_DONE)
		return L1_ODD;
	return vmcb(0)->control.exit_code;
}

static void l2_for32(void)
{
	l2_reset(0);
	l2_protected_mode(0);
	vmcb(0)->control.nested_cr3 = NPT_32;
	L2(0, "\xa1\x08\x80\x05\x00\xa3\x10\x80\x05\x00"); /* EAX from L2_DATA + 8, to L2_DATA + 0x10 */
	*at64(L2_DATA + 8) = 0x2468;
	*at64(L2_DATA + 16) = 0;
}

/* A legacy entry has 32 bits; what is stored behind it is the next page's, as it was. */
static uint64_t halves32(bool pae, uint64_t value)
{
	return pae ? value : value | (uint64_t)(L2_DATA + PAGE + 7) << 32;
}

static void mode32(bool pae)
{
	static const struct {
		const char *name;
		uint64_t value;
		uint64_t info1, offset;
		bool pae_only;
	} rows[] = {
		{ "fine", L2_DATA | 7, 0, 0, false },
		{ "absent", 0, INFO_FINAL | U, 8, false },
		{ "read-only", L2_DATA | 5, INFO_FINAL | P | W | U, 0x10, false },
		{ "supervisor", L2_DATA | 3, INFO_FINAL | P | U, 8, false },
		{ "NX", L2_DATA | 7 | NX, 0, 0, true },
		{ "bit 62", L2_DATA | 7 | UINT64_C(1) << 62, INFO_FINAL | P | U | 8, 8, true },
	};

	uint32_t entry = NPT_32 + 2 * 0x1000u + (L2_DATA >> 12) * (pae ? 8 : 4);

	l1_mode32(pae, true);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].pae_only && !pae)
			continue;
		s.what = rows[i].name;
		l2_for32();
		if (!rows[i].info1) {
			SAME(run32(entry, halves32(pae, rows[i].value)), SVM_EXIT_VMMCALL);
			SAME(*at64(L2_DATA + 16), 0x2468);
			SAME(*(uint32_t *)at(entry) & (ACC | DIR), ACC | DIR);
			continue;
		}
		SAME(run32(entry, halves32(pae, rows[i].value)), SVM_EXIT_NPF);
		SAME(vmcb(0)->control.exit_info1, rows[i].info1);
		SAME(vmcb(0)->control.exit_info2, L2_DATA + rows[i].offset);
	}
}

/* #VMEXIT loads L1's PDPTEs again. L2 has put a reserved bit into one: L1 shuts down. */
static void test_host_pdptes(void)
{
	const struct kvm_regs regs = { .rip = SVM_CODE, .rflags = 2, .rax = SVM_VMCB };
	const uint32_t pdpte = L1_32 + 24;
	uint8_t code[] = { 0xc7, 0x05, 0, 0, 0, 0, 3, 0, 0, 0 };

	l1_mode32(true, true);
	l2_for32();
	memcpy(code + 2, &pdpte, 4);
	l2_code(0, code, sizeof(code));
	code32(SVM_OTHER, 0);
	NEED(ioctl(s.m.vcpu[0], KVM_SET_REGS, &regs) == 0 && ioctl(s.m.vcpu[0], KVM_RUN, 0) == 0);
	SAME(s.m.run[0]->exit_reason, KVM_EXIT_SHUTDOWN);
	SAME(*at64(pdpte), 3);
	SAME(vmcb(0)->control.exit_code, SVM_EXIT_VMMCALL);
}

/* Only a hypervisor in 64-bit mode can have VMLOAD of L2's own. */
static void test_virtual_vmload32(void)
{
	if (!features.virtual_vmload)
		return;
	l1_mode32(true, true);
	l2_for32();
	vmcb(0)->control.virtual_extension = VIRTUAL_VMLOAD;
	vmcb(0)->save.rax = L2_DATA;
	L2(0, "\x0f\x01\xda");
	SAME(run32(SVM_OTHER, 0), SVM_EXIT_VMLOAD);
	SAME(vmcb(0)->save.rip, L2_CODE);
}

static void test_pae(void) { mode32(true); }
static void test_legacy_npt(void) { mode32(false); }

/* Without paging, L1 cannot give nested paging. */
static void test_unpaged_host(void)
{
	l1_mode32(false, false);
	l2_for32();
	SAME(run32(SVM_OTHER, 0), SVM_EXIT_INVALID);
	vmcb(0)->control.nested = 0;
	SAME(run32(SVM_OTHER, 0), SVM_EXIT_VMMCALL);
	SAME(*at64(L2_DATA + 16), 0x2468);
}

static const struct svm_test tests[] = {
	{ "PAE L1", test_pae, SVM_NP_ONLY | SVM_STAYS },
	{ "32-bit L1", test_legacy_npt, SVM_NP_ONLY | SVM_STAYS },
	{ "virtual vmload, PAE L1", test_virtual_vmload32, SVM_NP_ONLY | SVM_STAYS },
	{ "PDPTEs of L1", test_host_pdptes, SVM_NP_ONLY | SVM_STAYS },
	{ "unpaged L1", test_unpaged_host, SVM_NP_ONLY | SVM_STAYS },
};

int main(int argc, char **argv)
{
	int bad = svm_tests(tests, sizeof(tests) / sizeof(tests[0]), argc > 1 ? argv + 1 : NULL);

	return check_end() ? 1 : bad;
}

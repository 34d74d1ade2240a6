/* SPDX-License-Identifier: MIT */
/*
 * ASIDs, TLB_CONTROL, INVLPGA, and what L2 flushes itself. L1 changes an entry of L2's table (without nested paging) or
 * of its own nested table, and L2 reads through it.
 *
 * What must be flushed is the architecture's. That the old translation is still used where nothing has flushed it is a
 * promise of this CPU model alone, so that hypervisors find their bugs in it. It holds where the CPU walks L2's tables
 * by the VM's second-stage table (a shadow of them is exact, and a store to them flushes), until another ASID uses the
 * same linear address, and for pages that are not global.
 */
#include "svm_guest.h"

#define A UINT64_C(0xaaaa)
#define B UINT64_C(0xbbbb)

#define PAGE_A L2_DATA
#define PAGE_B (L2_DATA + PAGE)
#define OTHER  (L2_DATA + 2 * PAGE) /* a second page that L2 reads */

#define GLOBAL 0x100u

static bool keeps(void)
{
	return features.np && !s.np;
}

static void reset(unsigned asid, unsigned tlb_control)
{
	l2_reset(0);
	vmcb(0)->control.asid = asid;
	vmcb(0)->control.tlb_control = (uint8_t)tlb_control;
}

/* rbx = [PAGE_A], rsi = [OTHER] */
static void go(unsigned asid, unsigned tlb_control)
{
	reset(asid, tlb_control);
	L2(0, "\x48\x8b\x1c\x25\x00\x80\x05\x00\x48\x8b\x34\x25\x00\xa0\x05\x00");
	ENDS(0);
}

static uint64_t reads(unsigned asid, unsigned tlb_control)
{
	go(asid, tlb_control);
	return *l2_reg(0, RBX);
}

/* Where L2's PAGE_A and OTHER lead to. */
static void lead(uint64_t page, uint64_t other, uint64_t bits)
{
	if (s.np) {
		npt_entry_set(TABLE_PT, PAGE_A >> 12, page | 0x67);
		npt_entry_set(TABLE_PT, OTHER >> 12, other | 0x67);
	} else {
		l2_entry_set(TABLE_PT, PAGE_A >> 12, page | 0x67 | bits);
		l2_entry_set(TABLE_PT, OTHER >> 12, other | 0x67);
	}
}

static void begin(void)
{
	*at64(PAGE_A) = A;
	*at64(PAGE_B) = B;
	*at64(OTHER) = 0xcccc;
	SAME(reads(1, TLB_CONTROL_ALL), A);
}

/* L2 of that ASID runs, and does not touch the pages. */
static void runs(unsigned asid, unsigned tlb_control)
{
	reset(asid, tlb_control);
	L2(0, "\x90");
	ENDS(0);
}

static void test_tlb_control(void)
{
	begin();
	lead(PAGE_B, OTHER, 0);
	if (keeps()) {
		SAME(reads(1, TLB_CONTROL_NOTHING), A);
		runs(2, TLB_CONTROL_NOTHING);
		SAME(reads(1, TLB_CONTROL_NOTHING), A);
		/* Another ASID's are flushed, not these. */
		runs(2, TLB_CONTROL_ASID);
		SAME(reads(1, TLB_CONTROL_NOTHING), A);
		runs(2, TLB_CONTROL_ASID_LOCAL);
		SAME(reads(1, TLB_CONTROL_NOTHING), A);
	}
	/* Another ASID has never seen it. */
	SAME(reads(3, TLB_CONTROL_NOTHING), B);
	lead(PAGE_A, OTHER, 0);
	SAME(reads(1, TLB_CONTROL_ASID), A);
	SAME(reads(1, TLB_CONTROL_NOTHING), A);
	for (unsigned i = 0; i < 6; i++) {
		static const uint8_t flushes[] = { TLB_CONTROL_ALL, TLB_CONTROL_ASID, TLB_CONTROL_ASID_LOCAL };

		lead(i & 1 ? PAGE_A : PAGE_B, OTHER, 0);
		if (keeps())
			SAME(reads(1, TLB_CONTROL_NOTHING), i & 1 ? B : A);
		SAME(reads(1, flushes[i % 3]), i & 1 ? A : B);
		SAME(reads(1, TLB_CONTROL_NOTHING), i & 1 ? A : B);
	}
	/* All, by a VMRUN of another ASID. */
	lead(PAGE_B, OTHER, 0);
	runs(4, TLB_CONTROL_ALL);
	SAME(reads(1, TLB_CONTROL_NOTHING), B);
	SAME(reads(2, TLB_CONTROL_NOTHING), B);
	SAME(reads(3, TLB_CONTROL_NOTHING), B);
	/* VMRUN does not change the field. */
	SAME(reads(1, TLB_CONTROL_ALL), B);
	SAME(vmcb(0)->control.tlb_control, TLB_CONTROL_ALL);
}

/* Global pages may stay when TLB_CONTROL is 7, and others may not. */
static void test_global(void)
{
	if (!features.flush_asid)
		return;
	*at64(PAGE_A) = A;
	*at64(PAGE_B) = B;
	*at64(OTHER) = 0xcccc;
	lead(PAGE_A, OTHER, GLOBAL);
	SAME(reads(1, TLB_CONTROL_ALL), A);
	lead(PAGE_B, PAGE_B, GLOBAL);
	go(1, TLB_CONTROL_ASID_LOCAL);
	SAME(*l2_reg(0, RSI), B);
	SAME(reads(1, TLB_CONTROL_ASID), B);
	lead(PAGE_A, PAGE_A, GLOBAL);
	SAME(reads(1, TLB_CONTROL_ALL), A);
	SAME(*l2_reg(0, RSI), A);
}

/* INVLPGA: RAX is the address, ECX the ASID. */
static void invlpga(uint64_t address, uint32_t asid)
{
	uint8_t code[] = { 0xb9, 0, 0, 0, 0, 0x0f, 0x01, 0xdf };

	memcpy(code + 1, &asid, 4);
	SAME(l1_code(0, address, code, sizeof(code)), 0);
}

static void test_invlpga(void)
{
	begin();
	lead(PAGE_B, PAGE_B, 0);
	/* Another address, another ASID. */
	invlpga(OTHER + PAGE, 1);
	invlpga(PAGE_A, 7);
	if (keeps())
		SAME(reads(1, TLB_CONTROL_NOTHING), A);
	invlpga(PAGE_A + 0x123, 1);
	go(1, TLB_CONTROL_NOTHING);
	SAME(*l2_reg(0, RBX), B);
	if (keeps())
		SAME(*l2_reg(0, RSI), 0xcccc);
	invlpga(OTHER, 1);
	go(1, TLB_CONTROL_NOTHING);
	SAME(*l2_reg(0, RSI), B);
	/* It takes a global page, too. */
	lead(PAGE_A, PAGE_A, GLOBAL);
	SAME(reads(1, TLB_CONTROL_ALL), A);
	lead(PAGE_B, PAGE_B, GLOBAL);
	invlpga(PAGE_A, 1);
	SAME(reads(1, TLB_CONTROL_NOTHING), B);
}

/* A large page of L2's goes as a whole. */
static void test_invlpga_large(void)
{
	uint64_t *entry = l2_entry(TABLE_PD, 1);

	*at64(SVM_DATA + 0x1000) = A;
	*at64(0x401000) = B;
	reset(1, TLB_CONTROL_ALL);
	L2(0, "\x48\x8b\x1c\x25\x00\x10\x20\x00\x48\x8b\x34\x25\x08\x90\x30\x00");
	ENDS(0);
	SAME(*l2_reg(0, RBX), A);
	l1_store(L2_TABLES + (uint64_t)((uint8_t *)entry - (uint8_t *)at(L2_TABLES)), 0x400000 | 0xe7);
	invlpga(SVM_DATA + 0x9000, 1);
	reset(1, TLB_CONTROL_NOTHING);
	L2(0, "\x48\x8b\x1c\x25\x00\x10\x20\x00");
	ENDS(0);
	SAME(*l2_reg(0, RBX), B);
}

/* What L2 does itself, to its own ASID and by its own tables: INVLPG, MOV CR3, CR4.PGE. */
static void test_own(void)
{
	static const struct {
		const char *name, *bytes;
		unsigned total;
		bool global_goes, other_goes;
	} rows[] = {
		{ "INVLPG", "\x0f\x01\x3c\x25\x00\x80\x05\x00", 8, true, false },
		{ "MOV CR3", "\x0f\x20\xd8\x0f\x22\xd8", 6, false, true },
		{ "CR4.PGE", "\x0f\x20\xe0\x48\x0f\xba\xf8\x07\x0f\x22\xe0", 11, true, true },
		{ "INVLPGA", "\xb8\x00\x80\x05\x00\xb9\x01\x00\x00\x00\x0f\x01\xdf", 13, true, false },
	};
	static const char read[] = "\x48\x8b\x1c\x25\x00\x80\x05\x00\x48\x8b\x34\x25\x00\xa0\x05\x00";

	*at64(PAGE_A) = A;
	*at64(PAGE_B) = B;
	*at64(OTHER) = 0xcccc;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (unsigned global = 0; global < 2; global++) {
			uint8_t code[64];
			bool goes = !global || rows[i].global_goes;

			s.what = rows[i].name;
			l2_entry_set(TABLE_PT, PAGE_A >> 12, PAGE_A | 0x67 | (global ? GLOBAL : 0));
			l2_entry_set(TABLE_PT, OTHER >> 12, OTHER | 0x67);
			SAME(reads(1, TLB_CONTROL_ALL), A);
			l2_entry_set(TABLE_PT, PAGE_A >> 12, PAGE_B | 0x67 | (global ? GLOBAL : 0));
			l2_entry_set(TABLE_PT, OTHER >> 12, PAGE_B | 0x67);
			reset(1, TLB_CONTROL_NOTHING);
			memcpy(code, rows[i].bytes, rows[i].total);
			memcpy(code + rows[i].total, read, sizeof(read) - 1);
			l2_code(0, code, rows[i].total + sizeof(read) - 1);
			ENDS(0);
			if (goes)
				SAME(*l2_reg(0, RBX), B);
			if (rows[i].other_goes)
				SAME(*l2_reg(0, RSI), B);
			else if (keeps())
				SAME(*l2_reg(0, RSI), 0xcccc);
		}
	}
}

/* Intercepted, they flush nothing. */
static void test_intercepted(void)
{
	begin();
	lead(PAGE_B, PAGE_B, 0);
	reset(1, TLB_CONTROL_NOTHING);
	L2(0, "\x0f\x20\xd8\x0f\x22\xd8");
	intercept(0, SVM_EXIT_WRITE_CR0 + 3);
	EXITS(0, SVM_EXIT_WRITE_CR0 + 3);
	if (keeps())
		SAME(reads(1, TLB_CONTROL_NOTHING), A);
	SAME(reads(1, TLB_CONTROL_ASID), B);
}

/* L1's own translations are of ASID 0: L2's flushes and TLB_CONTROL 3 leave them, its own MOV CR3 leaves L2's. */
static void test_host(void)
{
	begin();
	lead(PAGE_B, OTHER, 0);
	SAME(L1(0, 0, "\x0f\x20\xd8\x0f\x22\xd8\x0f\x01\x3c\x25\x00\x80\x05\x00"), 0);
	if (keeps())
		SAME(reads(1, TLB_CONTROL_NOTHING), A);
	/* L1 reads its page, changes its own entry, reads again behind INVLPGA with ASID 0. */
	SAME(reads(1, TLB_CONTROL_ALL), B);
	SAME(L1(0, 0, "\x48\x8b\x1c\x25\x00\x10\x20\x00"), 0);
	l1_store(SVM_TABLES + TABLE_PD * PAGE + 8, 0x400000 | 0xe7);
	*at64(SVM_DATA + 0x1000) = A;
	*at64(0x401000) = B;
	invlpga(SVM_DATA + 0x1000, 0);
	SAME(L1(0, 0, "\x48\x8b\x1c\x25\x00\x10\x20\x00\x65\x48\x89\x1c\x25\x08\x01\x00\x00"), 0);
	SAME(*own64(0, OWN_MARK + 8), B);
}

/* Another nested table, or another CR3, under another ASID. */
static void test_tables(void)
{
	begin();
	memcpy(at(SVM_SPARE), at(s.np ? SVM_NPT : L2_TABLES), TABLE_PAGES * PAGE);
	for (unsigned i = 0; i < TABLE_PT; i++)
		for (unsigned j = 0; j < 512; j++) {
			uint64_t *entry = at64(SVM_SPARE + i * PAGE + j * 8);

			if ((*entry & 1) && !(*entry & 0x80))
				*entry += SVM_SPARE - (s.np ? SVM_NPT : L2_TABLES);
		}
	*at64(SVM_SPARE + TABLE_PT * PAGE + (PAGE_A >> 12) * 8) = PAGE_B | 0x67;
	for (unsigned i = 0; i < 4; i++) {
		reset(i & 1 ? 2 : 1, TLB_CONTROL_NOTHING);
		L2(0, "\x48\x8b\x1c\x25\x00\x80\x05\x00");
		if (i & 1)
			*(s.np ? &vmcb(0)->control.nested_cr3 : &vmcb(0)->save.cr3) = SVM_SPARE;
		ENDS(0);
		SAME(*l2_reg(0, RBX), i & 1 ? B : A);
	}
	/* The same ASID, flushed. */
	for (unsigned i = 0; i < 4; i++) {
		reset(1, TLB_CONTROL_ASID);
		L2(0, "\x48\x8b\x1c\x25\x00\x80\x05\x00");
		if (i & 1)
			*(s.np ? &vmcb(0)->control.nested_cr3 : &vmcb(0)->save.cr3) = SVM_SPARE;
		ENDS(0);
		SAME(*l2_reg(0, RBX), i & 1 ? B : A);
	}
}

static const struct svm_test tests[] = {
	{ "tlb control", test_tlb_control, SVM_STAYS },
	{ "global", test_global, SVM_STAYS },
	{ "invlpga", test_invlpga, SVM_STAYS | SVM_PLAIN },
	{ "invlpga, large", test_invlpga_large, SVM_STAYS },
	{ "own", test_own, SVM_STAYS },
	{ "intercepted", test_intercepted, SVM_STAYS },
	{ "host", test_host, SVM_STAYS },
	{ "tables", test_tables, 0 },
};

int main(int argc, char **argv)
{
	int bad = svm_tests(tests, sizeof(tests) / sizeof(tests[0]), argc > 1 ? argv + 1 : NULL);

	return check_end() ? 1 : bad;
}

/* SPDX-License-Identifier: MIT */
/*
 * Nested page faults: every kind of access, final or to each level of L2's tables, with every kind of trouble at each
 * level of L1's nested table, for each page size. EXITINFO1 and 2 must be as APM vol. 2, 15.25.6 says, L2's state as
 * before the access, and L2 must go on when L1 has mended the entry. Accessed and dirty bits of the nested table.
 */
#include "svm_guest.h"

/*
 * The page that is played with. L2 reaches it at LINEAR, by tables for that alone, as L2 physical PHYSICAL, which
 * nested tables for that alone map to SVM_DATA.
 */
#define LINEAR   (UINT64_C(1) << 39 | SVM_DATA)
#define PHYSICAL (UINT64_C(1) << 39 | SVM_DATA)
#define L2X      SVM_SPARE               /* L2's PDPT, PD and PT of it */
#define NPTX     (SVM_SPARE + 4 * 0x1000u) /* L1's */

enum access { READ, WRITE, UPDATE, FETCH, TABLE4, TABLE3, TABLE2, TABLE1, ACCESSES };

static const char *const access_names[] = {
	"read", "write", "update", "fetch", "PML4", "PDPT", "PD", "PT",
};

/* ---- building -------------------------------------------------------------------------------------------- */

/* The nested entry of `level` (4 .. 1) on the way to PHYSICAL. */
static uint64_t nested_address(unsigned level)
{
	static const unsigned index[] = { 0, SVM_DATA >> 12 & 511, SVM_DATA >> 21, 0 };

	return level == 4 ? SVM_NPT + 8 : NPTX + (3 - level) * 0x1000 + index[level] * 8;
}

/* What is in it when `leaf` is the level of the page. */
static uint64_t nested_value(unsigned level, unsigned leaf, uint64_t bits)
{
	if (level > leaf)
		return (NPTX + (4 - level) * 0x1000) | bits;
	return (leaf == 3 ? 0 : SVM_DATA) | (leaf > 1 ? PS : 0) | bits;
}

/* L2's entry of `level` on the way to LINEAR, wherever its table is. */
static unsigned l2_index(unsigned level)
{
	static const unsigned index[] = { 0, SVM_DATA >> 12 & 511, SVM_DATA >> 21, 0, 1 };

	return index[level];
}

/* A store that changes nothing is left out. */
static void nested_store(uint64_t address, uint64_t value)
{
	if (*at64(address) != value)
		l1_store(address, value);
}

static void build(unsigned leaf, uint64_t bits)
{
	*l2_entry(TABLE_PML4, 1) = L2X | 0x67;
	*at64(L2X + l2_index(3) * 8) = (L2X + PAGE) | 0x67;
	*at64(L2X + PAGE + l2_index(2) * 8) = (L2X + 2 * PAGE) | 0x67;
	*at64(L2X + 2 * PAGE + l2_index(1) * 8) = PHYSICAL | 0x67;
	for (unsigned level = 4; level >= leaf; level--)
		nested_store(nested_address(level), nested_value(level, leaf, bits));
}

static unsigned table_level(enum access access)
{
	return 4 - (access - TABLE4);
}

/* L2's table of that level is the page at PHYSICAL. */
static void table_in_page(unsigned level)
{
	if (level == 4) {
		memcpy(at(SVM_DATA), at(L2_TABLES), PAGE);
		return;
	}
	memcpy(at(SVM_DATA), at(L2X + (3 - level) * PAGE), PAGE);
	if (level == 1)
		*at64(SVM_DATA + l2_index(1) * 8) = (SVM_DATA + PAGE) | 0x67;
	if (level == 3)
		*l2_entry(TABLE_PML4, 1) = PHYSICAL | 0x67;
	else
		*at64(L2X + (2 - level) * PAGE + l2_index(level + 1) * 8) = PHYSICAL | 0x67;
}

/* movabs of RAX from or to LINEAR + 0x238 (8 bytes); INC of it; a jump to it. */
static void program(enum access access)
{
	static const uint8_t read[] = { 0x48, 0xa1, 0x38, 2, 0x20, 0, 0x80, 0, 0, 0 };
	static const uint8_t write[] = { 0x48, 0xa3, 0x38, 2, 0x20, 0, 0x80, 0, 0, 0 };
	static const uint8_t update[] = { 0x48, 0xb9, 0x38, 2, 0x20, 0, 0x80, 0, 0, 0, 0xff, 0x01 };
	static const uint8_t fetch[] = { 0x48, 0xb9, 0x38, 2, 0x20, 0, 0x80, 0, 0, 0, 0xff, 0xe1 };

	if (access == WRITE)
		l2_code(0, write, sizeof(write));
	else if (access == UPDATE)
		l2_code(0, update, sizeof(update));
	else if (access == FETCH)
		l2_code(0, fetch, sizeof(fetch));
	else
		l2_code(0, read, sizeof(read));
}

static void prepare(enum access access, unsigned leaf, uint64_t bits)
{
	build(leaf, bits);
	l2_reset(0);
	program(access);
	*at64(SVM_DATA + 0x238) = 0x1111;
	if (access == FETCH)
		memcpy(at(SVM_DATA + 0x238), "\x0f\x01\xd9", 3);
	if (access >= TABLE4)
		table_in_page(table_level(access));
	if (access == TABLE4)
		vmcb(0)->save.cr3 = PHYSICAL;
	vmcb(0)->save.rax = 0x2222;
	*l2_reg(0, RBX) = 0x3333;
}

/* ---- faults ---------------------------------------------------------------------------------------------- */

struct trouble {
	const char *name;
	uint64_t clear, set;
	unsigned levels; /* bit n: at level n; bit 4 + n: only where that level is the page's own */
	enum { ABSENT, READ_ONLY, SUPERVISOR, NO_EXECUTE, RESERVED, HARMLESS } kind;
};
#define EACH      0x1eu
#define AS_LEAF(n) (1u << (4 + (n)))

static bool faults(enum access access, const struct trouble *trouble)
{
	bool writes = access == WRITE || access == UPDATE || access >= TABLE4;

	switch (trouble->kind) {
	case READ_ONLY: return writes;
	case NO_EXECUTE: return access == FETCH;
	case HARMLESS: return false;
	default: return true;
	}
}

static uint64_t info1_of(enum access access, const struct trouble *trouble)
{
	bool writes = access == WRITE || access == UPDATE || access >= TABLE4;

	return (trouble->kind == ABSENT ? 0 : P) | (writes ? W : 0) | U | (trouble->kind == RESERVED ? 8 : 0) |
	       (access == FETCH ? 0x10 : 0) | (access >= TABLE4 ? INFO_TABLE : INFO_FINAL);
}

/* The first address that L2 needs in the page. With its PML4 there, that is the entry for the code. */
static uint64_t info2_of(enum access access)
{
	if (access == TABLE4)
		return PHYSICAL;
	if (access > TABLE4)
		return PHYSICAL + l2_index(table_level(access)) * 8;
	return PHYSICAL + 0x238;
}

static uint64_t rip_of(enum access access)
{
	if (access == FETCH)
		return LINEAR + 0x238;
	return access == UPDATE ? L2_CODE + 10 : L2_CODE;
}

/* What a successful access leaves. */
static void succeeded(enum access access)
{
	if (access == FETCH) {
		SAME(vmcb(0)->save.rip, LINEAR + 0x238);
		return;
	}
	SAME(vmcb(0)->save.rip, L2_CODE + (access == UPDATE ? 12 : 10));
	if (access == READ)
		SAME(vmcb(0)->save.rax, 0x1111);
	else if (access == WRITE)
		SAME(*at64(SVM_DATA + 0x238), 0x2222);
	else if (access == UPDATE)
		SAME(*at64(SVM_DATA + 0x238), 0x1112);
}

static void trouble_try(enum access access, unsigned leaf, unsigned level, const struct trouble *trouble)
{
	static char what[128];
	const struct vmcb_control *control = &vmcb(0)->control;
	uint64_t good = nested_value(level, leaf, 0x67);

	snprintf(what, sizeof(what), "%s, page of level %u, %s at level %u%s", access_names[access], leaf,
	         trouble->name, level, s.moves ? ", moving" : "");
	s.what = what;
	prepare(access, leaf, 0x67);
	nested_store(nested_address(level), (good & ~trouble->clear) | trouble->set);
	if (!faults(access, trouble)) {
		ENDS(0);
		succeeded(access);
		return;
	}
	EXITS(0, SVM_EXIT_NPF);
	SAME(control->exit_info1, info1_of(access, trouble));
	SAME(control->exit_info2, info2_of(access));
	SAME(vmcb(0)->save.rip, rip_of(access));
	SAME(vmcb(0)->save.rax, 0x2222);
	SAME(control->exit_int_info >> 31 & 1, 0);
	if (access < TABLE4 && access != FETCH)
		SAME(*at64(SVM_DATA + 0x238), 0x1111);
	if (features.decode && access <= FETCH)
		SAME(control->fetched_count, access == FETCH ? 0 : 15);
	if (features.decode && access < FETCH)
		SAME(memcmp(control->fetched, at(rip_of(access)), 15), 0);
	/* Mended, it goes on. */
	l1_store(nested_address(level), good);
	ENDS(0);
	succeeded(access);
	SAME(*l2_reg(0, RBX), 0x3333);
}

static bool trouble_is_at(const struct trouble *trouble, unsigned level, unsigned leaf)
{
	return (trouble->levels >> level & 1) || (level == leaf && (trouble->levels >> (4 + level) & 1));
}

static void troubles_try(enum access access, const struct trouble *troubles, unsigned count)
{
	for (unsigned leaf = 1; leaf <= (features.gbpages ? 3u : 2u); leaf++)
		for (unsigned level = 4; level >= leaf; level--)
			for (unsigned i = 0; i < count; i++)
				if (trouble_is_at(&troubles[i], level, leaf))
					trouble_try(access, leaf, level, &troubles[i]);
}

static void access_try(enum access access)
{
	/* A processor with 52 bits has no such reserved bits: NX in their place. */
	const bool narrow = features.phys_bits < 52;
	const struct trouble troubles[] = {
		{ "not present", P, 0, EACH, ABSENT },
		{ "not present, other bits set", P, UINT64_C(0x7ff0000000000f00), EACH, ABSENT },
		{ "not writable", W, 0, EACH, READ_ONLY },
		{ "not user", U, 0, EACH, SUPERVISOR },
		{ "NX", 0, NX, EACH, NO_EXECUTE },
		{ "bit 51", 0, narrow ? UINT64_C(1) << 51 : NX, EACH, narrow ? RESERVED : NO_EXECUTE },
		{ "MAXPHYADDR", 0, narrow ? UINT64_C(1) << features.phys_bits : NX, EACH,
		  narrow ? RESERVED : NO_EXECUTE },
		{ "PS", 0, PS, 1 << 4, RESERVED },
		{ "bit 8", 0, 0x100, 1 << 4, RESERVED },
		{ "bit 13", 0, 0x2000, AS_LEAF(2) | AS_LEAF(3), RESERVED },
		{ "bit 20", 0, 1 << 20, AS_LEAF(2) | AS_LEAF(3), RESERVED },
		{ "bit 29", 0, 1 << 29, AS_LEAF(3), RESERVED },
		{ "reserved and not writable", W, narrow ? UINT64_C(1) << 51 : W, AS_LEAF(1) | AS_LEAF(2),
		  narrow ? RESERVED : HARMLESS },
		{ "available bits", 0, UINT64_C(0x07f0000000000e00), EACH, HARMLESS },
		{ "cache bits", 0, 0x18, EACH, HARMLESS },
		{ "PAT", 0, 0x80, AS_LEAF(1), HARMLESS },
		{ "PAT, large", 0, 0x1000, AS_LEAF(2) | AS_LEAF(3), HARMLESS },
		{ "G", 0, 0x100, AS_LEAF(1) | AS_LEAF(2) | AS_LEAF(3), HARMLESS },
	};

	troubles_try(access, troubles, sizeof(troubles) / sizeof(troubles[0]));
}

static void test_read(void) { access_try(READ); }
static void test_write(void) { access_try(WRITE); }
static void test_update(void) { access_try(UPDATE); }
static void test_fetch(void) { access_try(FETCH); }
static void test_table4(void) { access_try(TABLE4); }
static void test_table3(void) { access_try(TABLE3); }
static void test_table2(void) { access_try(TABLE2); }
static void test_table1(void) { access_try(TABLE1); }

/* ---- L2 without paging, and with other bits of its own --------------------------------------------------- */

/* Its addresses are physical: final accesses all. */
static void test_unpaged(void)
{
	struct vmcb_control *control = &vmcb(0)->control;

	npt_entry_set(TABLE_PT, L2_DATA >> 12, 0);
	l2_protected_mode(0);
	L2(0, "\xa1\x08\x80\x05\x00");
	EXITS(0, SVM_EXIT_NPF);
	SAME(control->exit_info1, INFO_FINAL | U);
	SAME(control->exit_info2, L2_DATA + 8);
	npt_entry_set(TABLE_PT, L2_DATA >> 12, L2_DATA | 5);
	*at64(L2_DATA + 8) = 0x77;
	ENDS(0);
	SAME(vmcb(0)->save.rax, 0x77);
	L2(0, "\xa3\x08\x80\x05\x00");
	vmcb(0)->save.rip = L2_CODE;
	EXITS(0, SVM_EXIT_NPF);
	SAME(control->exit_info1, INFO_FINAL | U | W | P);
	npt_entry_set(TABLE_PT, L2_DATA >> 12, L2_DATA | 7 | NX);
	ENDS(0);
	vmcb(0)->save.rip = L2_DATA;
	EXITS(0, SVM_EXIT_NPF);
	SAME(control->exit_info1, INFO_FINAL | U | P | 0x10);
	SAME(control->exit_info2, L2_DATA);
	/* Real mode. */
	s.what = "real mode";
	l2_reset(0);
	l2_real_mode(0);
	npt_entry_set(TABLE_PT, L2_CODE >> 12, 0);
	L2(0, "\x90");
	EXITS(0, SVM_EXIT_NPF);
	SAME(control->exit_info1, INFO_FINAL | U | 0x10);
	SAME(control->exit_info2, L2_CODE);
	npt_entry_set(TABLE_PT, L2_CODE >> 12, L2_CODE | 7);
	ENDS(0);
}

/* PAE and legacy tables of L2. */
static void l2_paged32(bool pae)
{
	struct vmcb_save *save = &vmcb(0)->save;

	l2_protected_mode(0);
	save->cr0 = 0x80010033;
	save->cr3 = L2X;
	save->cr4 = pae ? 0x20 : 0x10;
	memset(at(L2X), 0, 3 * PAGE);
	if (pae) {
		*at64(L2X) = (L2X + PAGE) | 1;
		*at64(L2X + PAGE) = 0xe7;
		*at64(L2X + PAGE + 8) = (L2X + 2 * PAGE) | 7;
		*at64(L2X + 2 * PAGE) = SVM_DATA | 7;
	} else {
		*(uint32_t *)at(L2X) = 0xe7;
		*(uint32_t *)at(L2X + 4) = (L2X + 2 * PAGE) | 7; /* from 4 MiB on */
		*(uint32_t *)at(L2X + 2 * PAGE) = SVM_DATA | 7;
	}
}

static void test_legacy(void)
{
	struct vmcb_control *control = &vmcb(0)->control;

	for (unsigned pae = 0; pae < 2; pae++) {
		uint32_t linear = pae ? 0x200000 : 0x400000;
		uint8_t code[5] = { 0xa1 };

		s.what = pae ? "L2 with PAE" : "L2 with 32-bit tables";
		l2_reset(0);
		l2_paged32(pae);
		memcpy(code + 1, &linear, 4);
		l2_code(0, code, sizeof(code));
		*at64(SVM_DATA) = 0x4321;
		ENDS(0);
		SAME((uint32_t)vmcb(0)->save.rax, 0x4321);
		/* The page table is read-only for L2. */
		npt_entry_set(TABLE_PT, (L2X >> 12) + 2, (L2X + 2 * PAGE) | 5);
		vmcb(0)->save.rip = L2_CODE;
		EXITS(0, SVM_EXIT_NPF);
		SAME(control->exit_info1, INFO_TABLE | U | W | P);
		SAME(control->exit_info2, L2X + 2 * PAGE);
		npt_entry_set(TABLE_PT, (L2X >> 12) + 2, 0);
		EXITS(0, SVM_EXIT_NPF);
		SAME(control->exit_info1, INFO_TABLE | U | W);
		npt_entry_set(TABLE_PT, (L2X >> 12) + 2, (L2X + 2 * PAGE) | 7);
		ENDS(0);
		/* And the page. */
		npt_entry_set(TABLE_PD, 1, 0);
		vmcb(0)->save.rip = L2_CODE;
		EXITS(0, SVM_EXIT_NPF);
		SAME(control->exit_info1, INFO_FINAL | U);
		SAME(control->exit_info2, SVM_DATA);
		npt_entry_set(TABLE_PD, 1, SVM_DATA | 0xe7);
		ENDS(0);
	}
}

/* L2's own faults come before the final nested one, and behind that of their table. */
static void test_order(void)
{
	struct vmcb_control *control = &vmcb(0)->control;

	s.what = "L2's entry is absent, the page too";
	prepare(READ, 1, 0x67);
	*at64(L2X + 2 * PAGE + l2_index(1) * 8) = 0;
	l1_store(nested_address(1), 0);
	FAULTS(0, 14);
	SAME(l2_frame(0)->error, 0);
	s.what = "L2's entry is read-only, the page absent";
	prepare(WRITE, 1, 0x67);
	*at64(L2X + 2 * PAGE + l2_index(1) * 8) = PHYSICAL | 0x65;
	l1_store(nested_address(1), 0);
	FAULTS(0, 14);
	SAME(l2_frame(0)->error, 3);
	s.what = "L2's entry is absent, its table too";
	prepare(TABLE1, 1, 0x67);
	*at64(SVM_DATA + l2_index(1) * 8) = 0;
	l1_store(nested_address(1), 0);
	EXITS(0, SVM_EXIT_NPF);
	SAME(control->exit_info1, INFO_TABLE | U | W);
	l1_store(nested_address(1), nested_value(1, 1, 0x67));
	FAULTS(0, 14);
	SAME(vmcb(0)->save.cr2, LINEAR + 0x238);
	s.what = "L2 without CR0.WP";
	prepare(WRITE, 1, 0x67);
	vmcb(0)->save.cr0 &= ~UINT64_C(0x10000);
	l1_store(nested_address(1), nested_value(1, 1, 0x65));
	EXITS(0, SVM_EXIT_NPF);
	SAME(control->exit_info1, INFO_FINAL | U | W | P);
	s.what = "L2 at CPL 3";
	prepare(READ, 1, 0x67);
	l2_user_mode(0);
	l1_store(nested_address(1), 0);
	EXITS(0, SVM_EXIT_NPF);
	SAME(control->exit_info1, INFO_FINAL | U);
	l1_store(nested_address(1), nested_value(1, 1, 0x67));
	ENDS(0);
	SAME(vmcb(0)->save.cpl, 3);
}

/* An access that crosses into a page that is missing: nothing of it is done. */
static void test_crossing(void)
{
	prepare(WRITE, 1, 0x67);
	*at64(L2X + 2 * PAGE + (l2_index(1) + 1) * 8) = (PHYSICAL + PAGE) | 0x67;
	l1_store(nested_address(1) + 8, 0);
	L2(0, "\x48\xa3\xfc\x0f\x20\x00\x80\x00\x00\x00");
	*(uint32_t *)at(SVM_DATA + 0xffc) = 0x5555;
	EXITS(0, SVM_EXIT_NPF);
	SAME(vmcb(0)->control.exit_info2, PHYSICAL + PAGE);
	SAME(vmcb(0)->control.exit_info1, INFO_FINAL | U | W);
	SAME(*(uint32_t *)at(SVM_DATA + 0xffc), 0x5555);
	l1_store(nested_address(1) + 8, (SVM_DATA + 4 * PAGE) | 0x67);
	vmcb(0)->save.rax = UINT64_C(0x1234567876543210);
	ENDS(0);
	SAME(*(uint32_t *)at(SVM_DATA + 0xffc), 0x76543210);
	SAME(*(uint32_t *)at(SVM_DATA + 4 * PAGE), 0x12345678);
}

/* ---- accessed and dirty ---------------------------------------------------------------------------------- */

static void test_accessed(void)
{
	for (unsigned leaf = 1; leaf <= (features.gbpages ? 3u : 2u); leaf++) {
		for (enum access access = READ; access < ACCESSES; access++) {
			static char what[80];
			bool writes = access == WRITE || access == UPDATE || access >= TABLE4;

			snprintf(what, sizeof(what), "A and D: %s, page of level %u", access_names[access], leaf);
			s.what = what;
			prepare(access, leaf, 7);
			ENDS(0);
			succeeded(access);
			for (unsigned level = 4; level >= leaf; level--)
				SAME(*at64(nested_address(level)) & ACC, ACC);
			SAME(*at64(nested_address(leaf)) & DIR, writes ? DIR : 0);
		}
	}
	/* First read, then written; and what L1 has cleared comes back after a flush. */
	for (unsigned leaf = 1; leaf <= (features.gbpages ? 3u : 2u); leaf++) {
		s.what = "A and D again";
		prepare(READ, leaf, 7);
		ENDS(0);
		SAME(*at64(nested_address(leaf)) & (ACC | DIR), ACC);
		vmcb(0)->save.rip = L2_CODE;
		program(WRITE);
		ENDS(0);
		SAME(*at64(nested_address(leaf)) & (ACC | DIR), ACC | DIR);
		for (unsigned i = 0; i < 2; i++) {
			l1_store(nested_address(leaf), nested_value(leaf, leaf, 7));
			vmcb(0)->save.rip = L2_CODE;
			program(i ? WRITE : READ);
			ENDS(0);
			SAME(*at64(nested_address(leaf)) & (ACC | DIR), i ? ACC | DIR : ACC);
		}
		/* D alone. */
		l1_store(nested_address(leaf), nested_value(leaf, leaf, 7 | ACC));
		vmcb(0)->save.rip = L2_CODE;
		program(WRITE);
		ENDS(0);
		SAME(*at64(nested_address(leaf)) & (ACC | DIR), ACC | DIR);
	}
	/* L2's own A and D bits, through a nested table with everything set. */
	s.what = "A and D of L2";
	prepare(WRITE, 1, 0x67);
	*l2_entry(TABLE_PML4, 1) = L2X | 7;
	*at64(L2X) = (L2X + PAGE) | 7;
	*at64(L2X + 2 * PAGE + l2_index(1) * 8) = PHYSICAL | 7;
	ENDS(0);
	SAME(*l2_entry(TABLE_PML4, 1) & (ACC | DIR), ACC);
	SAME(*at64(L2X) & (ACC | DIR), ACC);
	SAME(*at64(L2X + 2 * PAGE + l2_index(1) * 8) & (ACC | DIR), ACC | DIR);
}

/* Five levels. */
static void test_la57(void)
{
	uint64_t l1_top = SVM_SPARE + 0x10000, npt_top = SVM_SPARE + 0x11000;
	struct kvm_sregs sregs = sregs_get(0);

	if (!features.la57)
		return;
	*at64(l1_top) = SVM_TABLES | 0x67;
	*at64(npt_top) = SVM_NPT | 7;
	/* CR4.LA57 changes without paging only. */
	sregs.cr3 = l1_top;
	sregs.cr4 |= 1 << 12;
	sregs_set(0, &sregs);
	prepare(WRITE, 1, 7);
	vmcb(0)->control.nested_cr3 = npt_top;
	ENDS(0);
	succeeded(WRITE);
	SAME(*at64(npt_top) & ACC, ACC);
	l1_store(npt_top, 0);
	vmcb(0)->save.rip = L2_CODE;
	EXITS(0, SVM_EXIT_NPF);
	SAME(vmcb(0)->control.exit_info1, INFO_TABLE | U | W);
	SAME(vmcb(0)->control.exit_info2, L2_TABLES);
	l1_store(npt_top, SVM_NPT | 7 | PS);
	EXITS(0, SVM_EXIT_NPF);
	SAME(vmcb(0)->control.exit_info1, INFO_TABLE | U | W | P | 8);
	l1_store(npt_top, SVM_NPT | 7);
	ENDS(0);
}

static const struct svm_test tests[] = {
	{ "read", test_read, SVM_NP_ONLY },
	{ "write", test_write, SVM_NP_ONLY },
	{ "update", test_update, SVM_NP_ONLY | SVM_STAYS },
	{ "fetch", test_fetch, SVM_NP_ONLY | SVM_STAYS },
	{ "PML4", test_table4, SVM_NP_ONLY | SVM_STAYS },
	{ "PDPT", test_table3, SVM_NP_ONLY | SVM_STAYS },
	{ "PD", test_table2, SVM_NP_ONLY | SVM_STAYS },
	{ "PT", test_table1, SVM_NP_ONLY },
	{ "unpaged", test_unpaged, SVM_NP_ONLY },
	{ "legacy", test_legacy, SVM_NP_ONLY },
	{ "order", test_order, SVM_NP_ONLY },
	{ "crossing", test_crossing, SVM_NP_ONLY },
	{ "accessed", test_accessed, SVM_NP_ONLY },
	{ "LA57", test_la57, SVM_NP_ONLY | SVM_STAYS },
};

int main(int argc, char **argv)
{
	int bad = svm_tests(tests, sizeof(tests) / sizeof(tests[0]), argc > 1 ? argv + 1 : NULL);

	return check_end() ? 1 : bad;
}

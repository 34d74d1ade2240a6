/* SPDX-License-Identifier: MIT */
/* Every intercept of an instruction, once set and once not; its order among exceptions; nRIP and decode assists. */
#include "svm_guest.h"

#define CODE(bytes) bytes, sizeof(bytes) - 1
#define NO_INFO UINT64_MAX

struct row {
	const char *name;
	unsigned exit;
	const char *bytes; /* what is intercepted comes after `skip` bytes, and has `length` */
	unsigned total, skip, length;
	uint64_t info1;    /* NO_INFO: not defined */
	enum l2_mode mode;
	int alone;         /* not intercepted: the vector that it raises, DOES if it has its effect, or SKIP: not run */
};
#define DOES -1
#define SKIP -2

static void row_code(const struct row *row)
{
	l2_code(0, row->bytes, row->total);
	s.what = row->name;
}

static void row_intercepted(const struct row *row)
{
	const struct vmcb *b = vmcb(0);

	l2_mode(0, row->mode);
	row_code(row);
	intercept(0, row->exit);
	EXITS(0, row->exit);
	SAME(b->save.rip, l2_start(row->mode) + row->skip);
	SAME(b->control.exit_int_info >> 31 & 1, 0);
	if (features.nrip && row->length)
		SAME(b->control.next_rip, l2_start(row->mode) + row->skip + row->length);
	if (features.decode && row->info1 != NO_INFO)
		SAME(b->control.exit_info1, row->info1);
	/* L1 may go on behind it. */
	if (!row->length)
		return;
	vmcb(0)->save.rip = l2_start(row->mode) + row->skip + row->length;
	ENDS(0);
	SAME(vmcb(0)->save.rip, l2_start(row->mode) + row->total);
}

static void row_alone(const struct row *row)
{
	if (row->alone == SKIP)
		return;
	l2_mode(0, row->mode);
	row_code(row);
	if (row->alone >= 0) {
		intercept(0, SVM_EXIT_EXCEPTION + (unsigned)row->alone);
		EXITS(0, SVM_EXIT_EXCEPTION + (unsigned)row->alone);
		SAME(vmcb(0)->save.rip, l2_start(row->mode) + row->skip);
		return;
	}
	ENDS(0);
	SAME(vmcb(0)->save.rip, l2_start(row->mode) + row->total);
}

static void rows_run(const struct row *rows, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		row_intercepted(&rows[i]);
		row_alone(&rows[i]);
	}
}
#define RUN(rows) rows_run(rows, sizeof(rows) / sizeof((rows)[0]))

static void test_instructions(void)
{
	static const struct row rows[] = {
		{ "SIDT", SVM_EXIT_READ_IDTR, CODE("\x0f\x01\x0c\x25\x00\x80\x05\x00"), 0, 8, NO_INFO, L2_LONG, DOES },
		{ "SGDT", SVM_EXIT_READ_GDTR, CODE("\x0f\x01\x04\x25\x00\x80\x05\x00"), 0, 8, NO_INFO, L2_LONG, DOES },
		{ "SLDT", SVM_EXIT_READ_LDTR, CODE("\x0f\x00\xc0"), 0, 3, NO_INFO, L2_LONG, DOES },
		{ "STR", SVM_EXIT_READ_TR, CODE("\x0f\x00\xc8"), 0, 3, NO_INFO, L2_LONG, DOES },
		{ "SIDT, CPL 3", SVM_EXIT_READ_IDTR, CODE("\x0f\x01\x0c\x25\x00\x80\x05\x00"), 0, 8, NO_INFO, L2_USER,
		  DOES },
		{ "LIDT", SVM_EXIT_WRITE_IDTR, CODE("\x0f\x01\x1c\x25\x00\x80\x05\x00"), 0, 8, NO_INFO, L2_LONG, DOES },
		{ "LGDT", SVM_EXIT_WRITE_GDTR, CODE("\x0f\x01\x14\x25\x00\x80\x05\x00"), 0, 8, NO_INFO, L2_LONG, DOES },
		{ "LLDT", SVM_EXIT_WRITE_LDTR, CODE("\x31\xc0\x0f\x00\xd0"), 2, 3, NO_INFO, L2_LONG, DOES },
		{ "LTR", SVM_EXIT_WRITE_TR, CODE("\xb8\x58\x00\x00\x00\x0f\x00\xd8"), 5, 3, NO_INFO, L2_LONG, 13 },
		{ "RDTSC", SVM_EXIT_RDTSC, CODE("\x0f\x31"), 0, 2, NO_INFO, L2_LONG, DOES },
		{ "RDTSC, CPL 3", SVM_EXIT_RDTSC, CODE("\x0f\x31"), 0, 2, NO_INFO, L2_USER, DOES },
		{ "RDPMC", SVM_EXIT_RDPMC, CODE("\x31\xc9\x0f\x33"), 2, 2, NO_INFO, L2_LONG, SKIP },
		{ "PUSHF", SVM_EXIT_PUSHF, CODE("\x9c"), 0, 1, NO_INFO, L2_LONG, DOES },
		{ "POPF", SVM_EXIT_POPF, CODE("\x6a\x02\x9d"), 2, 1, NO_INFO, L2_LONG, DOES },
		{ "CPUID", SVM_EXIT_CPUID, CODE("\x31\xc0\x0f\xa2"), 2, 2, NO_INFO, L2_LONG, DOES },
		{ "CPUID, CPL 3", SVM_EXIT_CPUID, CODE("\x31\xc0\x0f\xa2"), 2, 2, NO_INFO, L2_USER, DOES },
		{ "RSM", SVM_EXIT_RSM, CODE("\x0f\xaa"), 0, 2, NO_INFO, L2_LONG, 6 },
		{ "IRET", SVM_EXIT_IRET, CODE("\x48\xcf"), 0, 2, NO_INFO, L2_LONG, SKIP },
		{ "INT n", SVM_EXIT_SOFT_INT, CODE("\xcd\x80"), 0, 2, 0x80, L2_LONG, SKIP },
		{ "INT n, CPL 3", SVM_EXIT_SOFT_INT, CODE("\xcd\x21"), 0, 2, 0x21, L2_USER, SKIP },
		{ "INVD", SVM_EXIT_INVD, CODE("\x0f\x08"), 0, 2, NO_INFO, L2_LONG, DOES },
		{ "PAUSE", SVM_EXIT_PAUSE, CODE("\xf3\x90"), 0, 2, NO_INFO, L2_LONG, DOES },
		{ "HLT", SVM_EXIT_HLT, CODE("\xf4"), 0, 1, NO_INFO, L2_LONG, SKIP },
		{ "INVLPG", SVM_EXIT_INVLPG, CODE("\x0f\x01\x3c\x25\x45\x83\x05\x00"), 0, 8, 0x58345, L2_LONG, DOES },
		{ "INVLPGA", SVM_EXIT_INVLPGA, CODE("\x0f\x01\xdf"), 0, 3, NO_INFO, L2_LONG, DOES },
		{ "VMRUN", SVM_EXIT_VMRUN, CODE("\xb8\x00\x20\x02\x00\x0f\x01\xd8"), 5, 3, NO_INFO, L2_LONG, SKIP },
		{ "VMMCALL", SVM_EXIT_VMMCALL, CODE("\x0f\x01\xd9"), 0, 3, NO_INFO, L2_LONG, SKIP },
		{ "VMMCALL, CPL 3", SVM_EXIT_VMMCALL, CODE("\x0f\x01\xd9"), 0, 3, NO_INFO, L2_USER, SKIP },
		{ "VMLOAD", SVM_EXIT_VMLOAD, CODE("\xb8\x00\x20\x02\x00\x0f\x01\xda"), 5, 3, NO_INFO, L2_LONG, SKIP },
		{ "VMSAVE", SVM_EXIT_VMSAVE, CODE("\xb8\x00\x20\x02\x00\x0f\x01\xdb"), 5, 3, NO_INFO, L2_LONG, DOES },
		{ "STGI", SVM_EXIT_STGI, CODE("\x0f\x01\xdc"), 0, 3, NO_INFO, L2_LONG, DOES },
		{ "CLGI", SVM_EXIT_CLGI, CODE("\x0f\x01\xdd"), 0, 3, NO_INFO, L2_LONG, SKIP },
		{ "RDTSCP", SVM_EXIT_RDTSCP, CODE("\x0f\x01\xf9"), 0, 3, NO_INFO, L2_LONG, DOES },
		{ "ICEBP", SVM_EXIT_ICEBP, CODE("\xf1"), 0, 1, NO_INFO, L2_LONG, SKIP },
		{ "WBINVD", SVM_EXIT_WBINVD, CODE("\x0f\x09"), 0, 2, NO_INFO, L2_LONG, DOES },
		{ "HLT, protected mode", SVM_EXIT_HLT, CODE("\xf4"), 0, 1, NO_INFO, L2_PROTECTED, SKIP },
		{ "CPUID, protected mode", SVM_EXIT_CPUID, CODE("\x31\xc0\x0f\xa2"), 2, 2, NO_INFO, L2_PROTECTED,
		  DOES },
		{ "CPUID, real mode", SVM_EXIT_CPUID, CODE("\x31\xc0\x0f\xa2"), 2, 2, NO_INFO, L2_REAL, DOES },
		{ "PUSHF, real mode", SVM_EXIT_PUSHF, CODE("\x9c"), 0, 1, NO_INFO, L2_REAL, DOES },
		{ "INT n, real mode", SVM_EXIT_SOFT_INT, CODE("\xcd\x10"), 0, 2, 0x10, L2_REAL, SKIP },
	};

	/* What LIDT and LGDT load, and SIDT and SGDT overwrite with the like. */
	memcpy(at(L2_DATA), "\xff\x0f\x00\x40\x05\x00\x00\x00\x00\x00", 10);
	RUN(rows);
}

/* MONITOR and MWAIT, which CPUID may not have: then they are #UD. Conditional MWAIT: armed or not. */
static void test_monitor(void)
{
	static const struct row rows[] = {
		{ "MONITOR", SVM_EXIT_MONITOR, CODE("\xb8\x00\x80\x05\x00\x0f\x01\xc8"), 5, 3, NO_INFO, L2_LONG, SKIP },
		{ "MWAIT", SVM_EXIT_MWAIT, CODE("\x31\xc9\x0f\x01\xc9"), 2, 3, NO_INFO, L2_LONG, SKIP },
	};

	l2_reset(0);
	L2(0, "\xb8\x01\x00\x00\x00\x0f\xa2\x89\xcb");
	ENDS(0);
	if (*l2_reg(0, RBX) >> 3 & 1)
		RUN(rows);
}

/* ---- control and debug registers ------------------------------------------------------------------------- */

#define MOV_CR (UINT64_C(1) << 63)

static void test_control_registers(void)
{
	static const struct row rows[] = {
		{ "read CR0", SVM_EXIT_READ_CR0, CODE("\x0f\x20\xc3"), 0, 3, MOV_CR | RBX, L2_LONG, DOES },
		{ "read CR2", SVM_EXIT_READ_CR0 + 2, CODE("\x41\x0f\x20\xd7"), 0, 4, MOV_CR | R15, L2_LONG, DOES },
		{ "read CR3", SVM_EXIT_READ_CR0 + 3, CODE("\x0f\x20\xd8"), 0, 3, MOV_CR | RAX, L2_LONG, DOES },
		{ "read CR4", SVM_EXIT_READ_CR0 + 4, CODE("\x0f\x20\xe1"), 0, 3, MOV_CR | RCX, L2_LONG, DOES },
		{ "read CR8", SVM_EXIT_READ_CR0 + 8, CODE("\x44\x0f\x20\xc2"), 0, 4, MOV_CR | RDX, L2_LONG, DOES },
		{ "SMSW", SVM_EXIT_READ_CR0, CODE("\x0f\x01\xe0"), 0, 3, 0, L2_LONG, DOES },
		{ "SMSW, CPL 3", SVM_EXIT_READ_CR0, CODE("\x0f\x01\xe0"), 0, 3, 0, L2_USER, DOES },
		{ "write CR0", SVM_EXIT_WRITE_CR0, CODE("\x0f\x20\xc3\x0f\x22\xc3"), 3, 3, MOV_CR | RBX, L2_LONG,
		  DOES },
		{ "LMSW", SVM_EXIT_WRITE_CR0, CODE("\xb8\x31\x00\x00\x00\x0f\x01\xf0"), 5, 3, 0, L2_LONG, DOES },
		{ "CLTS", SVM_EXIT_WRITE_CR0, CODE("\x0f\x06"), 0, 2, 0, L2_LONG, DOES },
		{ "write CR2", SVM_EXIT_WRITE_CR0 + 2, CODE("\x0f\x22\xd6"), 0, 3, MOV_CR | RSI, L2_LONG, DOES },
		{ "write CR3", SVM_EXIT_WRITE_CR0 + 3, CODE("\x0f\x20\xd8\x0f\x22\xd8"), 3, 3, MOV_CR | RAX, L2_LONG,
		  DOES },
		{ "write CR4", SVM_EXIT_WRITE_CR0 + 4, CODE("\x0f\x20\xe0\x0f\x22\xe0"), 3, 3, MOV_CR | RAX, L2_LONG,
		  DOES },
		{ "write CR8", SVM_EXIT_WRITE_CR0 + 8, CODE("\x44\x0f\x22\xc0"), 0, 4, MOV_CR | RAX, L2_LONG, DOES },
		{ "read DR0", SVM_EXIT_READ_DR0, CODE("\x0f\x21\xc3"), 0, 3, RBX, L2_LONG, DOES },
		{ "read DR1", SVM_EXIT_READ_DR0 + 1, CODE("\x0f\x21\xcb"), 0, 3, RBX, L2_LONG, DOES },
		{ "read DR2", SVM_EXIT_READ_DR0 + 2, CODE("\x0f\x21\xd0"), 0, 3, RAX, L2_LONG, DOES },
		{ "read DR3", SVM_EXIT_READ_DR0 + 3, CODE("\x41\x0f\x21\xd8"), 0, 4, R8, L2_LONG, DOES },
		{ "read DR6", SVM_EXIT_READ_DR0 + 6, CODE("\x0f\x21\xf0"), 0, 3, RAX, L2_LONG, DOES },
		{ "read DR7", SVM_EXIT_READ_DR0 + 7, CODE("\x0f\x21\xf8"), 0, 3, RAX, L2_LONG, DOES },
		{ "write DR0", SVM_EXIT_WRITE_DR0, CODE("\x0f\x23\xc1"), 0, 3, RCX, L2_LONG, DOES },
		{ "write DR1", SVM_EXIT_WRITE_DR0 + 1, CODE("\x0f\x23\xc9"), 0, 3, RCX, L2_LONG, DOES },
		{ "write DR2", SVM_EXIT_WRITE_DR0 + 2, CODE("\x0f\x23\xd0"), 0, 3, RAX, L2_LONG, DOES },
		{ "write DR3", SVM_EXIT_WRITE_DR0 + 3, CODE("\x0f\x23\xd8"), 0, 3, RAX, L2_LONG, DOES },
		{ "write DR6", SVM_EXIT_WRITE_DR0 + 6, CODE("\x0f\x23\xf0"), 0, 3, RAX, L2_LONG, DOES },
		{ "write DR7", SVM_EXIT_WRITE_DR0 + 7, CODE("\x0f\x23\xf8"), 0, 3, RAX, L2_LONG, DOES },
		{ "read CR0, real mode", SVM_EXIT_READ_CR0, CODE("\x0f\x20\xc3"), 0, 3, MOV_CR | RBX, L2_REAL, DOES },
		{ "write CR0, real mode", SVM_EXIT_WRITE_CR0, CODE("\x0f\x20\xc0\x0f\x22\xc0"), 3, 3, MOV_CR | RAX,
		  L2_REAL,
		  DOES },
	};

	RUN(rows);
}

/* The selective intercept of CR0: only if a bit but TS and MP changes; LMSW always. */
static void test_selective(void)
{
	static const struct {
		const char *name, *bytes;
		unsigned total, skip, length;
		bool exits;
	} rows[] = {
		{ "CR0 unchanged", CODE("\x0f\x20\xc0\x0f\x22\xc0"), 3, 3, false },
		{ "CR0.TS", CODE("\x0f\x20\xc0\x48\x83\xf0\x08\x0f\x22\xc0"), 7, 3, false },
		{ "CR0.MP", CODE("\x0f\x20\xc0\x48\x83\xf0\x02\x0f\x22\xc0"), 7, 3, false },
		{ "CR0.EM", CODE("\x0f\x20\xc0\x48\x83\xf0\x04\x0f\x22\xc0"), 7, 3, true },
		{ "CR0.NE", CODE("\x0f\x20\xc0\x48\x83\xf0\x20\x0f\x22\xc0"), 7, 3, true },
		{ "CR0.WP", CODE("\x0f\x20\xc0\x48\x0f\xba\xf8\x10\x0f\x22\xc0"), 8, 3, true },
		{ "CLTS", CODE("\x0f\x06"), 0, 2, false },
		{ "LMSW, TS", CODE("\xb8\x3b\x00\x00\x00\x0f\x01\xf0"), 5, 3, true },
		{ "LMSW, unchanged", CODE("\x0f\x20\xc0\x0f\x01\xf0"), 3, 3, true },
		{ "SMSW", CODE("\x0f\x01\xe0"), 0, 3, false },
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		s.what = rows[i].name;
		l2_reset(0);
		l2_code(0, rows[i].bytes, rows[i].total);
		intercept(0, SVM_EXIT_CR0_SELECTIVE);
		EXITS(0, rows[i].exits ? SVM_EXIT_CR0_SELECTIVE : SVM_EXIT_VMMCALL);
		SAME(vmcb(0)->save.rip, L2_CODE + (rows[i].exits ? rows[i].skip : rows[i].total));
		if (features.nrip)
			SAME(vmcb(0)->control.next_rip, vmcb(0)->save.rip + (rows[i].exits ? rows[i].length : 3));
		/* The intercept of every write comes first. */
		if (!rows[i].exits)
			continue;
		l2_reset(0);
		l2_code(0, rows[i].bytes, rows[i].total);
		intercept(0, SVM_EXIT_CR0_SELECTIVE);
		intercept(0, SVM_EXIT_WRITE_CR0);
		EXITS(0, SVM_EXIT_WRITE_CR0);
	}
}

/* An intercepted write has no effect. */
static void test_no_effect(void)
{
	L2(0, "\xb8\x20\x02\x00\x00\x0f\x22\xe0");
	intercept(0, SVM_EXIT_WRITE_CR0 + 4);
	EXITS(0, SVM_EXIT_WRITE_CR0 + 4);
	SAME(vmcb(0)->save.cr4, 0x6a0);
	l2_reset(0);
	L2(0, "\x0f\xa2");
	intercept(0, SVM_EXIT_CPUID);
	*l2_reg(0, RBX) = 0x1234;
	*l2_reg(0, RDX) = 0x5678;
	EXITS(0, SVM_EXIT_CPUID);
	SAME(*l2_reg(0, RBX), 0x1234);
	SAME(*l2_reg(0, RDX), 0x5678);
	SAME(*l2_reg(0, RAX), 0);
	/* PUSHF does not touch the stack, HLT does not halt, POPF does not pop. */
	l2_reset(0);
	L2(0, "\x9d");
	intercept(0, SVM_EXIT_POPF);
	EXITS(0, SVM_EXIT_POPF);
	SAME(*l2_reg(0, RSP), L2_STACK + PAGE);
	/* Before a page fault of the operand. */
	l2_reset(0);
	L2(0, "\x0f\x01\x14\x25\x00\x80\x05\x00");
	l2_entry_set(TABLE_PT, L2_DATA >> 12, 0);
	intercept(0, SVM_EXIT_WRITE_GDTR);
	EXITS(0, SVM_EXIT_WRITE_GDTR);
}

/* What comes before the intercept: the privilege; an operand that is illegal, for CRs. */
static void test_order(void)
{
	static const struct {
		const char *name, *bytes;
		unsigned total, exit;
		int vector; /* -1: the intercept comes first */
		enum l2_mode mode;
	} rows[] = {
		{ "HLT", CODE("\xf4"), SVM_EXIT_HLT, 13, L2_USER },
		{ "INVD", CODE("\x0f\x08"), SVM_EXIT_INVD, 13, L2_USER },
		{ "WBINVD", CODE("\x0f\x09"), SVM_EXIT_WBINVD, 13, L2_USER },
		{ "INVLPG", CODE("\x0f\x01\x38"), SVM_EXIT_INVLPG, 13, L2_USER },
		{ "INVLPGA", CODE("\x0f\x01\xdf"), SVM_EXIT_INVLPGA, 13, L2_USER },
		{ "LGDT", CODE("\x0f\x01\x10"), SVM_EXIT_WRITE_GDTR, 13, L2_USER },
		{ "LIDT", CODE("\x0f\x01\x18"), SVM_EXIT_WRITE_IDTR, 13, L2_USER },
		{ "LLDT", CODE("\x0f\x00\xd0"), SVM_EXIT_WRITE_LDTR, 13, L2_USER },
		{ "LTR", CODE("\x0f\x00\xd8"), SVM_EXIT_WRITE_TR, 13, L2_USER },
		{ "VMRUN", CODE("\x0f\x01\xd8"), SVM_EXIT_VMRUN, 13, L2_USER },
		{ "VMLOAD", CODE("\x0f\x01\xda"), SVM_EXIT_VMLOAD, 13, L2_USER },
		{ "VMSAVE", CODE("\x0f\x01\xdb"), SVM_EXIT_VMSAVE, 13, L2_USER },
		{ "STGI", CODE("\x0f\x01\xdc"), SVM_EXIT_STGI, 13, L2_USER },
		{ "CLGI", CODE("\x0f\x01\xdd"), SVM_EXIT_CLGI, 13, L2_USER },
		{ "MOV CR0", CODE("\x0f\x22\xc0"), SVM_EXIT_WRITE_CR0, 13, L2_USER },
		{ "MOV from CR0", CODE("\x0f\x20\xc0"), SVM_EXIT_READ_CR0, 13, L2_USER },
		{ "MOV CR3", CODE("\x0f\x22\xd8"), SVM_EXIT_WRITE_CR0 + 3, 13, L2_USER },
		{ "MOV DR7", CODE("\x0f\x23\xf8"), SVM_EXIT_WRITE_DR0 + 7, 13, L2_USER },
		{ "CLTS", CODE("\x0f\x06"), SVM_EXIT_WRITE_CR0, 13, L2_USER },
		{ "RDMSR", CODE("\x0f\x32"), SVM_EXIT_MSR, 13, L2_USER },
		{ "WRMSR", CODE("\x0f\x30"), SVM_EXIT_MSR, 13, L2_USER },
		{ "CR0 = PG without PE", CODE("\xb8\x10\x00\x00\x80\x0f\x22\xc0"), SVM_EXIT_WRITE_CR0, 13, L2_LONG },
		{ "CR4, reserved bit", CODE("\x48\x0f\x20\xe0\x0f\xba\xe8\x1f\x0f\x22\xe0"), SVM_EXIT_WRITE_CR0 + 4,
		  13, L2_LONG },
		{ "CR4, no PAE", CODE("\x31\xc0\x0f\x22\xe0"), SVM_EXIT_WRITE_CR0 + 4, 13, L2_LONG },
		{ "DR7, upper half", CODE("\x48\xb8\x00\x04\x00\x00\x01\x00\x00\x00\x0f\x23\xf8"),
		  SVM_EXIT_WRITE_DR0 + 7, 13,
		  L2_LONG },
		{ "CR1", CODE("\x0f\x20\xc8"), SVM_EXIT_READ_CR0 + 1, 6, L2_LONG },
		{ "CR5", CODE("\x0f\x20\xe8"), SVM_EXIT_READ_CR0 + 5, 6, L2_LONG },
		{ "SLDT, real mode", CODE("\x0f\x00\xc0"), SVM_EXIT_READ_LDTR, 6, L2_REAL },
		{ "INVLPGA, real mode", CODE("\x0f\x01\xdf"), SVM_EXIT_INVLPGA, 6, L2_REAL },
		{ "RDMSR, unknown", CODE("\xb9\xef\xbe\xad\xde\x0f\x32"), SVM_EXIT_MSR, -1, L2_LONG },
		{ "POPF, CPL 3", CODE("\x9d"), SVM_EXIT_POPF, -1, L2_USER },
		{ "IRET, bad frame", CODE("\x48\xcf"), SVM_EXIT_IRET, -1, L2_LONG },
		{ "RSM, CPL 3", CODE("\x0f\xaa"), SVM_EXIT_RSM, -1, L2_USER },
		{ "INT n, beyond the IDT", CODE("\xcd\x80"), SVM_EXIT_SOFT_INT, -1, L2_LONG },
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		s.what = rows[i].name;
		l2_mode(0, rows[i].mode);
		l2_code(0, rows[i].bytes, rows[i].total);
		intercept(0, rows[i].exit);
		if (rows[i].vector >= 0)
			intercept(0, SVM_EXIT_EXCEPTION + (unsigned)rows[i].vector);
		if (rows[i].exit == SVM_EXIT_SOFT_INT)
			vmcb(0)->save.idtr.limit = 0xff;
		EXITS(0, rows[i].vector >= 0 ? SVM_EXIT_EXCEPTION + (unsigned)rows[i].vector : rows[i].exit);
		if (rows[i].vector == 13)
			SAME(vmcb(0)->control.exit_info1, 0);
	}
}

/* XSETBV: the intercept comes before #GP, and behind #UD. */
static void test_xsetbv(void)
{
	if (!features.xsave)
		return;
	vmcb(0)->save.cr4 |= 1u << 18;
	intercept(0, SVM_EXIT_XSETBV);
	L2(0, "\x0f\x01\xd1"); /* XCR0 = 0 would be #GP */
	EXITS(0, SVM_EXIT_XSETBV);
	SAME(vmcb(0)->save.rip, L2_CODE);
	intercept_not(0, SVM_EXIT_XSETBV);
	FAULTS(0, 13);
	l2_reset(0);
	intercept(0, SVM_EXIT_XSETBV);
	L2(0, "\x0f\x01\xd1");
	FAULTS(0, 6);
}

/* ---- the rest -------------------------------------------------------------------------------------------- */

static void test_pause_filter(void)
{
	if (!features.pause_filter)
		return;
	intercept(0, SVM_EXIT_PAUSE);
	L2(0, "\xff\xc3\xf3\x90\xff\xc3\xf3\x90\xff\xc3\xf3\x90\xff\xc3\xf3\x90\xff\xc3\xf3\x90\xff\xc3\xf3\x90");
	/* The third is the first to go below zero. */
	vmcb(0)->control.pause_count = 2;
	EXITS(0, SVM_EXIT_PAUSE);
	SAME(*l2_reg(0, RBX), 3);
	SAME(vmcb(0)->save.rip, L2_CODE + 2 * 4 + 2);
	SAME(vmcb(0)->control.pause_count, 2);
	/* VMRUN loads the count again. */
	EXITS(0, SVM_EXIT_PAUSE);
	SAME(*l2_reg(0, RBX), 5);
	vmcb(0)->save.rip = L2_CODE;
	vmcb(0)->control.pause_count = 6;
	ENDS(0);
	vmcb(0)->save.rip = L2_CODE;
	vmcb(0)->control.pause_count = 5;
	EXITS(0, SVM_EXIT_PAUSE);
	if (!features.pause_threshold)
		return;
	/* A threshold that no two PAUSEs exceed: as without. One that each exceeds (a long loop between): never. */
	vmcb(0)->save.rip = L2_CODE;
	vmcb(0)->control.pause_count = 2;
	vmcb(0)->control.pause_threshold = 0xffff;
	for (unsigned tries = 0; tries < 50 && svm_go(0) != SVM_EXIT_PAUSE; tries++)
		vmcb(0)->save.rip = L2_CODE; /* the host may have stopped the vCPU between two of them */
	SAME(vmcb(0)->control.exit_code, SVM_EXIT_PAUSE);
	l2_reset(0);
	intercept(0, SVM_EXIT_PAUSE);
	L2(0, "\xf3\x90\xb9\x00\x00\x10\x00\xe2\xfe\xff\xcb\x75\xf3"); /* pause; ecx = 1 M; loop; dec ebx; jnz */
	*l2_reg(0, RBX) = 6;
	vmcb(0)->control.pause_count = 2;
	vmcb(0)->control.pause_threshold = 1;
	ENDS(0);
}

/* Intercepts that are set for L2 are nothing to L1. */
static void test_host_free(void)
{
	memset(vmcb(0)->control.intercepts, 0xff, 16);
	L2(0, "\x0f\xa2");
	EXITS(0, SVM_EXIT_CPUID);
	SAME(L1(0, 0, "\x0f\xa2\x0f\x31\x0f\x20\xc0\x0f\x22\xc0\xf3\x90\x9c\x9d\x0f\x01\x04\x25\x00\x80\x05\x00"), 0);
}

static const struct svm_test tests[] = {
	{ "instructions", test_instructions, 0 },
	{ "monitor", test_monitor, 0 },
	{ "control registers", test_control_registers, 0 },
	{ "selective", test_selective, 0 },
	{ "no effect", test_no_effect, 0 },
	{ "order", test_order, 0 },
	{ "xsetbv", test_xsetbv, 0 },
	{ "pause filter", test_pause_filter, 0 },
	{ "host free", test_host_free, 0 },
};

int main(int argc, char **argv)
{
	int bad = svm_tests(tests, sizeof(tests) / sizeof(tests[0]), argc > 1 ? argv + 1 : NULL);

	return check_end() ? 1 : bad;
}

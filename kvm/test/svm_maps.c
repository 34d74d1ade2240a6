/* SPDX-License-Identifier: MIT */
/* The permission maps of ports and MSRs: which bits are asked, and what the exit says of the access. */
#include "svm_guest.h"

#define CODE(bytes) bytes, sizeof(bytes) - 1

/* ---- the I/O permission map ------------------------------------------------------------------------------ */

static void iopm_set(unsigned port, bool on)
{
	uint8_t *byte = at(SVM_IOPM + port / 8);

	*byte = (uint8_t)(on ? *byte | 1u << port % 8 : *byte & ~(1u << port % 8));
}

enum {
	IO_IN = 1, IO_STR = 4, IO_REP = 8,
	IO_8 = 0x10, IO_16 = 0x20, IO_32 = 0x40,
	IO_A16 = 0x80, IO_A32 = 0x100, IO_A64 = 0x200
};

#define IO(port, bits) ((uint64_t)(port) << 16 | (bits))

static void test_io_forms(void)
{
	static const struct {
		const char *name, *bytes;
		unsigned total, skip, length;
		uint64_t info;
		enum l2_mode mode;
	} rows[] = {
		{ "IN AL, imm", CODE("\xe4\x60"), 0, 2, IO(0x60, IO_IN | IO_8), L2_LONG },
		{ "IN EAX, imm", CODE("\xe5\x60"), 0, 2, IO(0x60, IO_IN | IO_32), L2_LONG },
		{ "IN AX, imm", CODE("\x66\xe5\x60"), 0, 3, IO(0x60, IO_IN | IO_16), L2_LONG },
		{ "OUT imm, AL", CODE("\xe6\x60"), 0, 2, IO(0x60, IO_8), L2_LONG },
		{ "IN AL, DX", CODE("\xba\x34\x12\x00\x00\xec"), 5, 1, IO(0x1234, IO_IN | IO_8), L2_LONG },
		{ "OUT DX, AX", CODE("\xba\x34\x12\x00\x00\x66\xef"), 5, 2, IO(0x1234, IO_16), L2_LONG },
		{ "OUT DX, EAX", CODE("\xba\xff\xff\x00\x00\xef"), 5, 1, IO(0xffff, IO_32), L2_LONG },
		{ "INSB", CODE("\xba\x70\x00\x00\x00\x6c"), 5, 1, IO(0x70, IO_IN | IO_STR | IO_8 | IO_A64), L2_LONG },
		{ "INSD, 32-bit address", CODE("\xba\x70\x00\x00\x00\x67\x6d"), 5, 2, IO(0x70,
		  IO_IN | IO_STR | IO_32 | IO_A32),
		  L2_LONG },
		{ "OUTSB", CODE("\xba\x70\x00\x00\x00\x6e"), 5, 1, IO(0x70, IO_STR | IO_8 | IO_A64 | 3 << 10),
		  L2_LONG },
		{ "OUTSW, FS", CODE("\xba\x70\x00\x00\x00\x64\x66\x6f"), 5, 3, IO(0x70,
		  IO_STR | IO_16 | IO_A64 | 4 << 10),
		  L2_LONG },
		{ "REP OUTSB", CODE("\xba\x70\x00\x00\x00\xb9\x02\x00\x00\x00\xf3\x6e"), 10, 2,
		  IO(0x70, IO_STR | IO_REP | IO_8 | IO_A64 | 3 << 10), L2_LONG },
		{ "REP INSD", CODE("\xba\x70\x00\x00\x00\xb9\x02\x00\x00\x00\xf3\x6d"), 10, 2,
		  IO(0x70, IO_IN | IO_STR | IO_REP | IO_32 | IO_A64), L2_LONG },
		{ "OUTSB, real mode", CODE("\xba\x70\x00\x6e"), 3, 1, IO(0x70, IO_STR | IO_8 | IO_A16 | 3 << 10),
		  L2_REAL },
		{ "OUTSB, protected mode", CODE("\xba\x70\x00\x00\x00\x6e"), 5, 1, IO(0x70,
		  IO_STR | IO_8 | IO_A32 | 3 << 10),
		  L2_PROTECTED },
		{ "IN AX, real mode", CODE("\xe5\x60"), 0, 2, IO(0x60, IO_IN | IO_16), L2_REAL },
	};
	/* The bits of the address size and of the segment matter for strings only. */
	const uint64_t address = IO_A16 | IO_A32 | IO_A64 | 7 << 10;

	memset(at(SVM_IOPM), 0xff, 0x2001);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t mask = rows[i].info & IO_STR ? UINT64_MAX : ~address;

		s.what = rows[i].name;
		l2_mode(0, rows[i].mode);
		intercept(0, SVM_EXIT_IOIO);
		l2_code(0, rows[i].bytes, rows[i].total);
		EXITS(0, SVM_EXIT_IOIO);
		SAME(vmcb(0)->control.exit_info1 & mask, rows[i].info & mask);
		SAME(vmcb(0)->save.rip, l2_start(rows[i].mode) + rows[i].skip);
		SAME(vmcb(0)->control.exit_info2, l2_start(rows[i].mode) + rows[i].skip + rows[i].length);
		vmcb(0)->save.rip = vmcb(0)->control.exit_info2;
		ENDS(0);
	}
}

/* Which bits are asked: those of every byte of the access, and no others. */
static void test_io_bits(void)
{
	static const struct {
		unsigned port, bytes, set;
		bool exits;
	} rows[] = {
		{ 0x00, 1, 0x00, true },     { 0x00, 1, 0x01, false },    { 0x07, 1, 0x07, true },
		{ 0x07, 1, 0x08, false },    { 0x07, 2, 0x08, true },     { 0x05, 4, 0x08, true },
		{ 0x05, 4, 0x09, false },    { 0x05, 4, 0x04, false },
		{ 0x08, 1, 0x07, false },    { 0x7fff, 2, 0x8000, true }, { 0x7ffd, 4, 0x8000, true },
		{ 0x7ffc, 4, 0x8000, false }, { 0x8000, 1, 0x8000, true }, { 0x8000, 1, 0x7fff, false },
		{ 0xffff, 1, 0xffff, true }, { 0xfffe, 2, 0xffff, true }, { 0xffff, 1, 0xfffe, false },
		{ 0xffff, 2, 0x10000, true }, { 0xffff, 4, 0x10002, true }, { 0xfffe, 4, 0x10001, true },
		{ 0xffff, 1, 0x10000, false },
	};

	s.what = "bits of the I/O permission map";
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t code[] = { 0x66, 0xba, (uint8_t)rows[i].port, (uint8_t)(rows[i].port >> 8), 0x66, 0xed };

		if (rows[i].bytes == 1)
			code[4] = 0x90, code[5] = 0xec;
		else if (rows[i].bytes == 4)
			code[4] = 0x90;
		l2_reset(0);
		intercept(0, SVM_EXIT_IOIO);
		iopm_set(rows[i].set, true);
		l2_code(0, code, sizeof(code));
		if (rows[i].exits) {
			EXITS(0, SVM_EXIT_IOIO);
			SAME(vmcb(0)->control.exit_info1 >> 16, rows[i].port);
			/* Without the intercept, the map is nothing. */
		} else {
			/* The access reaches the client. */
			struct kvm_regs regs = { .rip = svm_routine(svm_run), .rflags = 2, .rsp = SVM_OWN + OWN_L2 };

			if (s.moves)
				svm_move();
			NEED(ioctl(s.m.vcpu[0], KVM_SET_REGS, &regs) == 0 && ioctl(s.m.vcpu[0], KVM_RUN, 0) == 0);
			SAME(s.m.run[0]->exit_reason, KVM_EXIT_IO);
			SAME(s.m.run[0]->io.port, rows[i].port);
			SAME(s.m.run[0]->io.size, rows[i].bytes);
			SAME(svm_continue(0), SVM_DONE);
			SAME(vmcb(0)->control.exit_code, SVM_EXIT_VMMCALL);
		}
		iopm_set(rows[i].set, false);
	}
}

/* IOPL, and the TSS's own bitmap, come before. */
static void test_io_privilege(void)
{
	memset(at(SVM_IOPM), 0xff, 0x2001);
	l2_user_mode(0);
	intercept(0, SVM_EXIT_IOIO);
	intercept(0, SVM_EXIT_EXCEPTION + 13);
	L2(0, "\xe4\x60");
	EXITS(0, SVM_EXIT_EXCEPTION + 13);
	vmcb(0)->save.rflags = 0x3002;
	EXITS(0, SVM_EXIT_IOIO);
	/* A page fault of INS comes behind. */
	l2_reset(0);
	intercept(0, SVM_EXIT_IOIO);
	intercept(0, SVM_EXIT_EXCEPTION + 14);
	L2(0, "\x6c");
	l2_entry_set(TABLE_PT, L2_DATA >> 12, 0);
	*l2_reg(0, RDI) = L2_DATA;
	EXITS(0, SVM_EXIT_IOIO);
}

/* ---- the MSR permission map ------------------------------------------------------------------------------ */

static void msrpm_set(uint32_t msr, bool write, bool on)
{
	unsigned base = msr < 0x2000 ? 0 : msr < 0xc0002000 ? 0x800 : 0x1000;
	unsigned bit = (msr & 0x1fff) * 2 + write;
	uint8_t *byte = at(SVM_MSRPM + base + bit / 8);

	*byte = (uint8_t)(on ? *byte | 1u << bit % 8 : *byte & ~(1u << bit % 8));
}

static void msr_code(uint32_t msr, bool write)
{
	uint8_t code[] = { 0xb9, 0, 0, 0, 0, 0x0f, write ? 0x30 : 0x32 };

	memcpy(code + 1, &msr, 4);
	l2_reset(0);
	l2_code(0, code, sizeof(code));
}

static void test_msr(void)
{
	/* MSRs at the borders of the map's parts, which need not exist: the intercept comes first. */
	static const struct {
		uint32_t msr;
		bool covered;
	} rows[] = {
		{ 0x10, true },        { 0x174, true },       { 0, true },           { 0x1fff, true },
		{ 0x2000, false },     { 0xbfffffff, false }, { 0xc0000000, true },  { 0xc0000080, true },
		{ 0xc0000102, true },  { 0xc0001fff, true },  { 0xc0002000, false }, { 0xc000ffff, false },
		{ 0xc0010000, true },  { 0xc0010117, true },  { 0xc0011fff, true },  { 0xc0012000, false },
		{ 0xffffffff, false }, { 0x40000000, false },
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (unsigned write = 0; write < 2; write++) {
			s.what = write ? "WRMSR" : "RDMSR";
			memset(at(SVM_MSRPM), 0, 2 * PAGE);
			if (rows[i].covered)
				msrpm_set(rows[i].msr, write, true);
			msr_code(rows[i].msr, write);
			intercept(0, SVM_EXIT_MSR);
			EXITS(0, SVM_EXIT_MSR);
			SAME(vmcb(0)->control.exit_info1, write);
			SAME(vmcb(0)->save.rip, L2_CODE + 5);
			if (features.nrip)
				SAME(vmcb(0)->control.next_rip, L2_CODE + 7);
		}
	}
	/* Of every other bit of the map, none matters. */
	memset(at(SVM_MSRPM), 0xff, 2 * PAGE);
	s.what = "MSR, its own bit clear";
	msrpm_set(0xc0000102, false, false);
	msr_code(0xc0000102, false);
	intercept(0, SVM_EXIT_MSR);
	ENDS(0);
	msrpm_set(0x174, true, false);
	msr_code(0x174, true);
	intercept(0, SVM_EXIT_MSR);
	ENDS(0);
	/* The intercept's own bit. */
	s.what = "MSR, not intercepted";
	memset(at(SVM_MSRPM), 0xff, 2 * PAGE);
	msr_code(0xc0000102, false);
	ENDS(0);
	msr_code(0x2000, false);
	FAULTS(0, 13);
}

static const struct svm_test tests[] = {
	{ "io forms", test_io_forms, 0 },
	{ "io bits", test_io_bits, 0 },
	{ "io privilege", test_io_privilege, 0 },
	{ "msr", test_msr, 0 },
};

int main(int argc, char **argv)
{
	int bad = svm_tests(tests, sizeof(tests) / sizeof(tests[0]), argc > 1 ? argv + 1 : NULL);

	return check_end() ? 1 : bad;
}

/* SPDX-License-Identifier: MIT */
/*
 * Every form of an instruction with an operand in memory, on a device. Each form runs on memory first. Then the same
 * bytes are a device's, which this client answers for: all of them, or those of one of two pages. Registers, flags,
 * vectors and bytes must end the same. The device must see each byte that the instruction reads or writes once, and no
 * other, in accesses of 8 bytes at most.
 *
 *     mmio [any-kvm [TEXT]]
 *
 * any-kvm: for a real KVM. Forms that its emulator lacks are listed only. The guest is at CPL 3, since there are KVMs
 * whose emulator runs all of CPL 0. TEXT: only forms with that in their text.
 */
#include "check.h"
#include "mmio_form.h"

#include <stddef.h>

/* Guest memory; identity-mapped. */
#define OWN     0x8000u   /* the stack and what R8 points to */
#define TABLES  0x10000u
#define CODE    0x20000u
#define MEMORY  0x80000u
#define AREA    0x50000000u /* two pages, each of them memory or a device's */
#define HALF    0x60000000u /* linear: the first of these pages; the second is not present */
#define BYTES   (2 * (unsigned)PAGE)

/* OUT ends each form. */
#define END       0xe6, 0x10
#define END_BYTES 2u

extern const struct form __start_form_table[], __stop_form_table[];

struct result {
	unsigned reason;
	struct kvm_regs regs;
	uint32_t mxcsr;
	uint8_t v[32][64];
	uint64_t k[8];
	uint8_t area[BYTES], own[PAGE];
};

/* What the device saw. */
struct seen {
	uint8_t reads[BYTES], writes[BYTES]; /* how often each byte */
	unsigned read, written, accesses;
	uint8_t length[8]; /* of the first accesses */
	bool strange;
};

/* The bits of `device` are the pages of the area that are a device's. */
static struct layout {
	int vm, vcpu;
	struct kvm_run *run;
} layouts[4];

static struct {
	int kvm;
	uint8_t *memory, *area;
	uint64_t xcr0;
	uint32_t offset[8]; /* of each component of an XSAVE area */
	struct kvm_sregs sregs;
	struct kvm_xsave xsave;
	bool any_kvm;
	const char *only;
	unsigned absent, refused, ran;
	const char *refused_last;
} t;

/* ---- the machines ------------------------------------------------------------------------------------------------ */

static uint64_t next(uint64_t *state)
{
	uint64_t v = (*state += UINT64_C(0x9e3779b97f4a7c15));

	v = (v ^ v >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	return v ^ v >> 29;
}

static void tables_make(void)
{
	uint64_t *table = (uint64_t *)(void *)(t.memory + TABLES);

	table[0] = (TABLES + PAGE) | 0x67;
	for (unsigned i = 0; i < 4; i++)
		table[512 + i] = (TABLES + (2 + i) * PAGE) | 0x67;
	for (uint64_t i = 0; i < 2048; i++)
		table[1024 + i] = i << 21 | 0xe7;
	table[1024 + (HALF >> 21)] = (TABLES + 6 * PAGE) | 0x67;
	table[6 * 512] = AREA | 0x67;
}

static struct kvm_cpuid2 *cpuid_get(void)
{
	static struct {
		struct kvm_cpuid2 list;
		struct kvm_cpuid_entry2 entries[256];
	} cpuid;

	cpuid.list.nent = 256;
	NEED(ioctl(t.kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) == 0);
	for (unsigned i = 0; i < cpuid.list.nent; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid.entries[i];

		if (e->function == 0xd && e->index == 0)
			t.xcr0 = e->eax & 0xe7;
		if (e->function == 0xd && e->index >= 2 && e->index < 8)
			t.offset[e->index] = e->ebx;
	}
	return &cpuid.list;
}

static uint8_t cpl(void)
{
	return t.any_kvm ? 3 : 0;
}

static struct kvm_segment flat(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){ .limit = UINT32_MAX, .selector = selector | cpl(), .type = type, .present = 1,
	                             .dpl = cpl(), .s = 1, .g = 1, .l = selector == 8, .db = selector != 8 };
}

static void layout_make(struct layout *l, unsigned device, const struct kvm_cpuid2 *cpuid)
{
	int size = ioctl(t.kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	l->vm = ioctl(t.kvm, KVM_CREATE_VM, 0);
	NEED(l->vm >= 0);
	NEED(machine_slot(l->vm, 0, 0, 0, MEMORY, t.memory) == 0);
	for (unsigned i = 0; i < 2; i++)
		if (!(device >> i & 1))
			NEED(machine_slot(l->vm, 1 + i, 0, AREA + i * PAGE, PAGE, t.area + i * PAGE) == 0);
	l->vcpu = ioctl(l->vm, KVM_CREATE_VCPU, 0ul);
	NEED(l->vcpu >= 0);
	l->run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, l->vcpu, 0);
	NEED(l->run != MAP_FAILED);
	NEED(ioctl(l->vcpu, KVM_SET_CPUID2, cpuid) == 0);
}

static void machines_make(void)
{
	uint64_t gdt[] = { UINT64_C(0x00af9b000000ffff), UINT64_C(0x00cf93000000ffff) };
	const struct kvm_cpuid2 *cpuid;

	t.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	NEED(t.kvm >= 0);
	t.memory = mmap(NULL, MEMORY + BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(t.memory != MAP_FAILED);
	t.area = t.memory + MEMORY;
	tables_make();
	for (unsigned i = 0; i < 2; i++)
		gdt[i] |= (uint64_t)cpl() << 45;
	memcpy(t.memory + 0x508, gdt, sizeof(gdt));
	cpuid = cpuid_get();
	for (unsigned i = 0; i < 4; i++)
		layout_make(&layouts[i], i, cpuid);
	NEED(ioctl(layouts[0].vcpu, KVM_GET_SREGS, &t.sregs) == 0);
	NEED(ioctl(layouts[0].vcpu, KVM_GET_XSAVE, &t.xsave) == 0);
	t.sregs.cs = flat(8, 11);
	t.sregs.ds = t.sregs.es = t.sregs.fs = t.sregs.gs = t.sregs.ss = flat(16, 3);
	t.sregs.tr = (struct kvm_segment){ .selector = 24, .type = 11, .present = 1, .base = 0x600, .limit = 0x67 };
	t.sregs.ldt = (struct kvm_segment){ .unusable = 1 };
	t.sregs.gdt = (struct kvm_dtable){ .base = 0x500, .limit = 23 };
	t.sregs.idt = (struct kvm_dtable){ 0 };
	t.sregs.cr3 = TABLES;
	t.sregs.cr4 = 0x40620; /* OSXSAVE OSXMMEXCPT OSFXSR PAE */
	t.sregs.efer = 0x500;
	t.sregs.cr0 = 0x80010033;
}

/* ---- vectors ----------------------------------------------------------------------------------------------------- */

static void component(struct kvm_xsave *x, unsigned n, unsigned at, void *reg, size_t size, bool put)
{
	uint8_t *image = (uint8_t *)x;
	uint64_t used;

	memcpy(&used, image + 512, 8);
	if (!(t.xcr0 >> n & 1))
		memset(reg, 0, size);
	else if (put)
		memcpy(image + (n < 2 ? 0 : t.offset[n]) + at, reg, size);
	else if (used >> n & 1)
		memcpy(reg, image + (n < 2 ? 0 : t.offset[n]) + at, size);
	else
		memset(reg, 0, size);
}

/* Between an XSAVE area and the registers. */
static void vectors(struct kvm_xsave *x, uint8_t v[32][64], uint64_t k[8], bool put)
{
	for (unsigned i = 0; i < 16; i++) {
		component(x, 1, 160 + 16 * i, v[i], 16, put);
		component(x, 2, 16 * i, v[i] + 16, 16, put);
		component(x, 6, 32 * i, v[i] + 32, 32, put);
		component(x, 7, 64 * i, v[16 + i], 64, put);
	}
	component(x, 5, 0, k, 64, put);
}

static void vectors_start(void)
{
	static const uint32_t index[16] = { 0, 5, 2, 9, 12, 1, 7, 3, 15, 4, 6, 8, 10, 11, 13, 14 };
	static const uint32_t signs[8] = { 1, 0, 0, 1, 1, 1, 0, 1 };
	uint64_t k[8], seed = 1, header[8] = { 0 };
	uint8_t v[32][64];

	for (unsigned i = 0; i < sizeof(v); i += 8)
		memcpy(&v[0][0] + i, &(uint64_t){ next(&seed) }, 8);
	for (unsigned i = 0; i < 16; i++)
		memcpy(v[2] + 4 * i, &index[i], 4);
	for (unsigned i = 0; i < 8; i++) {
		memcpy(v[3] + 8 * i, &(uint64_t){ index[i] % 8 == 7 ? 6 : index[i] % 8 }, 8);
		v[4][4 * i + 3] = (uint8_t)((v[4][4 * i + 3] & 0x7f) | signs[i] << 7);
		k[i] = next(&seed);
	}
	for (unsigned i = 0; i < 8; i++) /* each once */
		v[3][8 * i] = (uint8_t)(i * 3 % 8);
	k[1] = UINT64_C(0xa5c35a3c5aa5c3d1);
	k[2] = ~UINT64_C(0);
	vectors(&t.xsave, v, k, true);
	header[0] = t.xcr0 & ~UINT64_C(1); /* x87 as after FNINIT */
	memcpy((uint8_t *)&t.xsave + 512, header, sizeof(header));
	memcpy((uint8_t *)&t.xsave + 24, &(uint32_t){ 0x1f80 }, 4);
}

/* ---- one run ----------------------------------------------------------------------------------------------------- */

static void state_set(int vcpu, uint64_t rip, uint64_t at)
{
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs = { { .xcr = 0, .value = t.xcr0 } } };
	struct kvm_vcpu_events events = { 0 };
	struct kvm_regs regs = {
		.rax = UINT64_C(0x8123456789abcd5e), .rcx = UINT64_C(0x0102030405060708),
		.rdx = UINT64_C(0xfedcba9876543210), .rbp = UINT64_C(0x5555aaaa12344321), .rbx = at,
		.rsp = OWN + 0xf00, .r8 = OWN + 0x400, .r9 = 0x99,
		.r10 = 10, .r11 = 11, .r12 = 12, .r13 = 13, .r14 = 14, .r15 = 15, .rip = rip,
		.rflags = 0x3002, /* any CPL may use ports */
	};

	NEED(ioctl(vcpu, KVM_SET_VCPU_EVENTS, &events) == 0);
	NEED(ioctl(vcpu, KVM_SET_SREGS, &t.sregs) == 0);
	NEED(ioctl(vcpu, KVM_SET_XCRS, &xcrs) == 0);
	NEED(ioctl(vcpu, KVM_SET_XSAVE, &t.xsave) == 0);
	NEED(ioctl(vcpu, KVM_SET_REGS, &regs) == 0);
}

static void memory_fill(void)
{
	uint64_t seed = 7;

	for (unsigned i = 0; i < BYTES; i += 8)
		memcpy(t.area + i, &(uint64_t){ next(&seed) }, 8);
	for (unsigned i = 0; i < PAGE; i += 8)
		memcpy(t.memory + OWN + i, &(uint64_t){ next(&seed) }, 8);
	memcpy(t.memory + OWN + 0x400, &(uint32_t){ 0x9f80 }, 4); /* an MXCSR */
}

static void device(struct kvm_run *run, unsigned device, struct seen *seen)
{
	uint64_t at = run->mmio.phys_addr - AREA;
	unsigned len = run->mmio.len;

	if (at >= BYTES || len == 0 || len > 8 || at / PAGE != (at + len - 1) / PAGE || !(device >> at / PAGE & 1)) {
		seen->strange = true;
		return;
	}
	for (unsigned i = 0; i < len; i++) {
		if (run->mmio.is_write)
			t.area[at + i] = run->mmio.data[i];
		else
			run->mmio.data[i] = t.area[at + i];
		(run->mmio.is_write ? seen->writes : seen->reads)[at + i]++;
	}
	*(run->mmio.is_write ? &seen->written : &seen->read) += len;
	if (seen->accesses < sizeof(seen->length))
		seen->length[seen->accesses] = (uint8_t)len;
	seen->accesses++;
}

static void run(unsigned pages, uint64_t rip, uint64_t at, struct result *r, struct seen *seen)
{
	struct layout *l = &layouts[pages];
	struct kvm_xsave x;

	memset(r, 0, sizeof(*r));
	memset(seen, 0, sizeof(*seen));
	memory_fill();
	state_set(l->vcpu, rip, at);
	for (;;) {
		NEED(ioctl(l->vcpu, KVM_RUN, 0) == 0);
		r->reason = l->run->exit_reason;
		if (r->reason != KVM_EXIT_MMIO)
			break;
		device(l->run, pages, seen);
	}
	NEED(ioctl(l->vcpu, KVM_GET_REGS, &r->regs) == 0);
	NEED(ioctl(l->vcpu, KVM_GET_XSAVE, &x) == 0);
	vectors(&x, r->v, r->k, false);
	memcpy(&r->mxcsr, (uint8_t *)&x + 24, 4);
	memcpy(r->area, t.area, BYTES);
	memcpy(r->own, t.memory + OWN, PAGE);
}

/* ---- comparing --------------------------------------------------------------------------------------------------- */

/*
 * Flags that an instruction of the form leaves undefined. A CPU may set them in one way for memory, and in another when
 * it takes the instruction apart for a device.
 */
static uint64_t undefined_flags(const struct form *f)
{
	static const struct {
		const char *name;
		uint64_t flags;
	} rows[] = {
		{ "div", 0x8d5 }, { "mul", 0xd4 }, { "bsf", 0x895 }, { "bsr", 0x895 }, { "bt", 0x894 },
		{ "sh", 0x810 }, { "sa", 0x810 }, { "ro", 0x800 }, { "rc", 0x800 },
		{ "and", 0x10 }, { "or", 0x10 }, { "test", 0x10 },
	};
	uint64_t flags = 0;

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strstr(f->name, rows[i].name) != NULL)
			flags |= rows[i].flags;
	return flags;
}

static const char *different(const struct form *f, const struct result *want, const struct result *r,
                             const struct seen *seen, bool all)
{
	if (seen->strange)
		return "accesses what is no device, or more than 8 bytes";
	if (r->reason != want->reason)
		return "ends with another exit";
	if ((r->regs.rflags ^ want->regs.rflags) & ~undefined_flags(f))
		return "RFLAGS";
	if (memcmp(&r->regs, &want->regs, offsetof(struct kvm_regs, rflags)) != 0)
		return "registers";
	if (memcmp(r->v, want->v, sizeof(r->v)) != 0 || r->mxcsr != want->mxcsr)
		return "vectors";
	if (memcmp(r->k, want->k, sizeof(r->k)) != 0)
		return "masks";
	if (memcmp(r->area, want->area, BYTES) != 0)
		return "the operand";
	if (memcmp(r->own, want->own, PAGE) != 0)
		return "memory";
	if (all && (seen->read != f->reads || seen->written != f->writes))
		return "the device sees other bytes";
	for (unsigned i = 0; i < BYTES && !(f->flags & FORM_ANYTIMES); i++)
		if (seen->reads[i] > 1 || seen->writes[i] > 1)
			return "the device sees a byte twice";
	return NULL;
}

static void form_refused(const struct form *f)
{
	if (t.refused_last == f->name)
		return;
	t.refused_last = f->name;
	t.refused++;
	if (t.any_kvm)
		printf("not emulated: %s\n", f->name);
}

static void form_run(const struct form *f, uint64_t rip, const struct result *want, unsigned at, unsigned pages)
{
	static struct result r;
	static struct seen seen;
	const char *what;

	run(pages, rip, AREA + at, &r, &seen);
	t.ran++;
	/* #UD when its CPUID has not the instruction. */
	if (t.any_kvm && (r.reason == KVM_EXIT_INTERNAL_ERROR || r.reason == KVM_EXIT_SHUTDOWN)) {
		form_refused(f);
		return;
	}
	what = different(f, want, &r, &seen, pages == 3 || at + 128 < PAGE);
	if (what != NULL)
		fprintf(stderr, "%s, at %#x, device pages %u: %s (exit %u, reads %u, writes %u, RIP %#llx)\n", f->name,
		        at, pages, what, r.reason, seen.read, seen.written, r.regs.rip - rip);
	CHECK(what == NULL);
}

static void form_test(const struct form *f, uint64_t rip)
{
	static const uint16_t places[] = { 512, 517, PAGE - 1, PAGE - 2, PAGE - 5, PAGE - 8, PAGE - 13, PAGE - 32 };
	unsigned most = f->reads > f->writes ? f->reads : f->writes;
	static struct result want;
	static struct seen seen;

	for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		bool crosses = places[i] + 128u >= PAGE;

		if (crosses && (places[i] + most <= PAGE || (f->flags & FORM_ALIGNED)))
			continue;
		if ((f->flags & FORM_ALIGNED) && places[i] % 64 != 0)
			continue;
		run(0, rip, AREA + places[i], &want, &seen);
		if (want.reason != KVM_EXIT_IO || want.regs.rip - rip - (uint64_t)(f->end - f->code) > END_BYTES) {
			printf("not in this CPU: %s\n", f->name);
			t.absent++;
			return;
		}
		CHECK(seen.accesses == 0);
		for (unsigned pages = 1; pages <= (crosses ? 3 : 1); pages++)
			form_run(f, rip, &want, places[i], pages);
	}
}

/* ---- the pieces of an access ------------------------------------------------------------------------------------- */

/* 8 bytes as long as there are so many in the page, then what is left of them: as KVM's emulator cuts. */
static void test_pieces(void)
{
	static const uint8_t load[] = { 0x0f, 0x10, 0x0b, END }, store[] = { 0x0f, 0x11, 0x0b, END }; /* MOVUPS */
	static const uint8_t wide[] = { 0x48, 0x8b, 0x03, END };                                        /* MOV */
	static const struct {
		const uint8_t *code;
		unsigned at, count;
		uint8_t length[4];
	} cases[] = {
		{ load, 64, 2, { 8, 8 } },
		{ store, 65, 2, { 8, 8 } },
		{ load, PAGE - 11, 3, { 8, 3, 5 } },
		{ store, PAGE - 11, 3, { 8, 3, 5 } },
		{ store, PAGE - 7, 3, { 7, 8, 1 } },
		{ load, PAGE - 3, 3, { 3, 8, 5 } },
		{ wide, PAGE - 3, 2, { 3, 5 } },
	};
	static struct result r;
	static struct seen seen;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t rip = CODE - 64 * (i + 1);

		memcpy(t.memory + rip, cases[i].code, sizeof(wide));
		run(3, rip, AREA + cases[i].at, &r, &seen);
		CHECK(r.reason == KVM_EXIT_IO);
		CHECK(seen.accesses == cases[i].count);
		CHECK(memcmp(seen.length, cases[i].length, sizeof(cases[i].length)) == 0);
	}
}

/* An access that faults in its second page shows the device of the first page nothing. */
static void test_a_fault_comes_first(void)
{
	static const uint8_t code[][8] = {
		{ 0x0f, 0x10, 0x0b, END }, { 0x0f, 0x11, 0x0b, END }, { 0x48, 0x8b, 0x03, END }, /* MOVUPS MOV */
		{ 0x48, 0x89, 0x03, END }, { 0x48, 0x01, 0x03, END },                            /* MOV ADD */
		{ 0xc5, 0xfe, 0x6f, 0x0b, END }, { 0xc5, 0xfe, 0x7f, 0x0b, END },                /* VMOVDQU YMM */
		{ 0x62, 0xf1, 0x7e, 0x49, 0x6f, 0x0b, END }, /* VMOVDQU32 ZMM{K1} */
		{ 0x62, 0xf1, 0x7e, 0x49, 0x7f, 0x0b, END },
	};
	static struct result r;
	static struct seen seen;

	for (unsigned i = 0; i < sizeof(code) / sizeof(code[0]) - (t.xcr0 & 0x80 ? 0 : 2); i++) {
		uint64_t rip = CODE - 0x400 - 64 * i;

		memcpy(t.memory + rip, code[i], sizeof(code[i]));
		run(3, rip, HALF + PAGE - 5, &r, &seen);
		CHECK(r.reason == KVM_EXIT_SHUTDOWN || (t.any_kvm && r.reason == KVM_EXIT_INTERNAL_ERROR));
		CHECK(seen.accesses == 0 && !seen.strange);
	}
}

int main(int argc, char **argv)
{
	uint64_t rip = CODE;

	t.any_kvm = argc > 1 && strcmp(argv[1], "any-kvm") == 0;
	t.only = argc > 2 ? argv[2] : "";
	setvbuf(stdout, NULL, _IOLBF, 0);
	machines_make();
	vectors_start();
	test_pieces();
	test_a_fault_comes_first();
	for (const struct form *f = __start_form_table; f < __stop_form_table; f++) {
		unsigned size = (unsigned)(f->end - f->code) + END_BYTES;

		NEED(rip + size <= MEMORY);
		memcpy(t.memory + rip, f->code, size);
		if (strstr(f->name, t.only) != NULL && !(t.any_kvm && (f->flags & FORM_NOT_KVM)))
			form_test(f, rip);
		rip += (size + 15) & ~15u;
	}
	printf("%u runs on a device; %u forms that the CPU lacks, %u that are not emulated\n", t.ran, t.absent,
	       t.refused);
	return check_end();
}

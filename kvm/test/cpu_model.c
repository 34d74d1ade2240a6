/* SPDX-License-Identifier: MIT */
/*
 * `vmmu run --cpu-model`: what CPUID has is there, and what it does not have is #UD.
 *
 *     cpu_model MODEL    host, or v1 to v4
 */
#include "check.h"

#define CR4_PAE     (1u << 5)
#define CR4_OSFXSR  (1u << 9)
#define CR4_OSXSAVE (1u << 18)

enum { EAX, EBX, ECX, EDX };

struct cpuid {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entry[100];
};

/* Instructions on registers, in 32-bit code, and their bits. `level`: of the psABI; 5: of none. */
static const struct feature {
	const char *name;
	unsigned level;
	uint32_t leaf;
	unsigned reg, bit;
	uint8_t size, code[8];
} features[] = {
	{ "SSE3", 2, 1, ECX, 0, 4, { 0xf2, 0x0f, 0xd0, 0xc1 } },
	{ "SSSE3", 2, 1, ECX, 9, 5, { 0x66, 0x0f, 0x38, 0x00, 0xc1 } },
	{ "SSE4.1", 2, 1, ECX, 19, 5, { 0x66, 0x0f, 0x38, 0x17, 0xc1 } },
	{ "SSE4.2", 2, 1, ECX, 20, 5, { 0x66, 0x0f, 0x38, 0x37, 0xc1 } },
	{ "CRC32", 2, 1, ECX, 20, 5, { 0xf2, 0x0f, 0x38, 0xf1, 0xc1 } },
	{ "POPCNT", 2, 1, ECX, 23, 4, { 0xf3, 0x0f, 0xb8, 0xc1 } },
	{ "CMPXCHG16B", 2, 1, ECX, 13, 0, { 0 } },
	{ "FMA", 3, 1, ECX, 12, 5, { 0xc4, 0xe2, 0x75, 0x98, 0xc2 } },
	{ "MOVBE", 3, 1, ECX, 22, 4, { 0x0f, 0x38, 0xf0, 0x03 } },
	{ "XSAVE", 3, 1, ECX, 26, 3, { 0x0f, 0xae, 0x23 } },
	{ "AVX", 3, 1, ECX, 28, 4, { 0xc5, 0xf4, 0x58, 0xc2 } },
	{ "F16C", 3, 1, ECX, 29, 5, { 0xc4, 0xe2, 0x7d, 0x13, 0xc1 } },
	{ "AVX2", 3, 7, EBX, 5, 4, { 0xc5, 0xf5, 0xfe, 0xc2 } },
	{ "BMI1", 3, 7, EBX, 3, 5, { 0xc4, 0xe2, 0x70, 0xf2, 0xc2 } },
	{ "BMI2", 3, 7, EBX, 8, 6, { 0xc4, 0xe3, 0x7b, 0xf0, 0xc1, 0x07 } },
	{ "LZCNT", 3, 0x80000001, ECX, 5, 0, { 0 } },
	{ "AVX512F", 4, 7, EBX, 16, 6, { 0x62, 0xf1, 0x74, 0x48, 0x58, 0xc2 } },
	{ "AVX512DQ", 4, 7, EBX, 17, 6, { 0x62, 0xf2, 0xf5, 0x48, 0x40, 0xc2 } },
	{ "AVX512CD", 4, 7, EBX, 28, 6, { 0x62, 0xf2, 0x7d, 0x48, 0xc4, 0xc1 } },
	{ "AVX512BW", 4, 7, EBX, 30, 6, { 0x62, 0xf1, 0x75, 0x48, 0xfc, 0xc2 } },
	{ "AVX512VL", 4, 7, EBX, 31, 6, { 0x62, 0xf1, 0x74, 0x28, 0x58, 0xc2 } },
	{ "PCLMULQDQ", 5, 1, ECX, 1, 6, { 0x66, 0x0f, 0x3a, 0x44, 0xc1, 0x00 } },
	{ "AES", 5, 1, ECX, 25, 5, { 0x66, 0x0f, 0x38, 0xdc, 0xc1 } },
	{ "RDRAND", 5, 1, ECX, 30, 3, { 0x0f, 0xc7, 0xf0 } },
	{ "SHA", 5, 7, EBX, 29, 4, { 0x0f, 0x38, 0xc8, 0xc1 } },
	{ "GFNI", 5, 7, ECX, 8, 5, { 0x66, 0x0f, 0x38, 0xcf, 0xc1 } },
	{ "ADX", 5, 7, EBX, 19, 5, { 0x66, 0x0f, 0x38, 0xf6, 0xc1 } },
	{ "AVX512_VBMI", 5, 7, ECX, 1, 6, { 0x62, 0xf2, 0x75, 0x48, 0x8d, 0xc2 } },
	{ "CLZERO", 5, 0x80000008, EBX, 0, 0, { 0 } },
};
#define FEATURES (sizeof(features) / sizeof(features[0]))

static uint32_t value(const struct cpuid *cpuid, uint32_t leaf, unsigned reg)
{
	for (unsigned i = 0; i < cpuid->head.nent; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid->entry[i];
		const uint32_t r[] = { e->eax, e->ebx, e->ecx, e->edx };

		if (e->function == leaf && e->index == 0)
			return r[reg];
	}
	return 0;
}

static struct kvm_segment flat(uint8_t type, uint16_t selector)
{
	return (struct kvm_segment){
		.limit = 0xffffffff, .selector = selector, .type = type, .present = 1, .db = 1, .s = 1, .g = 1
	};
}

/* 32-bit code without paging; an IDT whose #UD handler is at 0x2000. Everything on that the CPUID has. */
static void prepare(struct machine *m, struct cpuid *cpuid)
{
	const uint32_t gate[2] = { 8u << 16 | 0x2000, 0x8e00 };
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0].value = value(cpuid, 0xd, EAX) };
	struct kvm_sregs sregs;
	uint64_t gdt[3] = { 0, 0x00cf9b000000ffff, 0x00cf93000000ffff };

	NEED(ioctl(m->vcpu[0], KVM_SET_CPUID2, cpuid) == 0);
	NEED(ioctl(m->vcpu[0], KVM_GET_SREGS, &sregs) == 0);
	sregs.cr0 = 0x31;
	sregs.cr4 |= CR4_OSFXSR;
	if (value(cpuid, 1, ECX) & 1u << 26)
		sregs.cr4 |= CR4_OSXSAVE;
	sregs.cs = flat(11, 8);
	sregs.ds = sregs.es = sregs.ss = flat(3, 16);
	sregs.gdt.base = 0x4000;
	sregs.gdt.limit = sizeof(gdt) - 1;
	sregs.idt.base = 0x5000;
	sregs.idt.limit = 0xff;
	memcpy(m->memory + 0x4000, gdt, sizeof(gdt));
	memcpy(m->memory + 0x5000 + 6 * 8, gate, sizeof(gate));
	memcpy(m->memory + 0x2000, "\xe6\x06", 2); /* out 6, al */
	NEED(ioctl(m->vcpu[0], KVM_SET_SREGS, &sregs) == 0);
	if (xcrs.xcrs[0].value)
		NEED(ioctl(m->vcpu[0], KVM_SET_XCRS, &xcrs) == 0);
}

/* Returns: the port of the OUT behind the instruction, 0xff, or that of the #UD handler, 6. */
static int run(struct machine *m, const struct feature *f)
{
	struct kvm_regs regs = { .rip = 0x1000, .rflags = 2, .rsp = 0x8000, .rbx = 0x3000 };

	memcpy(m->memory + 0x1000, f->code, f->size);
	memcpy(m->memory + 0x1000 + f->size, "\xe6\xff", 2);
	NEED(ioctl(m->vcpu[0], KVM_SET_REGS, &regs) == 0);
	if (ioctl(m->vcpu[0], KVM_RUN, 0) != 0 || m->run[0]->exit_reason != KVM_EXIT_IO)
		return -1;
	return m->run[0]->io.port;
}

int main(int argc, char **argv)
{
	unsigned level = argc > 1 && argv[1][0] == 'v' ? (unsigned)(argv[1][1] - '0') : 0;
	static struct cpuid cpuid = { .head.nent = 100 };
	struct machine m;

	machine_make(&m, 1, 16 * PAGE);
	NEED(ioctl(m.kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) == 0);
	prepare(&m, &cpuid);
	for (const struct feature *f = features; f < features + FEATURES; f++) {
		bool has = value(&cpuid, f->leaf, f->reg) >> f->bit & 1;
		bool good = level == 0 || has == (f->level <= level);

		if (good && f->size != 0)
			good = run(&m, f) == (has ? 0xff : 6);
		check_count++;
		if (good)
			continue;
		check_failures++;
		fprintf(stderr, "%s: %s in CPUID; the guest ended at %d\n", f->name, has ? "is" : "is not",
		        f->size != 0 ? run(&m, f) : 0);
	}
	machine_free(&m, 1);
	return check_end();
}

/* SPDX-License-Identifier: MIT */
/* The state components of XSAVE as a client sees them: KVM_GET/SET_XSAVE, XSAVE2, XCRS, CPUID's leaf 0xd. */
#include "check.h"

#define XSAVE_HEADER 512u
#define XCOMP_BV     520u
#define XMM          160u
#define MXCSR        24u
#define MXCSR_INIT   0x1f80u
#define CR4_OSFXSR   (1u << 9)
#define CR4_OSXSAVE  (1u << 18)

#define X87  UINT64_C(1)
#define SSE  UINT64_C(2)
#define AVX  UINT64_C(4)
#define AVX512 UINT64_C(0xe0)
#define PKRU UINT64_C(0x200)
#define TILE_DATA 18

struct cpuid {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entry[100];
};

union area {
	struct kvm_xsave xsave;
	uint8_t bytes[4096];
};

static struct cpuid cpuid;

static struct kvm_cpuid_entry2 *leaf_d(struct cpuid *c, uint32_t subleaf)
{
	for (unsigned i = 0; i < c->head.nent; i++)
		if (c->entry[i].function == 0xd && c->entry[i].index == subleaf)
			return &c->entry[i];
	return NULL;
}

static void setup(struct machine *m)
{
	machine_make(m, 1, 16 * PAGE);
	cpuid.head.nent = 100;
	NEED(ioctl(m->kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) == 0);
}

/* What a guest may have. */
static uint64_t components(struct machine *m)
{
	uint64_t value = 0;
	struct kvm_device_attr attr = { .attr = KVM_X86_XCOMP_GUEST_SUPP, .addr = (uintptr_t)&value };

	NEED(ioctl(m->kvm, KVM_GET_DEVICE_ATTR, &attr) == 0);
	return value;
}

static uint64_t word(const union area *a, unsigned offset)
{
	uint64_t value;

	memcpy(&value, a->bytes + offset, sizeof(value));
	return value;
}

static void word_set(union area *a, unsigned offset, uint64_t value)
{
	memcpy(a->bytes + offset, &value, sizeof(value));
}

static uint32_t mxcsr(const union area *a)
{
	return (uint32_t)word(a, MXCSR);
}

static bool get(struct machine *m, union area *a)
{
	memset(a, 0xcc, sizeof(*a));
	return ioctl(m->vcpu[0], KVM_GET_XSAVE, a) == 0;
}

static bool set(struct machine *m, const union area *a)
{
	return ioctl(m->vcpu[0], KVM_SET_XSAVE, a) == 0;
}

/* Every component has bytes of its own. */
static void fill(union area *a, uint64_t have)
{
	memset(a, 0, sizeof(*a));
	word_set(a, 0, 0x27f);
	memset(a->bytes + 32, 0x11, 10);
	a->bytes[4] = 0x80;
	a->bytes[3] = 0x38; /* TOP is 7 */
	word_set(a, MXCSR, 0x1fa0 | UINT64_C(0xffff) << 32);
	for (unsigned i = 0; i < 256; i++)
		a->bytes[XMM + i] = (uint8_t)(0x20 + i % 16);
	for (unsigned n = 2; n < 63; n++) {
		const struct kvm_cpuid_entry2 *e = have >> n & 1 ? leaf_d(&cpuid, n) : NULL;

		for (unsigned i = 0; e && i < (n == 9 ? 4 : e->eax); i++)
			a->bytes[e->ebx + i] = (uint8_t)(n * 16 + i % 13);
	}
	word_set(a, XSAVE_HEADER, have);
}

static void test_components(void)
{
	union area in, out, out2;
	struct machine m;
	uint64_t have;

	setup(&m);
	have = components(&m);
	CHECK((have & (X87 | SSE)) == (X87 | SSE));
	CHECK(leaf_d(&cpuid, 0)->eax == (uint32_t)have && leaf_d(&cpuid, 0)->edx == have >> 32);
	CHECK(ioctl(m.vm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2) == (int)sizeof(in));
	/* A new vCPU's state is initial. Without a CPUID it has no more than FXSAVE's. */
	CHECK(get(&m, &out) && word(&out, XSAVE_HEADER) == 0 && mxcsr(&out) == MXCSR_INIT && out.bytes[0] == 0x7f);
	fill(&in, have);
	CHECK(set(&m, &in) && get(&m, &out) && word(&out, XSAVE_HEADER) == (X87 | SSE));
	NEED(ioctl(m.vcpu[0], KVM_SET_CPUID2, &cpuid) == 0);
	CHECK(get(&m, &out));
	CHECK(word(&out, XSAVE_HEADER) == have && word(&out, XCOMP_BV) == 0 && mxcsr(&out) == 0x1fa0);
	/* What follows the registers of FXSAVE's image is the kernel's. */
	CHECK(memcmp(in.bytes, out.bytes, MXCSR + 4) == 0 && memcmp(in.bytes + 32, out.bytes + 32, 416 - 32) == 0);
	CHECK(memcmp(in.bytes + XSAVE_HEADER, out.bytes + XSAVE_HEADER, sizeof(in) - XSAVE_HEADER) == 0);
	memset(&out2, 0xcc, sizeof(out2));
	CHECK(ioctl(m.vcpu[0], KVM_GET_XSAVE2, &out2) == 0 && memcmp(&out, &out2, sizeof(out)) == 0);
	machine_free(&m, 1);
}

/* A component that the header leaves out becomes initial. PKRU stays. */
static void test_left_out(void)
{
	union area in, out;
	struct machine m;
	uint64_t have;

	setup(&m);
	have = components(&m);
	NEED(ioctl(m.vcpu[0], KVM_SET_CPUID2, &cpuid) == 0);
	for (unsigned n = 0; n < 10; n++) {
		uint64_t bit = UINT64_C(1) << n, left = have & ~bit;

		if (!(have & bit))
			continue;
		fill(&in, have);
		CHECK(set(&m, &in));
		word_set(&in, XSAVE_HEADER, left);
		CHECK(set(&m, &in) && get(&m, &out));
		CHECK(word(&out, XSAVE_HEADER) == (bit == PKRU ? have : left));
		if (n >= 2)
			CHECK(out.bytes[leaf_d(&cpuid, n)->ebx + 1] == (bit == PKRU ? 0x91 : 0));
	}
	word_set(&in, XSAVE_HEADER, 0);
	CHECK(set(&m, &in) && get(&m, &out));
	CHECK(mxcsr(&out) == MXCSR_INIT && out.bytes[XMM] == 0 && out.bytes[0] == 0x7f);
	/* MXCSR is not x87's. */
	word_set(&in, XSAVE_HEADER, X87);
	CHECK(set(&m, &in) && get(&m, &out) && mxcsr(&out) == MXCSR_INIT);
	CHECK((word(&out, XSAVE_HEADER) & ~PKRU) == X87);
	word_set(&in, XSAVE_HEADER, SSE);
	CHECK(set(&m, &in) && get(&m, &out) && mxcsr(&out) == 0x1fa0);
	machine_free(&m, 1);
}

static bool refused(struct machine *m, const union area *a)
{
	errno = 0;
	return !set(m, a) && errno == EINVAL;
}

static void test_refused(void)
{
	union area in, before, after;
	struct machine m;
	uint64_t have;

	setup(&m);
	have = components(&m);
	NEED(ioctl(m.vcpu[0], KVM_SET_CPUID2, &cpuid) == 0);
	fill(&in, have);
	CHECK(set(&m, &in) && get(&m, &before));
	memset(in.bytes + XMM, 0x99, 256);
	for (unsigned n = 0; n < 64; n++) {
		word_set(&in, XSAVE_HEADER, have | UINT64_C(1) << n);
		if (!(have >> n & 1))
			CHECK(refused(&m, &in));
	}
	word_set(&in, XSAVE_HEADER, have);
	for (unsigned i = XCOMP_BV; i < XSAVE_HEADER + 64; i++) {
		in.bytes[i] = 0x80;
		CHECK(refused(&m, &in));
		in.bytes[i] = 0;
	}
	for (uint64_t bit = 1; bit <= 2; bit++) {
		word_set(&in, MXCSR, 1u << 30);
		word_set(&in, XSAVE_HEADER, bit);
		CHECK(refused(&m, &in));
	}
	CHECK(get(&m, &after) && memcmp(&before, &after, sizeof(before)) == 0);
	/* A MXCSR that nobody reads is not looked at. */
	word_set(&in, XSAVE_HEADER, 0);
	CHECK(set(&m, &in));
	errno = 0;
	CHECK(ioctl(m.vcpu[0], KVM_SET_XSAVE, 8) == -1 && errno == EFAULT);
	machine_free(&m, 1);
}

static bool xcr0_set(struct machine *m, uint64_t value)
{
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0].value = value };

	errno = 0;
	return ioctl(m->vcpu[0], KVM_SET_XCRS, &xcrs) == 0 || errno != EINVAL;
}

static uint64_t xcr0_get(struct machine *m)
{
	struct kvm_xcrs xcrs = { 0 };

	NEED(ioctl(m->vcpu[0], KVM_GET_XCRS, &xcrs) == 0 && xcrs.nr_xcrs == 1 && xcrs.xcrs[0].xcr == 0);
	return xcrs.xcrs[0].value;
}

static void test_xcrs(void)
{
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0].xcr = 5 };
	struct machine m;
	uint64_t have;

	setup(&m);
	have = components(&m);
	CHECK(xcr0_get(&m) == X87);
	CHECK(!xcr0_set(&m, X87 | SSE) && xcr0_set(&m, X87)); /* no CPUID yet */
	NEED(ioctl(m.vcpu[0], KVM_SET_CPUID2, &cpuid) == 0);
	for (uint64_t value = 0; value < 0x800; value++) {
		bool avx512 = (value & AVX512) == 0 || ((value & AVX512) == AVX512 && value & AVX);
		bool legal = value & X87 && !(value & ~have) && (!(value & AVX) || value & SSE) && avx512;

		CHECK(xcr0_set(&m, value) == legal);
		CHECK(!legal || xcr0_get(&m) == value);
	}
	CHECK(!xcr0_set(&m, UINT64_C(1) << 63 | X87));
	/* Another register is passed over. */
	CHECK(ioctl(m.vcpu[0], KVM_SET_XCRS, &xcrs) == 0);
	xcrs.xcrs[0].xcr = 0;
	xcrs.xcrs[0].value = X87;
	xcrs.flags = 1;
	CHECK(ioctl(m.vcpu[0], KVM_SET_XCRS, &xcrs) == -1 && errno == EINVAL);
	xcrs.flags = 0;
	xcrs.nr_xcrs = 17;
	CHECK(ioctl(m.vcpu[0], KVM_SET_XCRS, &xcrs) == -1 && errno == EINVAL);
	machine_free(&m, 1);
}

/* EBX of subleaves 0 and 1 is the size with what is on. */
static void test_sizes(void)
{
	static const uint64_t on[] = { X87, X87 | SSE, X87 | SSE | AVX, X87 | SSE | AVX | AVX512 };
	struct cpuid back = { .head.nent = 100 };
	struct machine m;
	uint64_t have;

	setup(&m);
	have = components(&m);
	NEED(ioctl(m.vcpu[0], KVM_SET_CPUID2, &cpuid) == 0);
	for (unsigned i = 0; i < sizeof(on) / sizeof(on[0]); i++) {
		uint32_t size = 576, compacted = 576;

		if (on[i] & ~have)
			continue;
		for (unsigned n = 2; n < 63; n++) {
			const struct kvm_cpuid_entry2 *e = on[i] >> n & 1 ? leaf_d(&cpuid, n) : NULL;

			if (!e)
				continue;
			if (e->ebx + e->eax > size)
				size = e->ebx + e->eax;
			compacted = (e->ecx & 2 ? (compacted + 63) & ~63u : compacted) + e->eax;
		}
		CHECK(xcr0_set(&m, on[i]));
		NEED(ioctl(m.vcpu[0], KVM_GET_CPUID2, &back) == 0);
		CHECK(leaf_d(&back, 0)->ebx == size && leaf_d(&back, 0)->ecx == leaf_d(&cpuid, 0)->ecx);
		if (leaf_d(&back, 1)->eax & 1u << 1)
			CHECK(leaf_d(&back, 1)->ebx == compacted);
	}
	machine_free(&m, 1);
}

static int cpuid_refused(struct machine *m, const struct cpuid *c)
{
	return ioctl(m->vcpu[0], KVM_SET_CPUID2, c) == 0 ? 0 : errno;
}

/* AMX's tiles need a permission that this process has not asked for. No other component does. */
static void test_permission(void)
{
	struct cpuid changed;
	struct kvm_cpuid_entry2 *d, *sizes = NULL;
	struct machine m;
	uint32_t have;

	setup(&m);
	changed = cpuid;
	d = leaf_d(&changed, 0);
	have = d->eax;
	for (unsigned n = 0; n < 64; n++) {
		if (n < 32)
			d->eax |= 1u << n;
		else
			d->edx |= 1u << (n - 32);
		CHECK(cpuid_refused(&m, &changed) == (n == TILE_DATA ? EPERM : 0));
		d->eax = have;
		d->edx = 0;
	}
	/* A refused CPUID changes nothing. */
	NEED(ioctl(m.vcpu[0], KVM_SET_CPUID2, &cpuid) == 0);
	d->eax = have | 1u << TILE_DATA;
	CHECK(cpuid_refused(&m, &changed) == EPERM);
	NEED(ioctl(m.vcpu[0], KVM_GET_CPUID2, &changed) == 0);
	CHECK(leaf_d(&changed, 0)->eax == have);
	/* Only subleaf 0 names components. The size of addresses is looked at first. */
	d = leaf_d(&changed, 1);
	d->ecx |= 1u << TILE_DATA;
	CHECK(cpuid_refused(&m, &changed) == 0);
	leaf_d(&changed, 0)->eax |= 1u << TILE_DATA;
	for (unsigned i = 0; i < changed.head.nent; i++)
		if (changed.entry[i].function == 0x80000008)
			sizes = &changed.entry[i];
	sizes->eax = 52u << 8;
	CHECK(cpuid_refused(&m, &changed) == EINVAL);
	machine_free(&m, 1);
}

/* The older ioctl, whose entries have no subleaves. */
static void test_permission_old(void)
{
	struct {
		struct kvm_cpuid head;
		struct kvm_cpuid_entry entry;
	} old = { { .nent = 1 }, { .function = 0xd, .eax = X87 | SSE | 1u << TILE_DATA } };
	struct machine m;

	setup(&m);
	errno = 0;
	CHECK(ioctl(m.vcpu[0], KVM_SET_CPUID, &old) == -1 && errno == EPERM);
	old.entry.eax = X87 | SSE;
	CHECK(ioctl(m.vcpu[0], KVM_SET_CPUID, &old) == 0);
	machine_free(&m, 1);
}

/*
 * The guest's XSAVE, in real mode, stores what the client set: the first eight registers. A KVM that emulates real mode
 * cannot do it; the one that was seen to has no XSAVEC in its CPUID.
 */
static void test_guest(void)
{
	static const uint8_t code[] = { 0x0f, 0xae, 0x26, 0x00, 0x30, 0xf4 }; /* xsave [0x3000]; hlt */
	const struct kvm_cpuid_entry2 *avx;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct machine m;
	union area in;
	uint64_t on;

	setup(&m);
	if (!(leaf_d(&cpuid, 1)->eax & 1u << 1)) {
		machine_free(&m, 1);
		return;
	}
	on = components(&m) & (X87 | SSE | AVX);
	avx = leaf_d(&cpuid, 2);
	NEED(ioctl(m.vcpu[0], KVM_SET_CPUID2, &cpuid) == 0);
	NEED(ioctl(m.vcpu[0], KVM_GET_SREGS, &sregs) == 0);
	sregs.cr4 |= CR4_OSXSAVE | CR4_OSFXSR;
	NEED(ioctl(m.vcpu[0], KVM_SET_SREGS, &sregs) == 0);
	CHECK(xcr0_set(&m, on));
	fill(&in, on);
	CHECK(set(&m, &in));
	memcpy(m.memory + 0x1000, code, sizeof(code));
	memset(m.memory + 0x3000, 0, PAGE);
	NEED(ioctl(m.vcpu[0], KVM_GET_REGS, &regs) == 0);
	regs.rax = on;
	regs.rdx = 0;
	NEED(ioctl(m.vcpu[0], KVM_SET_REGS, &regs) == 0);
	NEED(ioctl(m.vcpu[0], KVM_RUN, 0) == 0);
	CHECK(m.run[0]->exit_reason == KVM_EXIT_HLT);
	CHECK(memcmp(m.memory + 0x3000 + XMM, in.bytes + XMM, 128) == 0 && m.memory[0x3000 + XMM + 128] == 0);
	if (on & AVX)
		CHECK(memcmp(m.memory + 0x3000 + avx->ebx, in.bytes + avx->ebx, 128) == 0);
	CHECK((m.memory[0x3000 + XSAVE_HEADER] & on) == on);
	machine_free(&m, 1);
}

int main(void)
{
	test_components();
	test_left_out();
	test_refused();
	test_xcrs();
	test_sizes();
	test_permission();
	test_permission_old();
	test_guest();
	return check_end();
}

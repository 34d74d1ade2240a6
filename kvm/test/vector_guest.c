/* SPDX-License-Identifier: MIT */
#include "vector_guest.h"
#include <sys/time.h>

#define ROUNDS  20000u
#define TSS     0x0600u
#define CODE    0x1000u
#define OUT     0x2ff0u /* an instruction, to which the work returns */
#define WORK    VECTOR_GUEST_WORK
#define STACK   0xf000u
#define TABLES  0x6000u

#define COMPONENT_X87_SSE UINT64_C(3)
#define COMPONENT_AVX     UINT64_C(4)
#define COMPONENT_AVX512  UINT64_C(0xe0)
#define COMPONENT_PKRU    UINT64_C(0x200)
#define AVX2              5 /* bits of CPUID.7.0's EBX, and ECX */
#define AVX512BW          30
#define PKU               3

static struct cpuid {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entry[100];
} cpuid;
static struct kvm_run *volatile running;

static const struct kvm_cpuid_entry2 *leaf(uint32_t function, uint32_t index)
{
	static const struct kvm_cpuid_entry2 none;

	for (unsigned i = 0; i < cpuid.head.nent; i++)
		if (cpuid.entry[i].function == function && cpuid.entry[i].index == index)
			return &cpuid.entry[i];
	return &none;
}

uint64_t vector_guest_xcr0(void)
{
	return leaf(1, 0)->ecx & 1u << 26 ? leaf(0xd, 0)->eax : 0;
}

unsigned vector_guest_list(struct vector_guest list[3])
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	uint64_t have;
	unsigned n = 0;

	cpuid.head.nent = sizeof(cpuid.entry) / sizeof(cpuid.entry[0]);
	NEED(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) == 0);
	close(kvm);
	have = vector_guest_xcr0();
	if ((have & COMPONENT_AVX512) == COMPONENT_AVX512 && leaf(7, 0)->ebx >> AVX512BW & 1)
		list[n++] = (struct vector_guest){ "AVX-512", vector_work_avx512, vector_work_end, have };
	if (have & COMPONENT_AVX && leaf(7, 0)->ebx >> AVX2 & 1)
		list[n++] = (struct vector_guest){
			"AVX2", vector_work_avx, vector_work_avx512, have & ~COMPONENT_AVX512
		};
	list[n++] = (struct vector_guest){
		"SSE", vector_work_sse, vector_work_avx, (have & COMPONENT_PKRU) | COMPONENT_X87_SSE
	};
	return n;
}

void vector_guest_set_cpuid(int vcpu)
{
	NEED(ioctl(vcpu, KVM_SET_CPUID2, &cpuid) == 0);
}

static struct kvm_segment flat(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.limit = UINT32_MAX, .selector = selector, .type = type, .present = 1, .dpl = 3, .s = 1, .g = 1,
		.l = type == 11, .db = type != 11,
	};
}

/* A program in 64-bit mode, which may do I/O; the first 2 MiB one to one. There are KVMs that emulate all else. */
void vector_guest_make(struct machine *m, const struct vector_guest *guest)
{
	static const uint64_t tables[3] = { (TABLES + PAGE) | 0x67, (TABLES + 2 * PAGE) | 0x67, 0xe7 };
	struct kvm_regs regs = { .rip = CODE, .rflags = 0x3002, .rsp = STACK, .rsi = WORK };
	const uint64_t back = OUT;
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0].value = vector_guest_xcr0() };
	struct kvm_sregs sregs;

	machine_make(m, 1, 16 * PAGE);
	vector_guest_set_cpuid(m->vcpu[0]);
	NEED(guest->code_end - guest->code <= OUT - CODE);
	memcpy(m->memory + CODE, guest->code, (size_t)(guest->code_end - guest->code));
	memcpy(m->memory + OUT, "\xe6\x10", 2); /* out 0x10, al */
	memcpy(m->memory + STACK, &back, sizeof(back));
	vector_work_fill((void *)(m->memory + WORK), ROUNDS, leaf(7, 0)->ecx >> PKU & 1);
	for (unsigned i = 0; i < 3; i++)
		memcpy(m->memory + TABLES + i * PAGE, &tables[i], sizeof(tables[i]));
	NEED(ioctl(m->vcpu[0], KVM_GET_SREGS, &sregs) == 0);
	sregs.cs = flat(11, 11);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat(19, 3);
	sregs.tr = (struct kvm_segment){ .base = TSS, .limit = 0x67, .selector = 24, .type = 11, .present = 1 };
	sregs.cr0 = 0x80000033; /* PG, NE, ET, MP, PE */
	sregs.cr3 = TABLES;
	sregs.cr4 = 0x620 | (vector_guest_xcr0() ? 1u << 18 : 0) | (leaf(7, 0)->ecx >> PKU & 1) << 22;
	sregs.efer = 0x500;     /* LMA, LME */
	NEED(ioctl(m->vcpu[0], KVM_SET_SREGS, &sregs) == 0);
	NEED(ioctl(m->vcpu[0], KVM_SET_REGS, &regs) == 0);
	NEED(!vector_guest_xcr0() || ioctl(m->vcpu[0], KVM_SET_XCRS, &xcrs) == 0);
}

void vector_guest_stop(void)
{
	running->immediate_exit = 1;
}

bool vector_guest_run(struct machine *m, unsigned microseconds)
{
	struct itimerval timer = { .it_value.tv_usec = microseconds };
	int result;

	running = m->run[0];
	NEED(setitimer(ITIMER_REAL, &timer, NULL) == 0);
	result = ioctl(m->vcpu[0], KVM_RUN, 0);
	NEED(result == 0 || errno == EINTR);
	timer.it_value.tv_usec = 0;
	NEED(setitimer(ITIMER_REAL, &timer, NULL) == 0);
	m->run[0]->immediate_exit = 0;
	if (result == 0)
		NEED(m->run[0]->exit_reason == KVM_EXIT_IO);
	return result != 0;
}

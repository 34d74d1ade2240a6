/* SPDX-License-Identifier: MIT */
/*
 * A guest computes in all of its vector, mask and x87 registers, while MXCSR, x87's control word and PKRU change. The
 * client stops it at random places, and all of its state goes into a fresh VM, over and over. The result is bit for bit
 * that of a run that nobody disturbed. The guest's maps are chaotic: one bit that is lost changes the result.
 *
 *     vector_move [MOVES [any-kvm]]    any-kvm: a KVM that may not step programs, as one that runs guests unprivileged
 */
#include "check.h"
#include <signal.h>
#include <sys/time.h>

#define MOVES 100u

#define TSS     0x0600u
#define CODE    0x1000u
#define SEEN    0x3000u
#define HAS_PKU 0x3010u
#define MXCSRS  0x3020u /* eight of them */
#define FCWS    0x3040u /* eight */
#define X87     0x3080u /* what the x87 registers begin with, the factor first */
#define ONES    0x3100u
#define FACTORS 0x3140u
#define VECTORS 0x3180u /* what the vector registers begin with */
#define MASKS   0x3980u
#define RESULT  0x4000u /* an area of XSAVE, or of FXSAVE */
#define FOLDED  0x5000u
#define TABLES  0x6000u

#define COMPONENT_AVX    UINT64_C(4)
#define COMPONENT_AVX512 UINT64_C(0xe0)
#define COMPONENT_PKRU   UINT64_C(0x200)
#define AVX2             5  /* bits of CPUID.7.0's EBX */
#define AVX512BW         30

/*
 * R9 counts down and RBX up; R8 collects what the status registers say. Each double x becomes factor * x * (1 - x),
 * which stays between 0 and 1.
 */
#define BEGIN                                                                                                      \
	"fninit\n .irp n, 0,1,2,3,4,5,6\n fldl 0x3080 + 8 * \\n\n .endr\n"                                         \
	"mov $20000, %r9d\n xor %ebx, %ebx\n xor %r8d, %r8d\n"
#define LOGISTIC "fld1\n fsub %st(1), %st\n fmulp %st, %st(1)\n fmul %st(6), %st\n"
#define LOOP                                                                                                       \
	"1:\n" LOGISTIC "fxch %st(1)\n" LOGISTIC "fxch %st(2)\n" LOGISTIC "fxch %st(3)\n" LOGISTIC                 \
	"fxch %st(4)\n" LOGISTIC "fxch %st(5)\n"                                                                   \
	"lea (%rbx, %rbx, 4), %eax\n shr $3, %eax\n and $7, %eax\n"                                                \
	"stmxcsr 0x3000\n mov 0x3000, %edx\n xor %rdx, %r8\n ldmxcsr 0x3020(, %rax, 4)\n"                          \
	"fnstsw 0x3008\n movzwl 0x3008, %edx\n xor %rdx, %r8\n rol $5, %r8\n fldcw 0x3040(, %rax, 2)\n"            \
	"test $15, %bl\n jnz 2f\n fnclex\n"                                                                        \
	"2: cmpb $0, 0x3010\n jz 3f\n"                                                                             \
	"xor %ecx, %ecx\n rdpkru\n add %rax, %r8\n lea (%rax, %rbx, 8), %eax\n and $-4, %eax\n"                    \
	"xor %edx, %edx\n wrpkru\n 3:\n"
#define END(save) "inc %ebx\n dec %r9d\n jnz 1b\n" save "\n mov %r8, 0x5000\n out %al, $0x10\n"
#define XSAVE "mov $-1, %eax\n mov $-1, %edx\n xsave64 0x4000"

/* Integers are in 0 to 6, doubles from 8 on; 7 is for 1 - x. */
extern const uint8_t guest_sse[], guest_avx[], guest_avx512[], guest_end[];
__asm__(".pushsection .rodata\n"
	"guest_sse:\n" BEGIN
	".irp n, 0,1,2,3,4,5,6,8,9,10,11,12,13,14,15\n movups 0x3180 + 64 * \\n, %xmm\\n\n .endr\n"
	LOOP
	".irp n, 1,2,3,4,5,6\n paddq %xmm0, %xmm\\n\n pxor %xmm\\n, %xmm0\n pshufd $0x39, %xmm0, %xmm0\n .endr\n"
	".irp n, 8,9,10,11,12,13,14,15\n movaps 0x3100, %xmm7\n subpd %xmm\\n, %xmm7\n mulpd %xmm7, %xmm\\n\n"
	"mulpd 0x3140, %xmm\\n\n .endr\n"
	END("fxsave64 0x4000")

	"guest_avx:\n" BEGIN
	".irp n, 0,1,2,3,4,5,6,8,9,10,11,12,13,14,15\n vmovups 0x3180 + 64 * \\n, %ymm\\n\n .endr\n"
	LOOP
	".irp n, 1,2,3,4,5,6\n vpaddq %ymm0, %ymm\\n, %ymm\\n\n vpxor %ymm\\n, %ymm0, %ymm0\n"
	"vpshufd $0x39, %ymm0, %ymm0\n vpermq $0x39, %ymm0, %ymm0\n .endr\n"
	".irp n, 8,9,10,11,12,13,14,15\n vmovups 0x3100, %ymm7\n vsubpd %ymm\\n, %ymm7, %ymm7\n"
	"vmulpd %ymm7, %ymm\\n, %ymm\\n\n vmulpd 0x3140, %ymm\\n, %ymm\\n\n .endr\n"
	END(XSAVE)

	"guest_avx512:\n" BEGIN
	".irp n, 0,1,2,3,4,5,6,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
	"vmovups 0x3180 + 64 * \\n, %zmm\\n\n .endr\n"
	".irp n, 0,1,2,3,4,5,6,7\n kmovq 0x3980 + 8 * \\n, %k\\n\n .endr\n"
	LOOP
	".irp n, 2,3,4,5,6,7\n kaddq %k1, %k\\n, %k\\n\n kxorq %k\\n, %k1, %k1\n .endr\n"
	"vpcmpuq $1, %zmm0, %zmm2, %k0\n kxorq %k0, %k1, %k1\n"
	".irp n, 1,2,3,4,5,6,16,17,18,19,20,21,22,23\n vpaddq %zmm0, %zmm\\n, %zmm\\n{%k3}\n"
	"vpxorq %zmm\\n, %zmm0, %zmm0\n vprolq $13, %zmm0, %zmm0\n .endr\n vpermq %zmm0, %zmm1, %zmm0\n"
	".irp n, 8,9,10,11,12,13,14,15,24,25,26,27,28,29,30,31\n vmovups 0x3100, %zmm7\n"
	"vsubpd %zmm\\n, %zmm7, %zmm7\n vmulpd %zmm7, %zmm\\n, %zmm\\n\n vmulpd 0x3140, %zmm\\n, %zmm\\n\n .endr\n"
	END(XSAVE)
	"guest_end: .popsection");

static struct cpuid {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entry[100];
} cpuid = { .head.nent = 100 };
static struct kvm_run *volatile running;
static bool steps = true;

static const struct kvm_cpuid_entry2 *leaf(uint32_t function, uint32_t index)
{
	static const struct kvm_cpuid_entry2 none;

	for (unsigned i = 0; i < cpuid.head.nent; i++)
		if (cpuid.entry[i].function == function && cpuid.entry[i].index == index)
			return &cpuid.entry[i];
	return &none;
}

static uint64_t components(void)
{
	return leaf(1, 0)->ecx & 1u << 26 ? leaf(0xd, 0)->eax : 0;
}

/* ---- the guest ------------------------------------------------------------------------------------------------ */

static void put_double(struct machine *m, unsigned at, double value)
{
	memcpy(m->memory + at, &value, sizeof(value));
}

static void put_data(struct machine *m)
{
	static const uint32_t mxcsr[8] = { 0x1f80, 0x3f80, 0x5f80, 0x7f80, 0x9fc0, 0xbf81, 0x1f84, 0x7f90 };
	static const uint16_t fcw[8] = { 0x37f, 0x77f, 0xb7f, 0xf7f, 0x27f, 0x67f, 0xa7f, 0xe7f };

	memset(m->memory + 0x3000, 0, 3 * PAGE);
	memcpy(m->memory + MXCSRS, mxcsr, sizeof(mxcsr));
	memcpy(m->memory + FCWS, fcw, sizeof(fcw));
	m->memory[HAS_PKU] = leaf(7, 0)->ecx >> 3 & 1;
	for (unsigned i = 0; i < 7; i++)
		put_double(m, X87 + 8 * i, i == 0 ? 3.97 : 0.1 * i + 0.05);
	for (unsigned i = 0; i < 8; i++) {
		put_double(m, ONES + 8 * i, 1);
		put_double(m, FACTORS + 8 * i, 3.95 + 0.005 * i);
	}
	srand(1);
	for (unsigned i = VECTORS; i < RESULT; i++)
		m->memory[i] = (uint8_t)rand();
	for (unsigned n = 0; n < 32; n++)
		for (unsigned i = 0; i < 8 && (n & 15) >= 8; i++)
			put_double(m, VECTORS + 64 * n + 8 * i, 0.1 + 0.02 * n + 0.003 * i);
}

static struct kvm_segment flat(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.limit = UINT32_MAX, .selector = selector, .type = type, .present = 1, .dpl = 3, .s = 1, .g = 1,
		.l = type == 11, .db = type != 11,
	};
}

/* A program in 64-bit mode, which may do I/O; the first 2 MiB one to one. There are KVMs that emulate all else. */
static void begin(struct machine *m, const uint8_t *code, const uint8_t *code_end)
{
	static const uint64_t tables[3] = { (TABLES + PAGE) | 0x67, (TABLES + 2 * PAGE) | 0x67, 0xe7 };
	struct kvm_regs regs = { .rip = CODE, .rflags = 0x3002, .rsp = 0xf000 };
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0].value = components() };
	struct kvm_sregs sregs;

	machine_make(m, 1, 16 * PAGE);
	NEED(ioctl(m->vcpu[0], KVM_SET_CPUID2, &cpuid) == 0);
	NEED(code_end - code <= SEEN - CODE);
	memcpy(m->memory + CODE, code, (size_t)(code_end - code));
	for (unsigned i = 0; i < 3; i++)
		memcpy(m->memory + TABLES + i * PAGE, &tables[i], sizeof(tables[i]));
	put_data(m);
	NEED(ioctl(m->vcpu[0], KVM_GET_SREGS, &sregs) == 0);
	sregs.cs = flat(11, 11);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat(19, 3);
	sregs.tr = (struct kvm_segment){ .base = TSS, .limit = 0x67, .selector = 24, .type = 11, .present = 1 };
	sregs.cr0 = 0x80000033; /* PG, NE, ET, MP, PE */
	sregs.cr3 = TABLES;
	sregs.cr4 = 0x620 | (components() ? 1u << 18 : 0) | (uint64_t)m->memory[HAS_PKU] << 22;
	sregs.efer = 0x500;     /* LMA, LME */
	NEED(ioctl(m->vcpu[0], KVM_SET_SREGS, &sregs) == 0);
	NEED(ioctl(m->vcpu[0], KVM_SET_REGS, &regs) == 0);
	NEED(!components() || ioctl(m->vcpu[0], KVM_SET_XCRS, &xcrs) == 0);
	running = m->run[0];
}

/* ---- moving ---------------------------------------------------------------------------------------------------- */

struct state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
	struct kvm_debugregs debug;
	union {
		struct kvm_xsave xsave;
		uint8_t bytes[16384];
	} area;
};

static void get_state(struct machine *m, struct state *s, bool xsave2)
{
	int vcpu = m->vcpu[0];

	memset(s, 0, sizeof(*s));
	NEED(ioctl(vcpu, KVM_GET_REGS, &s->regs) == 0);
	NEED(ioctl(vcpu, KVM_GET_SREGS, &s->sregs) == 0);
	NEED(!components() || ioctl(vcpu, KVM_GET_XCRS, &s->xcrs) == 0);
	NEED(ioctl(vcpu, KVM_GET_VCPU_EVENTS, &s->events) == 0);
	NEED(ioctl(vcpu, KVM_GET_MP_STATE, &s->mp) == 0);
	NEED(ioctl(vcpu, KVM_GET_DEBUGREGS, &s->debug) == 0);
	NEED(ioctl(vcpu, xsave2 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, &s->area) == 0);
}

static void set_state(struct machine *m, struct state *s)
{
	int vcpu = m->vcpu[0];

	NEED(ioctl(vcpu, KVM_SET_CPUID2, &cpuid) == 0);
	NEED(ioctl(vcpu, KVM_SET_SREGS, &s->sregs) == 0);
	NEED(ioctl(vcpu, KVM_SET_REGS, &s->regs) == 0);
	NEED(!components() || ioctl(vcpu, KVM_SET_XCRS, &s->xcrs) == 0);
	NEED(ioctl(vcpu, KVM_SET_XSAVE, &s->area) == 0);
	NEED(ioctl(vcpu, KVM_SET_DEBUGREGS, &s->debug) == 0);
	NEED(ioctl(vcpu, KVM_SET_MP_STATE, &s->mp) == 0);
	NEED(ioctl(vcpu, KVM_SET_VCPU_EVENTS, &s->events) == 0);
}

/* All state, and a fresh VM with the same memory. */
static void move(struct machine *m)
{
	static struct state before, after;
	struct machine fresh;
	bool xsave2 = rand() & 1;

	machine_settle(m, 1);
	get_state(m, &before, xsave2);
	machine_make(&fresh, 1, m->bytes);
	munmap(fresh.memory, fresh.bytes);
	fresh.memory = m->memory;
	NEED(machine_slot(fresh.vm, 0, 0, 0, 0, NULL) == 0);
	NEED(machine_slot(fresh.vm, 0, 0, 0, m->bytes, m->memory) == 0);
	running = fresh.run[0];
	machine_close(m, 1);
	*m = fresh;
	set_state(m, &before);
	get_state(m, &after, !xsave2);
	CHECK(memcmp(&before, &after, sizeof(before)) == 0);
}

static void on_alarm(int number)
{
	(void)number;
	running->immediate_exit = 1;
}

/* Returns: false once the guest has ended. */
static bool run_for(struct machine *m, unsigned microseconds)
{
	struct itimerval timer = { .it_value.tv_usec = microseconds };
	int result;

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

/* So that each instruction of the loop is a place to stop. Returns: as run_for. */
static bool step(struct machine *m, unsigned instructions)
{
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP };

	NEED(ioctl(m->vcpu[0], KVM_SET_GUEST_DEBUG, &debug) == 0);
	for (unsigned i = 0; i < instructions; i++) {
		NEED(ioctl(m->vcpu[0], KVM_RUN, 0) == 0);
		if (m->run[0]->exit_reason == KVM_EXIT_IO)
			return false;
		NEED(m->run[0]->exit_reason == KVM_EXIT_DEBUG);
	}
	debug.control = 0;
	NEED(ioctl(m->vcpu[0], KVM_SET_GUEST_DEBUG, &debug) == 0);
	return true;
}

/* To a random place. Returns: as run_for. */
static bool run_some(struct machine *m)
{
	if (!run_for(m, 1 + (unsigned)rand() % 3000))
		return false;
	return !steps || rand() & 1 || step(m, 1 + (unsigned)rand() % 80);
}

/* ---- results --------------------------------------------------------------------------------------------------- */

struct result {
	uint8_t memory[2 * PAGE]; /* RESULT and FOLDED */
	struct state state;
};

static void end(struct machine *m, struct result *r)
{
	get_state(m, &r->state, true);
	memcpy(r->memory, m->memory + RESULT, sizeof(r->memory));
	machine_free(m, 1);
}

/* Every component was in use, and no map has come to an end. */
static void expect_use(const struct state *s, uint64_t have)
{
	uint64_t used;
	double x;

	memcpy(&used, s->area.bytes + 512, sizeof(used));
	CHECK((used & have) == have);
	for (unsigned n = 8; n < 16; n++) {
		memcpy(&x, s->area.bytes + 160 + 16 * n, sizeof(x));
		CHECK(x > 0 && x < 1);
	}
}

static void test(const char *name, const uint8_t *code, const uint8_t *code_end, uint64_t have, unsigned moves)
{
	static struct result alone, moved;
	struct machine m;
	unsigned done = 0, runs = 0;

	begin(&m, code, code_end);
	NEED(ioctl(m.vcpu[0], KVM_RUN, 0) == 0 && m.run[0]->exit_reason == KVM_EXIT_IO);
	end(&m, &alone);
	expect_use(&alone.state, have);
	for (unsigned seed = 2; done < moves; runs++) {
		begin(&m, code, code_end);
		srand(seed++);
		for (; run_some(&m); done++)
			move(&m);
		end(&m, &moved);
		CHECK(memcmp(alone.memory, moved.memory, sizeof(alone.memory)) == 0);
		CHECK(memcmp(&alone.state, &moved.state, sizeof(alone.state)) == 0);
	}
	printf("%s: %u moves in %u runs\n", name, done, runs);
}

int main(int argc, char **argv)
{
	unsigned moves = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : MOVES;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	uint64_t have;

	steps = argc <= 2;
	NEED(signal(SIGALRM, on_alarm) != SIG_ERR);
	NEED(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) == 0);
	close(kvm);
	have = components();
	if ((have & COMPONENT_AVX512) == COMPONENT_AVX512 && leaf(7, 0)->ebx >> AVX512BW & 1)
		test("AVX-512", guest_avx512, guest_end, have, moves);
	if (have & COMPONENT_AVX && leaf(7, 0)->ebx >> AVX2 & 1)
		test("AVX2", guest_avx, guest_avx512, have & ~COMPONENT_AVX512, moves);
	test("SSE", guest_sse, guest_avx, (have & COMPONENT_PKRU) | 3, moves);
	return check_end();
}

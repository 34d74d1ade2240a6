/* SPDX-License-Identifier: MIT */
/*
 * Unmasked SSE exceptions of a guest, and the client's SIGFPE: neither sees the other. The guest's exceptions come with
 * SIGFPE blocked, with a handler, and with SIGFPE being sent.
 */
#include "check.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>

#define GDT        0x0500u
#define TSS        0x0600u
#define CODE       0x1000u
#define MXCSR      0x2000u
#define MXCSR_SEEN 0x2004u
#define OPERANDS   0x2010u
#define RESULT     0x2030u
#define COUNT      0x3000u
#define IDT        0x4000u
#define STACK      0x8000u
#define TABLES     0x9000u
#define XM         19u

/*
 * fpe_caught: the handler of #XM. It ends with an IN; with NOPs in place of it, it waits some time, and then the
 * division begins again.
 */
extern const uint8_t fpe_divide[], fpe_caught[], fpe_caught_in[], fpe_end[];
__asm__(".pushsection .rodata\n"
	"fpe_divide: ldmxcsr 0x2000\n movups 0x2010, %xmm0\n divps 0x2020, %xmm0\n in $0x11, %al\n"
	"fpe_caught: incw 0x3000\n stmxcsr 0x2004\n movups %xmm0, 0x2030\n"
	"fpe_caught_in: in $0x10, %al\n"
	"mov $50000, %ecx\n 1: dec %ecx\n jnz 1b\n iretq\n"
	"fpe_end: .popsection");
static const uint8_t again[] = { 0x90, 0x90 };

static struct machine m;
static volatile int handled, last_value;
static sigjmp_buf out;

static struct kvm_segment flat(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.limit = UINT32_MAX, .selector = selector, .type = type, .present = 1, .s = 1, .g = 1,
		.l = selector == 8, .db = selector != 8,
	};
}

/* 64-bit mode, the first 2 MiB one to one. */
static void long_mode_machine(void)
{
	static const uint64_t gdt[] = { 0, UINT64_C(0x00af9a000000ffff), UINT64_C(0x00cf92000000ffff) };
	static const uint64_t tables[3] = { (TABLES + PAGE) | 0x63, (TABLES + 2 * PAGE) | 0x63, 0xe3 };
	const uint16_t gate[8] = { (uint16_t)(CODE + (fpe_caught - fpe_divide)), 8, 0x8e00 };
	struct kvm_sregs sregs;

	machine_make(&m, 1, 16 * PAGE);
	memcpy(m.memory + GDT, gdt, sizeof(gdt));
	memcpy(m.memory + IDT + 16 * XM, gate, sizeof(gate));
	memcpy(m.memory + CODE, fpe_divide, (size_t)(fpe_end - fpe_divide));
	for (unsigned i = 0; i < 3; i++)
		memcpy(m.memory + TABLES + i * PAGE, &tables[i], sizeof(tables[i]));
	NEED(ioctl(m.vcpu[0], KVM_GET_SREGS, &sregs) == 0);
	sregs.cs = flat(8, 11);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat(16, 3);
	sregs.tr = (struct kvm_segment){ .base = TSS, .limit = 0x67, .selector = 24, .type = 11, .present = 1 };
	sregs.gdt = (struct kvm_dtable){ .base = GDT, .limit = sizeof(gdt) - 1 };
	sregs.idt = (struct kvm_dtable){ .base = IDT, .limit = 0xfff };
	sregs.cr0 = 0x80000033; /* PG, NE, ET, MP, PE */
	sregs.cr3 = TABLES;
	sregs.cr4 = 0x620;      /* PAE, OSFXSR, OSXMMEXCPT */
	sregs.efer = 0x500;     /* LMA, LME */
	NEED(ioctl(m.vcpu[0], KVM_SET_SREGS, &sregs) == 0);
}

static void put(unsigned at, uint32_t value)
{
	memcpy(m.memory + at, &value, 4);
}

static uint32_t get(unsigned at)
{
	uint32_t value;

	memcpy(&value, m.memory + at, 4);
	return value;
}

static void restart(void)
{
	struct kvm_regs regs;

	NEED(ioctl(m.vcpu[0], KVM_GET_REGS, &regs) == 0);
	regs.rip = CODE;
	regs.rsp = STACK;
	regs.rflags = 2;
	NEED(ioctl(m.vcpu[0], KVM_SET_REGS, &regs) == 0);
}

/* a / b in the lowest of four lanes; the others are 1 / 1. `seen`: MXCSR in the handler, or 0 if there is none. */
static void expect(uint32_t mxcsr, uint32_t a, uint32_t b, uint32_t seen)
{
	for (unsigned i = 0; i < 4; i++) {
		put(OPERANDS + 4 * i, i == 0 ? a : 0x3f800000);
		put(OPERANDS + 16 + 4 * i, i == 0 ? b : 0x3f800000);
	}
	put(MXCSR, mxcsr);
	put(COUNT, 0);
	restart();
	/* The IN of the last time is completed. */
	CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == 0 && m.run[0]->exit_reason == KVM_EXIT_IO);
	CHECK(m.run[0]->io.port == (seen ? 0x10 : 0x11));
	CHECK((uint16_t)get(COUNT) == !!seen);
	if (!seen)
		return;
	CHECK(get(MXCSR_SEEN) == seen);
	CHECK(get(RESULT) == a && get(RESULT + 4) == 0x3f800000);
}

static void expect_all(void)
{
	expect(0x1f80, 0x3f800000, 0, 0);                   /* all masked */
	expect(0x1d80, 0x3f800000, 0, 0x1d84);              /* 1 / 0 */
	expect(0x1d80, 0, 0, 0);                            /* 0 / 0 is invalid, and that is masked */
	expect(0x1f00, 0, 0, 0x1f01);
	expect(0x1780, 0x00800000, 0x40000000, 0x1790);     /* a denormal result that is exact */
	expect(0x1780, 0x00800001, 0x40000000, 0x1790);     /* one that is exact but for the range */
	expect(0x1780, 0x00800000, 0x40400000, 0x17b0);     /* one that is not */
	expect(0x9780, 0x00800000, 0x40000000, 0x9790);     /* flushing to zero is for masked underflow */
	expect(0x1b80, 0x7f000000, 0x00800000, 0x1b88);     /* too great, and exact but for the range */
	expect(0x0f80, 0x3f800000, 0x40400000, 0x0fa0);     /* 1 / 3 is not exact */
	expect(0x1ea0, 0x00000001, 0x3f800000, 0x1ea2);     /* a denormal operand; a flag was set */
}

static void on_fpe(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	handled++;
	last_value = info->si_code > 0 ? -1 : info->si_value.sival_int;
	if (info->si_code > 0)
		siglongjmp(out, 1);
}

static void on_usr1(int number)
{
	(void)number;
}

/* Not in C, where a sanitizer would tell of it. */
static void divide_by_zero(void)
{
	__asm__ volatile("xor %%edx, %%edx\n\txor %%ecx, %%ecx\n\tdiv %%ecx" ::: "eax", "ecx", "edx", "cc");
}

static void test_disposition(void)
{
	struct sigaction action = { .sa_sigaction = on_fpe, .sa_flags = SA_SIGINFO }, old;

	signal(SIGFPE, SIG_DFL); /* a sanitizer's runtime has its own */
	expect_all();
	NEED(sigaction(SIGFPE, NULL, &old) == 0);
	CHECK(old.sa_handler == SIG_DFL);
	signal(SIGFPE, SIG_IGN);
	expect_all();
	NEED(sigaction(SIGFPE, &action, &old) == 0);
	CHECK(old.sa_handler == SIG_IGN);
	expect_all();
	CHECK(handled == 0);
	/* The client's own is the client's. */
	if (sigsetjmp(out, 1) == 0)
		divide_by_zero();
	CHECK(handled == 1 && last_value == -1);
}

static void test_blocked(void)
{
	sigset_t all, before, after, pending, fpe;
	siginfo_t info;

	handled = 0;
	sigfillset(&all);
	sigemptyset(&fpe);
	sigaddset(&fpe, SIGFPE);
	NEED(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
	NEED(pthread_sigmask(SIG_SETMASK, NULL, &all) == 0);
	expect_all();
	NEED(pthread_sigmask(SIG_SETMASK, NULL, &after) == 0);
	CHECK(memcmp(&all, &after, 8) == 0 && sigismember(&after, SIGFPE));
	/* One that is pending stays so. */
	NEED(pthread_sigqueue(pthread_self(), SIGFPE, (union sigval){ .sival_int = 77 }) == 0);
	expect_all();
	NEED(sigpending(&pending) == 0);
	CHECK(sigismember(&pending, SIGFPE) == 1 && handled == 0);
	CHECK(sigwaitinfo(&fpe, &info) == SIGFPE && info.si_value.sival_int == 77);
	NEED(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
}

struct sender {
	pthread_t target;
	int first, then; /* signals; 0: none */
	atomic_bool stop;
};

/*
 * Several times: a SIGFPE that is sent at the very moment at which another one is raised is lost, since the kernel
 * keeps one. At last the other signal.
 */
static void *send(void *argument)
{
	struct sender *s = argument;

	while ((uint16_t)get(COUNT) == 0)
		usleep(100);
	for (int i = 0; s->then ? i < 10 : !s->stop; i++) {
		usleep(5000);
		if (!s->stop)
			pthread_sigqueue(s->target, s->first, (union sigval){ .sival_int = 42 });
	}
	if (s->then)
		pthread_sigqueue(s->target, s->then, (union sigval){ .sival_int = 43 });
	return NULL;
}

/* The guest raises one exception after the other. */
static void run_and_send(int first, int then)
{
	struct sender s = { pthread_self(), first, then, false };
	pthread_t thread;

	handled = 0;
	put(COUNT, 0);
	restart();
	NEED(pthread_create(&thread, NULL, send, &s) == 0);
	errno = 0;
	CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == -1 && errno == EINTR);
	s.stop = true;
	pthread_join(thread, NULL);
}

static void test_sent(void)
{
	struct sigaction action = { .sa_handler = on_usr1 };
	sigset_t fpe, after, pending;
	siginfo_t info;

	NEED(sigaction(SIGUSR1, &action, NULL) == 0);
	memcpy(m.memory + CODE + (fpe_caught_in - fpe_divide), again, sizeof(again));
	put(MXCSR, 0x1d80);
	for (unsigned i = 0; i < 4; i++) {
		put(OPERANDS + 4 * i, 0x3f800000);
		put(OPERANDS + 16 + 4 * i, 0);
	}
	for (int i = 0; i < 5; i++) {
		run_and_send(SIGFPE, 0);
		CHECK(handled >= 1 && last_value == 42);
	}
	sigemptyset(&fpe);
	sigaddset(&fpe, SIGFPE);
	NEED(pthread_sigmask(SIG_BLOCK, &fpe, NULL) == 0);
	for (int i = 0; i < 5; i++) {
		run_and_send(SIGFPE, SIGUSR1);
		NEED(pthread_sigmask(SIG_SETMASK, NULL, &after) == 0);
		CHECK(sigismember(&after, SIGFPE) == 1 && sigismember(&after, SIGUSR1) == 0);
		NEED(sigpending(&pending) == 0);
		CHECK(sigismember(&pending, SIGFPE) == 1 && handled == 0);
		CHECK(sigwaitinfo(&fpe, &info) == SIGFPE && info.si_value.sival_int == 42);
	}
	NEED(pthread_sigmask(SIG_UNBLOCK, &fpe, NULL) == 0);
}

int main(void)
{
	long_mode_machine();
	test_disposition();
	test_blocked();
	test_sent();
	machine_free(&m, 1);
	return check_end();
}

/* SPDX-License-Identifier: MIT */
/*
 * The client's own MXCSR and x87 around a guest that uses all of it: rounding, flushing to zero, unmasked exceptions
 * and SIGFPE are the client's, in every thread, in signal handlers, behind a jump out of one, and in a child that a
 * handler forks. Meanwhile the guest computes what it computes when nobody disturbs it.
 */
#include "check.h"
#include "vector_guest.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Rounds up, flushes to zero, and raises every exception. x87: 53 bits. */
#define OWN_MXCSR 0xc040u
#define OWN_FCW   0x0a40u
#define INIT_MXCSR 0x1f80u
#define INIT_FCW  0x037fu

struct words {
	uint32_t mxcsr;
	uint16_t fcw, fsw, tags;
};

static void words_set(uint32_t mxcsr, uint16_t fcw)
{
	__asm__ volatile("fninit\n\tfldcw %0\n\tldmxcsr %1" : : "m"(fcw), "m"(mxcsr));
}

static struct words words_now(void)
{
	struct {
		uint16_t fcw, pad0, fsw, pad1, tags, pad2;
		uint32_t pointers[4];
	} env;
	struct words w;

	__asm__ volatile("fnstenv %0\n\tfldenv %0\n\tstmxcsr %1" : "=m"(env), "=m"(w.mxcsr));
	w.fcw = env.fcw;
	w.fsw = env.fsw;
	w.tags = env.tags;
	return w;
}

static bool words_are(uint32_t mxcsr, uint16_t fcw)
{
	struct words w = words_now();

	return w.mxcsr == mxcsr && w.fcw == fcw && w.fsw == 0 && w.tags == 0xffff;
}

/* The client's own words are in force, and nothing changes them. */
#define OWN(statement)                                                                                             \
	do {                                                                                                       \
		words_set(OWN_MXCSR, OWN_FCW);                                                                     \
		statement;                                                                                         \
		CHECK(words_are(OWN_MXCSR, OWN_FCW));                                                              \
		words_set(INIT_MXCSR, INIT_FCW);                                                                   \
	} while (0)

static const struct vector_guest *guest;
static struct vector_work alone; /* what the guest makes of it when nobody disturbs it */
static struct machine m;
static volatile unsigned handled, strange;
static sigjmp_buf jump;
static enum { PLAIN, JUMP, FORK } volatile in_handler;

static void expect_result(void)
{
	CHECK(memcmp(&alone, m.memory + VECTOR_GUEST_WORK, sizeof(alone)) == 0);
	machine_free(&m, 1);
}

/* The child has what the handler has, and no vCPU. */
static void fork_in_handler(void)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		bool good = words_are(0x7f80, 0x077f);

		errno = 0;
		_exit(!good || ioctl(m.vcpu[0], KVM_RUN, 0) != -1 || (errno != EIO && errno != EBADF));
	}
	if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
		strange++;
}

/* A kernel gives a handler initial words, and afterwards the interrupted ones come back. */
static void on_alarm(int number)
{
	(void)number;
	strange += !words_are(INIT_MXCSR, INIT_FCW);
	words_set(0x7f80, 0x077f);
	if (in_handler == FORK)
		fork_in_handler();
	__asm__ volatile(".rept 7\n\tfldpi\n\t.endr\n\tpcmpeqd %%xmm0, %%xmm0\n\tmovdqa %%xmm0, %%xmm15"
	                 ::: "xmm0", "xmm15");
	handled++;
	if (in_handler == JUMP) {
		words_set(0x7f80, 0x077f);
		siglongjmp(jump, 1);
	}
	vector_guest_stop();
}

/* ---- one thread ------------------------------------------------------------------------------------------------- */

static void test_calls(void)
{
	union {
		struct kvm_xsave xsave;
		uint8_t bytes[16384];
	} area;
	struct kvm_clock_data clock;
	struct kvm_sregs sregs;
	bool runs = true;

	in_handler = PLAIN;
	OWN(machine_make(&m, 1, 16 * PAGE));
	OWN(vector_guest_set_cpuid(m.vcpu[0]));
	machine_free(&m, 1);
	vector_guest_make(&m, guest);
	handled = strange = 0;
	while (runs) {
		OWN(runs = vector_guest_run(&m, 500));
		OWN(NEED(ioctl(m.vcpu[0], KVM_GET_XSAVE2, &area) == 0));
		OWN(NEED(ioctl(m.vcpu[0], KVM_SET_XSAVE, &area) == 0));
		OWN(NEED(ioctl(m.vcpu[0], KVM_GET_SREGS, &sregs) == 0));
		OWN(NEED(ioctl(m.vcpu[0], KVM_SET_SREGS, &sregs) == 0));
		OWN(NEED(ioctl(m.vcpu[0], KVM_GET_TSC_KHZ, 0) > 0));
		OWN(NEED(ioctl(m.vm, KVM_GET_CLOCK, &clock) == 0));
	}
	CHECK(handled > 0 && strange == 0);
	expect_result();
}

/* mprotect in a way that the library sees, or does not see: then the guest's access is a SIGSEGV. */
static void protect(bool seen, int protection)
{
	void *at = m.memory + VECTOR_GUEST_WORK;
	long result = seen ? mprotect(at, PAGE, protection) : 0;

	if (!seen)
		__asm__ volatile("syscall" : "=a"(result)
		                 : "a"(SYS_mprotect), "D"(at), "S"(PAGE), "d"(protection) : "rcx", "r11", "memory");
	NEED(result == 0);
}

static void test_memory_gone(void)
{
	unsigned stops = 0;
	int result = -1;

	in_handler = PLAIN;
	vector_guest_make(&m, guest);
	/* A guest that was stopped near its end may come to it without the page. */
	while (result == -1 && vector_guest_run(&m, 300)) {
		protect(++stops & 1, PROT_NONE);
		OWN(result = ioctl(m.vcpu[0], KVM_RUN, 0));
		protect(stops & 1, PROT_READ | PROT_WRITE);
	}
	CHECK(stops > 1 && (result == -1 || m.run[0]->exit_reason == KVM_EXIT_IO));
	expect_result();
}

#define FLAGS_VALUES 0x2000u
#define FLAGS_PAGE   0x5000u
#define PE 0x20u

/* Divide 1 by 3, which sets PE, and read FLAGS_PAGE: in real mode, with ESI = FLAGS_VALUES, EDI = FLAGS_PAGE. */
static const uint8_t flags_code[] = {
	0x67, 0x0f, 0xae, 0x16,             /* ldmxcsr (%esi) */
	0x67, 0x0f, 0x10, 0x46, 0x10,       /* movups 16(%esi), %xmm0 */
	0x67, 0x0f, 0x10, 0x4e, 0x20,       /* movups 32(%esi), %xmm1 */
	0x0f, 0x5e, 0xc1,                   /* divps %xmm1, %xmm0 */
	0x67, 0x0f, 0x10, 0x17,             /* movups (%edi), %xmm2 */
	0x67, 0x0f, 0xae, 0x5e, 0x04,       /* stmxcsr 4(%esi) */
	0xe6, 0x11,                         /* out %al, $0x11 */
};
#define FLAGS_READ 17u /* where the page is read */

static int flags_run(void)
{
	struct kvm_regs regs = { .rip = 0x1000, .rflags = 2, .rsi = FLAGS_VALUES, .rdi = FLAGS_PAGE };

	m.run[0]->immediate_exit = 1; /* complete the OUT of the run before */
	CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == -1 && errno == EINTR);
	m.run[0]->immediate_exit = 0;
	NEED(ioctl(m.vcpu[0], KVM_SET_REGS, &regs) == 0);
	return ioctl(m.vcpu[0], KVM_RUN, 0);
}

/* By another process: the library of this one does not see it. */
static void file_truncate(int file)
{
	pid_t child = fork();
	int status;

	if (child == 0)
		_exit(ftruncate(file, 0) != 0);
	NEED(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

/*
 * Flags that the guest's instructions have set are in its MXCSR when a later access finds the page gone, and when it
 * goes on: also when the access is a vector instruction that faults in the client's process itself.
 */
static void test_flags_when_memory_is_gone(void)
{
	static const float one[4] = { 1, 1, 1, 1 }, three[4] = { 3, 3, 3, 3 };
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	union {
		struct kvm_xsave xsave;
		uint32_t words[4096];
	} area;
	int file = memfd_create("page", MFD_CLOEXEC);

	machine_make(&m, 1, 16 * PAGE);
	memcpy(m.memory + 0x1000, flags_code, sizeof(flags_code));
	memcpy(m.memory + FLAGS_VALUES, &(uint32_t){ INIT_MXCSR }, 4);
	memcpy(m.memory + FLAGS_VALUES + 16, one, sizeof(one));
	memcpy(m.memory + FLAGS_VALUES + 32, three, sizeof(three));
	NEED(ioctl(m.vcpu[0], KVM_GET_SREGS, &sregs) == 0);
	sregs.cr4 |= 0x600; /* OSFXSR, OSXMMEXCPT */
	NEED(ioctl(m.vcpu[0], KVM_SET_SREGS, &sregs) == 0);
	NEED(ftruncate(file, PAGE) == 0);
	NEED(mmap(m.memory + FLAGS_PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) != MAP_FAILED);
	for (unsigned i = 0; i < 3; i++) /* so often that the code is what it will be, and the page is known */
		CHECK(flags_run() == 0 && m.run[0]->exit_reason == KVM_EXIT_IO);
	file_truncate(file);
	CHECK(flags_run() == -1 && errno == EFAULT);
	NEED(ioctl(m.vcpu[0], KVM_GET_REGS, &regs) == 0);
	NEED(ioctl(m.vcpu[0], KVM_GET_XSAVE2, &area) == 0);
	CHECK(regs.rip == 0x1000 + FLAGS_READ && area.words[6] == (INIT_MXCSR | PE));
	NEED(ftruncate(file, PAGE) == 0);
	memset(m.memory + FLAGS_VALUES + 4, 0, 4);
	CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == 0 && m.run[0]->exit_reason == KVM_EXIT_IO);
	CHECK(memcmp(m.memory + FLAGS_VALUES + 4, &(uint32_t){ INIT_MXCSR | PE }, 4) == 0);
	machine_free(&m, 1);
	close(file);
}

/* The jump leaves the words to the handler's, as anywhere else. */
static void test_jump(void)
{
	volatile bool runs = true;
	volatile unsigned jumps = 0;

	vector_guest_make(&m, guest);
	in_handler = JUMP;
	while (runs) {
		words_set(OWN_MXCSR, OWN_FCW);
		if (sigsetjmp(jump, 1) == 0) {
			runs = vector_guest_run(&m, 700);
		} else {
			CHECK(words_are(0x7f80, 0x077f));
			runs = m.run[0]->exit_reason != KVM_EXIT_IO;
			jumps++;
		}
		words_set(INIT_MXCSR, INIT_FCW);
	}
	CHECK(jumps > 0);
	expect_result();
}

static void test_fork(void)
{
	bool runs = true;

	vector_guest_make(&m, guest);
	in_handler = FORK;
	handled = strange = 0;
	while (runs)
		OWN(runs = vector_guest_run(&m, 1000));
	CHECK(handled > 0 && strange == 0);
	expect_result();
}

/* ---- SIGFPE ----------------------------------------------------------------------------------------------------- */

static volatile int fpe_code;
static volatile uint32_t fpe_mxcsr;
static volatile uint16_t fpe_fsw;

static void on_fpe(int number, siginfo_t *info, void *context)
{
	const struct {
		uint16_t fcw, fsw, rest[10];
		uint32_t mxcsr;
	} *saved = (const void *)((ucontext_t *)context)->uc_mcontext.fpregs;

	(void)number;
	fpe_code = info->si_code;
	fpe_mxcsr = saved->mxcsr;
	fpe_fsw = saved->fsw;
	strange += !words_are(INIT_MXCSR, INIT_FCW);
	siglongjmp(jump, 1);
}

static void expect_fpe_of_sse(void)
{
	static const uint32_t divide_by_zero = 0x1d80;
	static const float one = 1, zero = 0;

	fpe_code = 0;
	if (sigsetjmp(jump, 1) == 0)
		__asm__ volatile("ldmxcsr %0\n\tmovss %1, %%xmm0\n\tdivss %2, %%xmm0"
		                 : : "m"(divide_by_zero), "m"(one), "m"(zero) : "xmm0");
	CHECK(fpe_code == FPE_FLTDIV && (fpe_mxcsr & ~0x3fu) == divide_by_zero && fpe_mxcsr & 4);
	words_set(INIT_MXCSR, INIT_FCW);
}

static void expect_fpe_of_x87(void)
{
	static const uint16_t divide_by_zero = 0x037b;

	fpe_code = 0;
	if (sigsetjmp(jump, 1) == 0)
		__asm__ volatile("fninit\n\tfldcw %0\n\tfldz\n\tfld1\n\tfdiv %%st(1), %%st\n\tfwait"
		                 : : "m"(divide_by_zero));
	CHECK(fpe_code == FPE_FLTDIV && fpe_fsw & 0x8000 && fpe_fsw & 4);
	words_set(INIT_MXCSR, INIT_FCW);
}

/*
 * An x87 exception of the client's waits for the client's next instruction of x87, over KVM_RUN.
 * Returns: does the guest run on?
 */
static bool expect_waiting_fpe(void)
{
	static const uint16_t divide_by_zero = 0x037b;
	volatile bool runs = true, came = false;

	fpe_code = 0;
	if (sigsetjmp(jump, 1) == 0) {
		const struct {
			uint16_t fcw, pad0, fsw, pad1, tags, pad2;
			uint32_t pointers[4];
		} env = { .fcw = divide_by_zero, .fsw = 0x8084, .tags = 0xffff };

		__asm__ volatile("fldenv %0" : : "m"(env));
		runs = vector_guest_run(&m, 500);
		came = true;
		__asm__ volatile("fwait");
		came = false;
	}
	CHECK(came && fpe_code == FPE_FLTDIV && (fpe_fsw & 0x8084) == 0x8084);
	words_set(INIT_MXCSR, INIT_FCW);
	return runs;
}

static void test_fpe(void)
{
	struct sigaction action = { .sa_sigaction = on_fpe, .sa_flags = SA_SIGINFO }, old;
	bool runs = true;

	NEED(sigaction(SIGFPE, &action, &old) == 0);
	in_handler = PLAIN;
	strange = 0;
	expect_fpe_of_sse();
	vector_guest_make(&m, guest);
	while (runs) {
		expect_fpe_of_sse();
		expect_fpe_of_x87();
		OWN(runs = vector_guest_run(&m, 300));
		runs = runs && expect_waiting_fpe();
	}
	CHECK(strange == 0);
	expect_result();
	NEED(sigaction(SIGFPE, &old, NULL) == 0);
}

/* ---- threads ---------------------------------------------------------------------------------------------------- */

struct runner {
	pthread_t thread;
	struct machine m;
	uint32_t mxcsr;
	uint16_t fcw;
};

static void *run_to_end(void *argument)
{
	struct runner *r = argument;

	words_set(r->mxcsr, r->fcw);
	CHECK(ioctl(r->m.vcpu[0], KVM_RUN, 0) == 0 && r->m.run[0]->exit_reason == KVM_EXIT_IO);
	CHECK(words_are(r->mxcsr, r->fcw));
	words_set(INIT_MXCSR, INIT_FCW);
	CHECK(memcmp(&alone, r->m.memory + VECTOR_GUEST_WORK, sizeof(alone)) == 0);
	return NULL;
}

static void test_threads(void)
{
	static struct runner r[4] = {
		{ .mxcsr = OWN_MXCSR, .fcw = OWN_FCW }, { .mxcsr = 0x3f80, .fcw = 0x007f },
		{ .mxcsr = 0xdf80, .fcw = 0x0c40 }, { .mxcsr = INIT_MXCSR, .fcw = INIT_FCW },
	};

	for (unsigned i = 0; i < 4; i++) {
		vector_guest_make(&r[i].m, guest);
		NEED(pthread_create(&r[i].thread, NULL, run_to_end, &r[i]) == 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		NEED(pthread_join(r[i].thread, NULL) == 0);
		machine_free(&r[i].m, 1);
	}
}

static void *run_a_while(void *argument)
{
	bool *runs = argument;

	OWN(*runs = vector_guest_run(&m, 500));
	return NULL;
}

/* A vCPU goes from thread to thread, each with words of its own. */
static void test_thread_after_thread(void)
{
	bool runs = true;
	pthread_t thread;

	in_handler = PLAIN;
	vector_guest_make(&m, guest);
	for (unsigned i = 0; runs; i++) {
		sigset_t alarm;

		if (i & 1) {
			runs = vector_guest_run(&m, 500);
			continue;
		}
		NEED(pthread_create(&thread, NULL, run_a_while, &runs) == 0);
		sigemptyset(&alarm);
		sigaddset(&alarm, SIGALRM);
		pthread_sigmask(SIG_BLOCK, &alarm, NULL);
		NEED(pthread_join(thread, NULL) == 0);
		pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
	}
	expect_result();
}

int main(void)
{
	struct sigaction action = { .sa_handler = on_alarm };
	struct vector_guest list[3];

	vector_guest_list(list);
	guest = &list[0];
	NEED(sigaction(SIGALRM, &action, NULL) == 0);
	vector_guest_make(&m, guest);
	NEED(ioctl(m.vcpu[0], KVM_RUN, 0) == 0 && m.run[0]->exit_reason == KVM_EXIT_IO);
	memcpy(&alone, m.memory + VECTOR_GUEST_WORK, sizeof(alone));
	machine_free(&m, 1);
	test_calls();
	test_memory_gone();
	test_flags_when_memory_is_gone();
	test_jump();
	test_fork();
	test_fpe();
	test_threads();
	test_thread_after_thread();
	return check_end();
}

/* SPDX-License-Identifier: MIT */
/*
 * Signals and KVM_RUN: EINTR, the moment at which handlers run, KVM_SET_SIGNAL_MASK, immediate_exit, and sigaction as
 * the client sees it.
 */
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

/* inc word [0x3000]; jmp -6 */
static const uint8_t spin[] = { 0xff, 0x06, 0x00, 0x30, 0xeb, 0xfa };
/* in al, 0x10; jmp */
static const uint8_t port[] = { 0xe4, 0x10, 0xeb, 0xfc };

static volatile int handled, handled_value;
static struct machine *handler_machine;
static volatile bool handler_could_ask;

static void on_usr1(int number, siginfo_t *info, void *context)
{
	struct kvm_regs regs;

	(void)number;
	(void)context;
	handled++;
	handled_value = info->si_value.sival_int;
	/* The vCPU answers in a handler, as with a real KVM: there, KVM_RUN has returned before a handler runs. */
	if (handler_machine) {
		handler_could_ask = ioctl(handler_machine->vcpu[0], KVM_GET_REGS, &regs) == 0;
		handler_machine->run[0]->immediate_exit = 1;
	}
}

static void install(int number, int flags)
{
	struct sigaction action = { .sa_sigaction = on_usr1, .sa_flags = SA_SIGINFO | flags };

	NEED(sigaction(number, &action, NULL) == 0);
}

struct kicker {
	pthread_t target;
	int number, microseconds;
	const volatile uint16_t *inside; /* if not NULL: wait until the guest counts in this word */
};

static void *kick(void *argument)
{
	struct kicker *k = argument;
	union sigval value = { .sival_int = 42 };

	while (k->inside && !*k->inside)
		usleep(100);
	usleep((useconds_t)k->microseconds);
	pthread_sigqueue(k->target, k->number, value);
	return NULL;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void test_handler(void)
{
	struct machine m;
	struct kicker k = { .target = pthread_self(), .number = SIGUSR1, .microseconds = 1000 };
	pthread_t thread;

	machine_make(&m, 1, 16 * PAGE);
	k.inside = (const volatile uint16_t *)(m.memory + 0x3000);
	memcpy(m.memory + 0x1000, spin, sizeof(spin));
	install(SIGUSR1, 0);
	for (int i = 0; i < 10; i++) {
		handled = 0;
		handler_could_ask = false;
		handler_machine = &m;
		m.run[0]->immediate_exit = 0;
		memset(m.memory + 0x3000, 0, 2);
		NEED(pthread_create(&thread, NULL, kick, &k) == 0);
		errno = 0;
		CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == -1 && errno == EINTR);
		CHECK(m.run[0]->exit_reason == KVM_EXIT_INTR);
		CHECK(handled == 1 && handled_value == 42 && handler_could_ask);
		pthread_join(thread, NULL);
	}
	/* The handler has set immediate_exit, so the next KVM_RUN ends, too. */
	errno = 0;
	CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == -1 && errno == EINTR);
	handler_machine = NULL;
	machine_free(&m, 1);
}

/* A blocked signal that KVM_RUN's mask lets through ends KVM_RUN with EINTR and stays pending, handler or not. */
static void test_mask(bool with_handler)
{
	struct machine m;
	struct kicker k = { .target = pthread_self(), .number = SIGUSR2, .microseconds = 20000 };
	struct {
		struct kvm_signal_mask head;
		uint64_t mask;
	} __attribute__((packed)) mask = { .head.len = 8 };
	sigset_t set, pending;
	pthread_t thread;
	siginfo_t info;

	machine_make(&m, 1, 16 * PAGE);
	memcpy(m.memory + 0x1000, spin, sizeof(spin));
	if (with_handler)
		install(SIGUSR2, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	mask.mask = 0;
	CHECK(ioctl(m.vcpu[0], KVM_SET_SIGNAL_MASK, &mask) == 0);
	for (int i = 0; i < 10; i++) {
		handled = 0;
		NEED(pthread_create(&thread, NULL, kick, &k) == 0);
		errno = 0;
		CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == -1 && errno == EINTR);
		CHECK(handled == 0);
		sigpending(&pending);
		CHECK(sigismember(&pending, SIGUSR2) == 1);
		/* The signal is still pending, so it ends the next KVM_RUN at once. */
		errno = 0;
		CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == -1 && errno == EINTR);
		CHECK(sigwaitinfo(&set, &info) == SIGUSR2 && info.si_value.sival_int == 42);
		pthread_join(thread, NULL);
	}
	/* KVM_RUN's mask may block a signal that the thread does not block, and the mask can be taken off again. */
	memcpy(m.memory + 0x1000, port, sizeof(port));
	mask.mask = UINT64_C(1) << (SIGUSR1 - 1);
	CHECK(ioctl(m.vcpu[0], KVM_SET_SIGNAL_MASK, &mask) == 0);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	CHECK(ioctl(m.vcpu[0], KVM_SET_SIGNAL_MASK, NULL) == 0);
	machine_free(&m, 1);
}

static void test_immediate(void)
{
	struct machine m;
	struct kvm_regs regs;

	machine_make(&m, 1, 16 * PAGE);
	memcpy(m.memory + 0x1000, port, sizeof(port));
	CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == 0 && m.run[0]->exit_reason == KVM_EXIT_IO);
	*((uint8_t *)m.run[0] + m.run[0]->io.data_offset) = 0x5a;
	m.run[0]->immediate_exit = 1;
	errno = 0;
	CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == -1 && errno == EINTR);
	/* KVM_RUN has completed the IN and has not begun the next instruction. */
	NEED(ioctl(m.vcpu[0], KVM_GET_REGS, &regs) == 0);
	CHECK((regs.rax & 0xff) == 0x5a && regs.rip == 0x1002);
	m.run[0]->immediate_exit = 0;
	CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == 0 && m.run[0]->exit_reason == KVM_EXIT_IO);
	machine_free(&m, 1);
}

/* mov eax, [0x8ffe]; then inc bx for ever. The operand lies in two pages of a device. */
static const uint8_t device_read[] = { 0x66, 0xa1, 0xfe, 0x8f, 0x43, 0xeb, 0xfd };
/* mov si, 0x9000; mov di, 0x2000; mov cx, 2; rep movsb; then inc bx for ever */
static const uint8_t device_move[] = { 0xbe, 0x00, 0x90, 0xbf, 0x00, 0x20, 0xb9, 2, 0, 0xf3, 0xa4, 0x43, 0xeb, 0xfd };

static void expect_read(struct machine *m, uint64_t address, unsigned bytes, const char *data)
{
	struct kvm_run *run = m->run[0];

	CHECK(ioctl(m->vcpu[0], KVM_RUN, 0) == 0 && run->exit_reason == KVM_EXIT_MMIO);
	CHECK(run->mmio.phys_addr == address && run->mmio.len == bytes && !run->mmio.is_write);
	memcpy(run->mmio.data, data, bytes);
}

static struct kvm_regs expect_end(struct machine *m, uint64_t rip)
{
	struct kvm_regs regs;

	errno = 0;
	CHECK(ioctl(m->vcpu[0], KVM_RUN, 0) == -1 && errno == EINTR);
	NEED(ioctl(m->vcpu[0], KVM_GET_REGS, &regs) == 0);
	CHECK(regs.rip == rip && regs.rbx == 0);
	return regs;
}

/* When KVM_RUN is told to end in the middle of a device access, it finishes the instruction and begins no other. */
static void test_device(struct machine *m)
{
	struct kvm_regs regs;

	memcpy(m->memory + 0x1000, device_read, sizeof(device_read));
	machine_start(m, 0, 0x1000);
	m->run[0]->immediate_exit = 0;
	expect_read(m, 0x8ffe, 2, "\x11\x22");
	m->run[0]->immediate_exit = 1;
	expect_read(m, 0x9000, 2, "\x33\x44");
	regs = expect_end(m, 0x1004);
	CHECK((uint32_t)regs.rax == 0x44332211);

	memcpy(m->memory + 0x1000, device_move, sizeof(device_move));
	machine_start(m, 0, 0x1000);
	for (unsigned i = 0; i < 2; i++) {
		m->run[0]->immediate_exit = 0;
		expect_read(m, 0x9000 + i, 1, "Z");
		m->run[0]->immediate_exit = 1;
		regs = expect_end(m, i == 0 ? 0x1009 : 0x100b);
		CHECK(m->memory[0x2000 + i] == 'Z' && (uint16_t)regs.rcx == 1 - i);
	}
}

static void test_immediate_device(void)
{
	struct machine m;

	machine_make(&m, 1, 8 * PAGE);
	test_device(&m);
	machine_free(&m, 1);
}

/* The same with a signal that is pending all the time and that the mask of KVM_RUN lets through. */
static void test_pending_device(void)
{
	struct {
		struct kvm_signal_mask head;
		uint64_t mask;
	} __attribute__((packed)) mask = { .head.len = 8 };
	struct machine m;
	struct kvm_regs regs;
	sigset_t set;
	siginfo_t info;

	machine_make(&m, 1, 8 * PAGE);
	memcpy(m.memory + 0x1000, device_read, sizeof(device_read));
	install(SIGUSR2, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	CHECK(ioctl(m.vcpu[0], KVM_SET_SIGNAL_MASK, &mask) == 0);
	expect_read(&m, 0x8ffe, 2, "\x11\x22");
	pthread_kill(pthread_self(), SIGUSR2);
	expect_read(&m, 0x9000, 2, "\x33\x44");
	regs = expect_end(&m, 0x1004);
	CHECK((uint32_t)regs.rax == 0x44332211);
	CHECK(sigwaitinfo(&set, &info) == SIGUSR2);
	CHECK(ioctl(m.vcpu[0], KVM_SET_SIGNAL_MASK, NULL) == 0);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	machine_free(&m, 1);
}

/* When a finished device access ends a debugger's step, KVM_RUN reports the step although it is told to end at once. */
static void test_immediate_step(void)
{
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP };
	struct machine m;

	machine_make(&m, 1, 8 * PAGE);
	memcpy(m.memory + 0x1000, "\xa0\x00\x80\x90\x90", 5); /* mov al, [0x8000]; nop */
	CHECK(ioctl(m.vcpu[0], KVM_SET_GUEST_DEBUG, &debug) == 0);
	expect_read(&m, 0x8000, 1, "Z");
	m.run[0]->immediate_exit = 1;
	CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == 0 && m.run[0]->exit_reason == KVM_EXIT_DEBUG);
	CHECK(m.run[0]->debug.arch.pc == 0x1003);
	machine_free(&m, 1);
}

/* The client must not see the front end's wrapper of its handlers. */
static void test_sigaction(void)
{
	struct sigaction action, old;

	install(SIGUSR1, SA_RESTART);
	NEED(sigaction(SIGUSR1, NULL, &old) == 0);
	CHECK(old.sa_sigaction == on_usr1 && (old.sa_flags & (SA_SIGINFO | SA_RESTART)) == (SA_SIGINFO | SA_RESTART));
	CHECK(signal(SIGUSR1, SIG_IGN) == (void (*)(int))(void *)on_usr1);
	CHECK(signal(SIGUSR1, SIG_DFL) == SIG_IGN);
	NEED(sigaction(SIGSEGV, NULL, &old) == 0);
	CHECK(old.sa_handler == SIG_DFL || under_runtime("__asan_init"));
	install(SIGUSR1, SA_RESETHAND);
	handled = 0;
	raise(SIGUSR1);
	CHECK(handled == 1);
	NEED(sigaction(SIGUSR1, NULL, &old) == 0);
	CHECK(old.sa_handler == SIG_DFL);
	memset(&action, 0, sizeof(action));
	CHECK(sigaction(SIGKILL, &action, NULL) == -1 && errno == EINVAL);
	CHECK(sigaction(1000, NULL, &old) == -1 && errno == EINVAL);
}

static void *volatile fault_address;
static volatile int faults;

static void on_segv(int number, siginfo_t *info, void *context)
{
	(void)context;
	faults++;
	CHECK(number == SIGSEGV && info->si_addr == fault_address);
	NEED(mprotect(fault_address, PAGE, PROT_READ | PROT_WRITE) == 0);
}

/* The client's own SIGSEGV handler still gets the client's faults. */
static void test_client_segv(void)
{
	struct sigaction action = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO };
	volatile uint8_t *page = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	NEED(sigaction(SIGSEGV, &action, NULL) == 0);
	for (int i = 0; i < 3; i++) {
		NEED(mprotect((void *)page, PAGE, PROT_NONE) == 0);
		fault_address = (void *)page;
		page[0] = 1;
		CHECK(faults == i + 1 && page[0] == 1);
	}
	munmap((void *)page, PAGE);
	signal(SIGSEGV, SIG_DFL);
}

static struct machine storm;
static volatile unsigned storms;

static void on_alarm(int number)
{
	struct kvm_regs regs;
	int saved = errno;

	(void)number;
	storms++;
	CHECK(ioctl(storm.vcpu[0], KVM_GET_REGS, &regs) == 0);
	CHECK(madvise(storm.memory + 8 * PAGE, PAGE, MADV_DONTNEED) == 0);
	errno = saved;
}

/* A handler may make KVM and memory calls at any moment: the front end holds no lock when it runs. */
static void test_storm(void)
{
	struct itimerval often = { { 0, 200 }, { 0, 200 } }, never = { 0 };
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	struct kvm_regs regs;
	double begin = seconds();

	machine_make(&storm, 1, 16 * PAGE);
	memcpy(storm.memory + 0x1000, port, sizeof(port));
	NEED(sigaction(SIGALRM, &action, NULL) == 0);
	setitimer(ITIMER_REAL, &often, NULL);
	/* Run longer than a second if the machine is too busy to send ten alarms in that time. */
	while (seconds() - begin < 1 || (storms <= 10 && seconds() - begin < 60)) {
		int result = ioctl(storm.vcpu[0], KVM_RUN, 0);

		CHECK(result == 0 || errno == EINTR);
		CHECK(ioctl(storm.vcpu[0], KVM_GET_REGS, &regs) == 0);
		CHECK(madvise(storm.memory + 8 * PAGE, PAGE, MADV_DONTNEED) == 0);
	}
	setitimer(ITIMER_REAL, &never, NULL);
	CHECK(storms > 10);
	machine_free(&storm, 1);
}

static volatile int older;

static void on_older(int number)
{
	(void)number;
	older++;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* the test uses deprecated functions on purpose */

/* A handler does not run inside KVM_RUN, whichever function has installed it. */
static void test_older_ways(void)
{
	void (*(*const ways[])(int, void (*)(int)))(int) = { signal, ssignal, sysv_signal, __sysv_signal, sigset };
	struct {
		void (*handler)(int);
		unsigned long flags, restorer, mask;
	} kernels;
	struct sigaction action;
	struct machine m;

	machine_make(&m, 1, 16 * PAGE);
	memcpy(m.memory + 0x1000, port, sizeof(port));
	for (unsigned i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		struct kicker k = { .target = pthread_self(), .number = SIGUSR1, .microseconds = 1000 };
		pthread_t thread;

		CHECK(ways[i](SIGUSR1, on_older) == SIG_DFL);
		/* The kernel's handler is the front end's wrapper, which calls the client's. A hosted client does not
		   see it. */
		CHECK(syscall(SYS_rt_sigaction, SIGUSR1, NULL, &kernels, 8) == 0);
		CHECK(!under_runtime("vmmu_host") || kernels.handler != on_older);
		older = 0;
		NEED(pthread_create(&thread, NULL, kick, &k) == 0);
		while (!older) {
			CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == 0 || errno == EINTR);
		}
		pthread_join(thread, NULL);
		NEED(sigaction(SIGUSR1, NULL, &action) == 0);
		CHECK(older == 1 && (action.sa_handler == on_older || action.sa_handler == SIG_DFL));
		CHECK(sigignore(SIGUSR1) == 0 && signal(SIGUSR1, SIG_DFL) == SIG_IGN);
	}
	machine_free(&m, 1);
}

#pragma GCC diagnostic pop

/* A signal that all threads of the client block stays pending: no thread of the front end takes it. */
static void test_foreign_threads(void)
{
	sigset_t set, pending;
	siginfo_t info;

	handled = 0;
	install(SIGUSR2, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	NEED(kill(getpid(), SIGUSR2) == 0);
	for (int i = 0; i < 20; i++) {
		usleep(5000);
		sigpending(&pending);
		CHECK(sigismember(&pending, SIGUSR2) == 1 && handled == 0);
	}
	if (handled == 0)
		CHECK(sigwaitinfo(&set, &info) == SIGUSR2);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}

int main(void)
{
	test_handler();
	test_mask(false);
	test_mask(true);
	test_immediate();
	test_immediate_device();
	test_pending_device();
	test_immediate_step();
	test_sigaction();
	test_client_segv();
	test_storm();
	test_older_ways();
	test_foreign_threads();
	return check_end();
}

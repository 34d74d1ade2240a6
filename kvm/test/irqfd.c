/* SPDX-License-Identifier: MIT */
/*
 * KVM_IRQFD. The guest halts with interrupts on. The handler of a vector counts in a word of memory, ends the interrupt
 * and goes back to CODE (there is no IRET, which some KVMs cannot emulate); that of END leaves the guest.
 */
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#define GDT     0x500u
#define IDT     0x800u
#define CODE    0x1000u
#define COUNTS  0x2000u /* a word for each vector */
#define STUBS   0x4000u
#define STACK   0x8000u
#define FIRST   0x40u   /* the vector of route 0 */
#define END     0xe0u
#define GSI     24u     /* of route 0; below are the pins of the chips */
#define ROUTES  64u
#define PIN     10u     /* of the I/O APIC, and its line */
#define PIN_VECTOR 0x30u

#define DEASSIGN KVM_IRQFD_FLAG_DEASSIGN
#define RESAMPLE KVM_IRQFD_FLAG_RESAMPLE

static struct machine m;
static pthread_t runner;

static int call(int fd, uint32_t gsi, uint32_t flags, int resample)
{
	struct kvm_irqfd in = { .fd = (uint32_t)fd, .gsi = gsi, .flags = flags, .resamplefd = (uint32_t)resample };

	return ioctl(m.vm, KVM_IRQFD, &in) == 0 ? 0 : errno;
}

static int make_eventfd(void)
{
	int fd = eventfd(0, EFD_NONBLOCK);

	NEED(fd >= 0);
	return fd;
}

static void signal_fd(int fd)
{
	const uint64_t one = 1;

	NEED(write(fd, &one, sizeof(one)) == sizeof(one));
}

static uint64_t take(int fd)
{
	uint64_t count = 0;

	return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static uint32_t count(unsigned vector)
{
	return __atomic_load_n((uint32_t *)(void *)(m.memory + COUNTS) + vector, __ATOMIC_ACQUIRE);
}

/* Wait until a condition holds, but not for ever. Then return whether it does. */
#define SOON(condition)                                                                                            \
	({                                                                                                         \
		bool holds = (condition);                                                                          \
		for (unsigned turn = check_failures ? 49000 : 0; turn < 50000 && !holds; turn++) {                 \
			usleep(100);                                                                               \
			holds = (condition);                                                                       \
		}                                                                                                  \
		holds;                                                                                             \
	})

/* Long enough for an interrupt that should not come. */
static void wait_a_while(void)
{
	usleep(20000);
}

/* ---- the machine ----------------------------------------------------------------------------------------- */

static void route(unsigned from, unsigned vector)
{
	static struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry[ROUTES + 1];
	} routes;

	routes.head.nr = ROUTES + 1;
	for (unsigned i = 0; i < ROUTES; i++)
		routes.entry[i] = (struct kvm_irq_routing_entry){
			.gsi = GSI + i, .type = KVM_IRQ_ROUTING_MSI,
			.u.msi = { .address_lo = 0xfee00000u, .data = i == from ? vector : FIRST + i },
		};
	routes.entry[ROUTES] = (struct kvm_irq_routing_entry){
		.gsi = PIN, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = { KVM_IRQCHIP_IOAPIC, PIN },
	};
	NEED(ioctl(m.vm, KVM_SET_GSI_ROUTING, &routes) == 0);
}

static void put_stub(unsigned vector)
{
	const uint32_t word = COUNTS + vector * 4;
	/* lock incl word; movl $0, 0xfee000b0; jmp CODE */
	uint8_t stub[] = { 0xf0, 0xff, 0x05, 0, 0, 0, 0, 0xc7, 0x05, 0xb0, 0x00, 0xe0, 0xfe, 0, 0, 0, 0, 0xe9, 0, 0,
		0, 0 };
	const uint32_t at = STUBS + vector * 32;
	const uint16_t gate[4] = { (uint16_t)at, 8, 0x8e00, (uint16_t)(at >> 16) };

	const uint32_t back = CODE - (at + (uint32_t)sizeof(stub));

	memcpy(stub + 3, &word, sizeof(word));
	memcpy(stub + sizeof(stub) - 4, &back, sizeof(back));
	memcpy(m.memory + at, stub, sizeof(stub));
	if (vector == END)
		memcpy(m.memory + at + 17, "\xe6\xaa", 2); /* out %al, $0xaa, for the jmp */
	memcpy(m.memory + IDT + vector * 8, gate, sizeof(gate));
}

static struct kvm_segment flat(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.limit = UINT32_MAX, .selector = selector, .type = type, .present = 1, .db = 1, .s = 1, .g = 1,
	};
}

static void start(void)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rip = CODE, .rflags = 2, .rsp = STACK };
	struct kvm_lapic_state lapic;

	NEED(ioctl(m.vcpu[0], KVM_GET_SREGS, &sregs) == 0);
	sregs.cs = flat(8, 11);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat(16, 3);
	sregs.gdt.base = GDT;
	sregs.gdt.limit = 23;
	sregs.idt.base = IDT;
	sregs.idt.limit = 0x7ff;
	sregs.cr0 = 0x31;
	NEED(ioctl(m.vcpu[0], KVM_SET_SREGS, &sregs) == 0);
	NEED(ioctl(m.vcpu[0], KVM_SET_REGS, &regs) == 0);
	NEED(ioctl(m.vcpu[0], KVM_GET_LAPIC, &lapic) == 0);
	lapic.regs[0xf1] |= 1; /* the APIC's enable bit, 8 of the spurious vector's register */
	NEED(ioctl(m.vcpu[0], KVM_SET_LAPIC, &lapic) == 0);
}

static void make(void)
{
	static const uint64_t gdt[] = { 0, UINT64_C(0x00cf9a000000ffff), UINT64_C(0x00cf92000000ffff) };

	memset(&m, 0, sizeof(m));
	m.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	m.vm = ioctl(m.kvm, KVM_CREATE_VM, 0);
	NEED(m.vm >= 0 && ioctl(m.vm, KVM_CREATE_IRQCHIP, 0) == 0);
	m.bytes = 16 * PAGE;
	m.memory = mmap(NULL, m.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(m.memory != MAP_FAILED && machine_slot(m.vm, 0, 0, 0, m.bytes, m.memory) == 0);
	memcpy(m.memory + GDT, gdt, sizeof(gdt));
	memcpy(m.memory + CODE, "\xbc\x00\x80\x00\x00\xfb\xf4\xeb\xfd", 9); /* mov $STACK, %esp; sti; hlt; jmp */
	for (unsigned v = 0x20; v < 256; v++)
		put_stub(v);
	m.vcpu[0] = ioctl(m.vm, KVM_CREATE_VCPU, 0);
	NEED(m.vcpu[0] >= 0);
	m.run[0] = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, m.vcpu[0], 0);
	NEED(m.run[0] != MAP_FAILED);
	start();
	route(ROUTES, 0);
}

static void *run(void *unused)
{
	int result;

	(void)unused;
	do
		result = ioctl(m.vcpu[0], KVM_RUN, 0);
	while (result == -1 && errno == EINTR);
	CHECK(result == 0 && m.run[0]->exit_reason == KVM_EXIT_IO && m.run[0]->io.port == 0xaa);
	return NULL;
}

static void guest_begin(void)
{
	start();
	NEED(pthread_create(&runner, NULL, run, NULL) == 0);
}

static void guest_end(void)
{
	struct kvm_msi msi = { .address_lo = 0xfee00000u, .data = END };

	CHECK(ioctl(m.vm, KVM_SIGNAL_MSI, &msi) == 1);
	pthread_join(runner, NULL);
}

/* ---- what is refused ------------------------------------------------------------------------------------- */

static void test_errors(void)
{
	int a = make_eventfd(), b = make_eventfd(), copy = dup(a), closed = dup(a), file = open("/dev/null", O_RDWR);
	const struct {
		int fd;
		uint32_t gsi, flags;
		int resample, result;
	} calls[] = {
		{ a, 5, 1u << 2, 0, EINVAL },
		{ a, 5, 1u << 2 | DEASSIGN, 0, EINVAL },
		{ closed, 5, 0, 0, EBADF },
		{ closed, 5, DEASSIGN, 0, EBADF },
		{ file, 5, 0, 0, EINVAL },
		{ file, 5, DEASSIGN, 0, EINVAL },
		{ a, 5, RESAMPLE, closed, EBADF },
		{ a, 5, RESAMPLE, file, EINVAL },
		/* It is no error that there is none. */
		{ a, 5, DEASSIGN, 0, 0 },
		{ a, 5, 0, 0, 0 },
		{ a, 5, 0, 0, EBUSY },
		{ a, 6, 0, 0, EBUSY },
		{ copy, 6, 0, 0, EBUSY },
		{ a, 6, DEASSIGN, 0, 0 },
		{ a, 7, 0, 0, EBUSY },
		{ b, 5, RESAMPLE, a, 0 },
		{ b, 5, DEASSIGN | RESAMPLE, closed, 0 },
		{ copy, 5, DEASSIGN, 0, 0 },
		{ a, 70000, 0, 0, 0 },
		{ a, 70000, DEASSIGN, 0, 0 },
		{ a, UINT32_MAX, RESAMPLE, a, 0 },
	};
	int whole = m.vm;
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };

	close(closed);
	CHECK(ioctl(m.vm, KVM_CHECK_EXTENSION, KVM_CAP_IRQFD) == 1);
	CHECK(ioctl(m.vm, KVM_CHECK_EXTENSION, KVM_CAP_IRQFD_RESAMPLE) == 1);
	CHECK(ioctl(m.vm, KVM_IRQFD, 8) == -1 && errno == EFAULT);
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		int result = call(calls[i].fd, calls[i].gsi, calls[i].flags, calls[i].resample);

		if (result != calls[i].result)
			fprintf(stderr, "call %zu: errno %d, not %d\n", i, result, calls[i].result);
		CHECK(result == calls[i].result);
	}
	m.vm = ioctl(m.kvm, KVM_CREATE_VM, 0);
	CHECK(call(b, 5, 0, 0) == EINVAL && call(b, 5, DEASSIGN, 0) == 0);
	CHECK(ioctl(m.vm, KVM_ENABLE_CAP, &split) == 0);
	CHECK(call(b, 5, RESAMPLE, a) == EINVAL && call(b, 5, 0, 0) == 0 && call(b, 5, 0, 0) == EBUSY);
	close(m.vm);
	m.vm = whole;
	close(a);
	close(b);
	close(copy);
	close(file);
}

/* ---- messages -------------------------------------------------------------------------------------------- */

static void test_messages(void)
{
	int fd[ROUTES];
	pid_t child;

	for (unsigned i = 0; i < ROUTES; i++) {
		fd[i] = make_eventfd();
		CHECK(call(fd[i], GSI + i, 0, 0) == 0);
	}
	guest_begin();
	for (unsigned round = 1; round <= 3; round++)
		for (unsigned i = 0; i < ROUTES; i++) {
			signal_fd(fd[i]);
			CHECK(SOON(count(FIRST + i) == round));
		}
	CHECK(SOON(take(fd[0]) == 0)); /* an interrupt takes the count out */
	/* another process */
	child = fork();
	if (child == 0) {
		for (unsigned i = 0; i < ROUTES; i++)
			signal_fd(fd[i]);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	for (unsigned i = 0; i < ROUTES; i++)
		CHECK(SOON(count(FIRST + i) == 4));
	/* Later signals go where the line leads now. */
	route(7, 0xd0);
	signal_fd(fd[7]);
	CHECK(SOON(count(0xd0) == 1) && count(FIRST + 7) == 4);
	route(ROUTES, 0);
	signal_fd(fd[7]);
	CHECK(SOON(count(FIRST + 7) == 5) && count(0xd0) == 1);
	guest_end();
	for (unsigned i = 0; i < ROUTES; i++) {
		CHECK(call(fd[i], GSI + i, DEASSIGN, 0) == 0);
		close(fd[i]);
	}
}

static void test_assign(void)
{
	int fd = make_eventfd();
	uint32_t before = count(FIRST);

	guest_begin();
	/* what was signalled before */
	signal_fd(fd);
	CHECK(call(fd, GSI, 0, 0) == 0);
	CHECK(SOON(count(FIRST) == before + 1));
	/* What is signalled before deassign is not lost, after it nothing comes. */
	for (unsigned i = 0; i < 100; i++) {
		before = count(FIRST);
		signal_fd(fd);
		CHECK(call(fd, GSI, DEASSIGN, 0) == 0 && take(fd) == 0);
		CHECK(SOON(count(FIRST) == before + 1));
		if (i % 20 == 0) {
			signal_fd(fd);
			wait_a_while();
			CHECK(count(FIRST) == before + 1 && take(fd) == 1);
		}
		CHECK(call(fd, GSI, 0, 0) == 0);
	}
	/* The client closes its descriptor, and another eventfd gets the number. */
	before = count(FIRST);
	close(fd);
	fd = make_eventfd();
	signal_fd(fd);
	wait_a_while();
	CHECK(count(FIRST) == before && take(fd) == 1);
	CHECK(call(fd, GSI, 0, 0) == 0);
	signal_fd(fd);
	CHECK(SOON(count(FIRST) == before + 1));
	guest_end();
	close(fd);
}

/* ---- a line that stays high until its EOI ---------------------------------------------------------------- */

static void pin_set(bool masked)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	NEED(ioctl(m.vm, KVM_GET_IRQCHIP, &chip) == 0);
	chip.chip.ioapic.redirtbl[PIN].bits = PIN_VECTOR | 1u << 15 | (masked ? 1u << 16 : 0);
	NEED(ioctl(m.vm, KVM_SET_IRQCHIP, &chip) == 0);
}

static bool pin_is_high(void)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	NEED(ioctl(m.vm, KVM_GET_IRQCHIP, &chip) == 0);
	return chip.chip.ioapic.irr & 1u << PIN;
}

static void test_resample(void)
{
	int one = make_eventfd(), other = make_eventfd(), one_ended = make_eventfd(), other_ended = make_eventfd();
	uint32_t before;

	pin_set(false);
	CHECK(call(one, PIN, RESAMPLE, one_ended) == 0 && call(other, PIN, RESAMPLE, other_ended) == 0);
	before = count(PIN_VECTOR);
	guest_begin();
	signal_fd(one);
	/* The EOI lowers the line and tells both. */
	CHECK(SOON(take(one_ended) == 1) && SOON(take(other_ended) == 1));
	wait_a_while();
	CHECK(count(PIN_VECTOR) == before + 1 && !pin_is_high() && take(one_ended) == 0);
	/* A device that still wants attention signals again. */
	for (unsigned i = 0; i < 10; i++) {
		signal_fd(other);
		CHECK(SOON(take(one_ended) == 1) && SOON(take(other_ended) == 1));
	}
	CHECK(count(PIN_VECTOR) == before + 11);
	/* One of them goes. */
	CHECK(call(one, PIN, DEASSIGN, 0) == 0);
	signal_fd(other);
	CHECK(SOON(take(other_ended) == 1) && take(one_ended) == 0);
	guest_end();
	/* The last that goes lowers the line. */
	CHECK(call(one, PIN, RESAMPLE, one_ended) == 0);
	pin_set(true);
	signal_fd(one);
	CHECK(SOON(pin_is_high()));
	CHECK(call(one, PIN, DEASSIGN, 0) == 0 && pin_is_high());
	CHECK(call(other, PIN, DEASSIGN, 0) == 0 && !pin_is_high());
	close(one);
	close(other);
	close(one_ended);
	close(other_ended);
}

/* ---- beside signals, forks and each other ---------------------------------------------------------------- */

static pthread_t main_thread;
static atomic_uint alarms, alarms_elsewhere; /* of several threads */

static void on_alarm(int number)
{
	(void)number;
	alarms++;
	if (!pthread_equal(pthread_self(), main_thread) && !pthread_equal(pthread_self(), runner))
		alarms_elsewhere++;
}

/* The client's signals are handled by the client's threads. */
static void test_signals(void)
{
	const struct itimerval often = { { 0, 1000 }, { 0, 1000 } }, never = { { 0, 0 }, { 0, 0 } };
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	sigset_t blocked, before_block;
	int fd = make_eventfd();
	uint32_t before = count(FIRST);

	main_thread = pthread_self();
	CHECK(call(fd, GSI, 0, 0) == 0);
	guest_begin();
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	for (unsigned i = 0; i < 200; i++) {
		signal_fd(fd);
		CHECK(SOON(count(FIRST) == before + i + 1));
	}
	CHECK(SOON(alarms > 10) && alarms_elsewhere == 0);
	setitimer(ITIMER_REAL, &never, NULL);
	guest_end();
	/* One that all threads of the client block waits, though another thread is there. */
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &blocked, &before_block);
	alarms = 0;
	kill(getpid(), SIGALRM);
	wait_a_while();
	CHECK(alarms == 0);
	pthread_sigmask(SIG_SETMASK, &before_block, NULL);
	CHECK(alarms == 1);
	CHECK(call(fd, GSI, DEASSIGN, 0) == 0);
	close(fd);
}

/* The child of a fork has no irqfds, and can make some of its own. */
static int in_child(int fd)
{
	int own = make_eventfd();

	check_failures = 0;
	CHECK(call(fd, GSI, DEASSIGN, 0) == EIO);
	machine_free(&m, 1);
	make();
	CHECK(call(own, GSI, 0, 0) == 0);
	guest_begin();
	signal_fd(own);
	CHECK(SOON(count(FIRST) == 1));
	CHECK(call(fd, GSI, DEASSIGN, 0) == 0); /* the child's VM has none of that eventfd */
	guest_end();
	machine_free(&m, 1);
	return check_failures != 0;
}

static void test_fork(void)
{
	int fd = make_eventfd(), status = -1;
	uint32_t before = count(FIRST);
	pid_t child;

	CHECK(call(fd, GSI, 0, 0) == 0);
	for (unsigned i = 0; i < 3; i++) {
		child = fork();
		if (child == 0)
			_exit(in_child(fd));
		CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	guest_begin();
	signal_fd(fd);
	CHECK(SOON(count(FIRST) == before + 1));
	guest_end();
	CHECK(call(fd, GSI, DEASSIGN, 0) == 0);
	close(fd);
}

#define STORM 16u
static int storm_fd[STORM];
static bool storm_over;

static void *signaller(void *argument)
{
	unsigned next = (unsigned)(uintptr_t)argument;

	while (!__atomic_load_n(&storm_over, __ATOMIC_RELAXED)) {
		signal_fd(storm_fd[next % STORM]);
		next = next * 1103515245u + 12345u;
		if (next % 64 == 0)
			usleep(100);
	}
	return NULL;
}

/* Irqfds come and go, routes change and processes fork, while two threads signal them all. Nothing is lost. */
static void test_storm(void)
{
	pthread_t threads[2];

	for (unsigned i = 0; i < STORM; i++)
		storm_fd[i] = make_eventfd();
	guest_begin();
	for (unsigned i = 0; i < 2; i++)
		NEED(pthread_create(&threads[i], NULL, signaller, (void *)(uintptr_t)(i + 1)) == 0);
	for (unsigned round = 0; round < 60; round++) {
		for (unsigned i = 0; i < STORM; i++)
			CHECK(call(storm_fd[i], GSI + i, 0, 0) == 0);
		if (round % 10 == 0) {
			pid_t child = fork();

			if (child == 0)
				_exit(0);
			waitpid(child, NULL, 0);
		}
		route(round % STORM, 0xd0 + round % 16);
		usleep(200);
		for (unsigned i = 0; i < STORM; i++)
			CHECK(call(storm_fd[i], GSI + i, DEASSIGN, 0) == 0);
	}
	__atomic_store_n(&storm_over, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	route(ROUTES, 0);
	for (unsigned i = 0; i < STORM; i++) {
		uint32_t before = count(FIRST + i);

		take(storm_fd[i]);
		CHECK(call(storm_fd[i], GSI + i, 0, 0) == 0);
		signal_fd(storm_fd[i]);
		CHECK(SOON(count(FIRST + i) > before));
	}
	guest_end();
}

int main(void)
{
	make();
	test_errors();
	machine_free(&m, 1); /* with an irqfd in it */
	make();
	test_messages();
	test_assign();
	test_resample();
	test_signals();
	/* ThreadSanitizer's runtime cannot follow a fork beside other threads. */
	if (!under_runtime("__tsan_init"))
		test_fork();
	test_storm();
	machine_free(&m, 1);
	return check_end();
}

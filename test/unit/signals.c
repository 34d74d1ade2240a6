/* SPDX-License-Identifier: MIT */
/*
 * The library in an application that has its own signal handlers (vmmu/posix.h). Each test runs in a process of its
 * own, since handlers belong to the process.
 */
#include "test/unit/test.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmmu/vmmu.h>

#define BYTES (16 * VMMU_PAGE_SIZE)

static struct vmmu_vcpu *vcpu;
static struct vmmu_vm *vm;
static char *memory;

static void vm_make(int fd)
{
	const struct vmmu_config config = { .size = sizeof(config), .host = &vmmu_host_posix };
	struct vmmu_region region = { .bytes = BYTES };

	memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
	CHECK(memory != MAP_FAILED);
	region.hva.v = (uintptr_t)memory;
	CHECK(vmmu_vm_create(&config, &vm) == VMMU_OK && vmmu_vcpu_create(vm, 0, NULL, &vcpu) == VMMU_OK &&
	      vmmu_region_set(vm, &region) == VMMU_OK);
}

/* The addresses stay reserved: otherwise the library's next mapping might make them accessible. */
static void memory_goes(void)
{
	CHECK(mmap(memory, BYTES, PROT_NONE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == memory);
}

static enum vmmu_status touch(void)
{
	char bytes[8];

	return vmmu_guest_read(vcpu, (struct vmmu_gpa){ 0 }, bytes, sizeof(bytes));
}

static enum vmmu_fault fault(uint64_t error)
{
	struct vmmu_entry entry;

	CHECK(vmmu_vcpu_enter(vcpu, &entry) == VMMU_ENTER_RUN);
	vmmu_vcpu_leave(vcpu);
	return vmmu_fault(vcpu, (struct vmmu_gpa){ 0 }, error);
}

/* All ways in which the library may access memory that is gone: each must return an error. */
static void all_fail(void)
{
	char bytes[8] = { 0 };

	CHECK(touch() == VMMU_EFAULT);
	CHECK(vmmu_guest_write(vcpu, (struct vmmu_gpa){ 0 }, bytes, 8) == VMMU_EFAULT);
	CHECK(fault(0) == VMMU_FAULT_HOST);
	CHECK(fault(VMMU_PF_WRITE) == VMMU_FAULT_HOST);
}

static volatile sig_atomic_t calls;
static struct sigaction replaced;
static volatile char *cure; /* the page that the application's handler makes accessible */
static sigset_t mask_seen;

static void app_mends(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	calls++;
	pthread_sigmask(SIG_SETMASK, NULL, &mask_seen);
	if ((volatile char *)info->si_addr != cure)
		_exit(40);
	if (mprotect((void *)cure, VMMU_PAGE_SIZE, PROT_READ | PROT_WRITE))
		_exit(41);
}

/* As in libraries that share a signal: a fault that is not its own goes to the handler that it replaced. */
static void app_passes_on(int number, siginfo_t *info, void *context)
{
	if (++calls > 3)
		_exit(42); /* the two handlers call each other for ever */
	replaced.sa_sigaction(number, info, context);
}

static void app_owns(int number, siginfo_t *info, void *context)
{
	calls++;
	if (!vmmu_posix_signal(number, info, context))
		_exit(43);
}

static void app_install(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags };

	sigemptyset(&action.sa_mask);
	sigaddset(&action.sa_mask, SIGUSR1);
	CHECK(sigaction(number, &action, &replaced) == 0);
}

/* The application's own fault reaches the application's handler, with the signal mask that it asked for. */
static void own_fault_is_handed_on(void)
{
	calls = 0;
	cure = mmap(NULL, VMMU_PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(cure != MAP_FAILED);
	*cure = 1;
	CHECK(calls == 1 && *cure == 1);
	CHECK(sigismember(&mask_seen, SIGUSR1) == 1 && sigismember(&mask_seen, SIGSEGV) == 1);
}

static void later_handler_is_kept(void)
{
	vm_make(-1);
	CHECK(touch() == VMMU_OK);
	app_install(SIGSEGV, app_mends, 0); /* replaces the library's handler */
	memory_goes();
	all_fail();
	own_fault_is_handed_on();
	all_fail();
	app_install(SIGSEGV, app_mends, 0);
	own_fault_is_handed_on(); /* this time the kernel calls the application's handler directly */
	all_fail();
}

static void earlier_handler_is_kept(void)
{
	app_install(SIGSEGV, app_mends, 0);
	vm_make(-1);
	memory_goes();
	all_fail();
	own_fault_is_handed_on();
}

static void bus_error_is_an_answer(void)
{
	int fd = memfd_create("memory", 0);

	CHECK(fd >= 0 && ftruncate(fd, BYTES) == 0);
	vm_make(fd);
	CHECK(touch() == VMMU_OK);
	app_install(SIGBUS, app_mends, 0);
	CHECK(ftruncate(fd, 0) == 0);
	all_fail();
}

/*
 * The application's handler replaced the library's and hands on to it, and the library's hands on to the
 * application's.
 */
static void handler_that_passes_on_ends(void)
{
	vm_make(-1);
	CHECK(touch() == VMMU_OK);
	app_install(SIGSEGV, app_passes_on, 0);
	memory_goes();
	all_fail();
	*(volatile char *)memory = 1; /* no handler takes this fault: the default action */
}

static void handler_for_once_is_called_once(void)
{
	vm_make(-1);
	app_install(SIGSEGV, app_mends, (int)SA_RESETHAND);
	CHECK(touch() == VMMU_OK);
	own_fault_is_handed_on();
	memory_goes();
	all_fail();
	*(volatile char *)memory = 1;
}

static void sent_signal_kills(void)
{
	vm_make(-1);
	CHECK(touch() == VMMU_OK);
	kill(getpid(), SIGSEGV);
	_exit(44);
}

static void ignored_sent_signal_is_ignored(void)
{
	vm_make(-1);
	CHECK(signal(SIGSEGV, SIG_IGN) != SIG_ERR);
	CHECK(touch() == VMMU_OK);
	kill(getpid(), SIGSEGV);
	memory_goes();
	all_fail();
}

static void application_owns_the_signals(void)
{
	struct sigaction now;

	vmmu_posix_signals_own();
	app_install(SIGSEGV, app_owns, SA_NODEFER);
	vm_make(-1);
	CHECK(touch() == VMMU_OK);
	memory_goes();
	all_fail();
	CHECK(calls == 4);
	CHECK(sigaction(SIGSEGV, NULL, &now) == 0 && now.sa_sigaction == app_owns);
	CHECK(sigaction(SIGBUS, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
}

/* Run a test in a process. Returns: its exit status, or 128 and the signal that ended it. */
static int run(void (*body)(void))
{
	int status;
	pid_t child = fork();

	CHECK(child >= 0);
	if (!child) {
		signal(SIGSEGV, SIG_DFL); /* cmocka has set handlers */
		signal(SIGBUS, SIG_DFL);
		alarm(30);
		body();
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

#define TEST(body, end)                                    \
	static void test_signals_##body(void **state)      \
	{                                                  \
		(void)state;                               \
		assert_int_equal(run(body), end);          \
	}

TEST(later_handler_is_kept, 0)
TEST(earlier_handler_is_kept, 0)
TEST(bus_error_is_an_answer, 0)
TEST(handler_that_passes_on_ends, 128 + SIGSEGV)
TEST(handler_for_once_is_called_once, 128 + SIGSEGV)
TEST(sent_signal_kills, 128 + SIGSEGV)
TEST(ignored_sent_signal_is_ignored, 0)
TEST(application_owns_the_signals, 0)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signals_later_handler_is_kept),
		cmocka_unit_test(test_signals_earlier_handler_is_kept),
		cmocka_unit_test(test_signals_bus_error_is_an_answer),
		cmocka_unit_test(test_signals_handler_that_passes_on_ends),
		cmocka_unit_test(test_signals_handler_for_once_is_called_once),
		cmocka_unit_test(test_signals_sent_signal_kills),
		cmocka_unit_test(test_signals_ignored_sent_signal_is_ignored),
		cmocka_unit_test(test_signals_application_owns_the_signals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

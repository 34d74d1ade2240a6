/* SPDX-License-Identifier: MIT */
/* Closing in any order while vCPUs run; mapping a vCPU after close; two VMs; fork. */
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

/* inc word [0x3000]; jmp -6: runs until KVM_RUN is interrupted. */
static const uint8_t spin[] = { 0xff, 0x06, 0x00, 0x30, 0xeb, 0xfa };
/* in al, 0x10; jmp: exits each time. */
static const uint8_t port[] = { 0xe4, 0x10, 0xeb, 0xfc };

static void on_signal(int number)
{
	(void)number;
}

struct runner {
	int fd;
	struct kvm_run *run;
	int result, error;
	bool ended;
};

static void *run_once(void *argument)
{
	struct runner *r = argument;

	r->result = ioctl(r->fd, KVM_RUN, 0);
	r->error = errno;
	__atomic_store_n(&r->ended, true, __ATOMIC_SEQ_CST);
	return NULL;
}

static void stop(struct runner *r, pthread_t thread)
{
	r->run->immediate_exit = 1;
	for (int i = 0; i < 10000 && !__atomic_load_n(&r->ended, __ATOMIC_SEQ_CST); i++) {
		pthread_kill(thread, SIGUSR1);
		usleep(2000);
	}
	CHECK(r->ended);
	pthread_join(thread, NULL);
}

static bool counts(const uint8_t *memory)
{
	const volatile uint16_t *counter = (const volatile uint16_t *)(memory + 0x3000);
	uint16_t before = *counter;

	for (int i = 0; i < 20000; i++) {
		usleep(1000);
		if (*counter != before)
			return true;
	}
	return false;
}

/* Close /dev/kvm, the VM and the vCPU in every order while the vCPU runs. */
static void test_close_orders(void)
{
	static const int orders[6][3] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 },
	                                   { 2, 1, 0 } };

	for (int o = 0; o < 6; o++) {
		struct machine m;
		struct runner r = { 0 };
		pthread_t thread;

		machine_make(&m, 1, 16 * PAGE);
		memcpy(m.memory + 0x1000, spin, sizeof(spin));
		r.fd = m.vcpu[0];
		r.run = m.run[0];
		NEED(pthread_create(&thread, NULL, run_once, &r) == 0);
		CHECK(counts(m.memory));
		for (int i = 0; i < 3; i++)
			CHECK(close(orders[o][i] == 0 ? m.kvm : orders[o][i] == 1 ? m.vm : m.vcpu[0]) == 0);
		CHECK(counts(m.memory));
		stop(&r, thread);
		CHECK(r.result == -1 && r.error == EINTR);
		munmap(m.run[0], 3 * PAGE);
		munmap(m.memory, m.bytes);
	}
}

static void test_map_after_close(void)
{
	struct machine m;

	machine_make(&m, 1, 16 * PAGE);
	memcpy(m.memory + 0x1000, port, sizeof(port));
	CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == 0);
	CHECK(m.run[0]->exit_reason == KVM_EXIT_IO && m.run[0]->io.port == 0x10);
	close(m.vcpu[0]);
	CHECK(m.run[0]->exit_reason == KVM_EXIT_IO);
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, m.vcpu[0], 0) == MAP_FAILED && errno == EBADF);
	munmap(m.run[0], 3 * PAGE);
	close(m.vm);
	close(m.kvm);
	munmap(m.memory, m.bytes);
}

static void test_two_vms(void)
{
	struct machine a, b;

	machine_make(&a, 1, 16 * PAGE);
	machine_make(&b, 1, 16 * PAGE);
	memcpy(a.memory + 0x1000, port, sizeof(port));
	memcpy(b.memory + 0x1000, port, sizeof(port));
	b.memory[0x1001] = 0x20;
	for (int i = 0; i < 100; i++) {
		CHECK(ioctl(a.vcpu[0], KVM_RUN, 0) == 0 && a.run[0]->io.port == 0x10);
		CHECK(ioctl(b.vcpu[0], KVM_RUN, 0) == 0 && b.run[0]->io.port == 0x20);
	}
	machine_free(&a, 1);
	CHECK(ioctl(b.vcpu[0], KVM_RUN, 0) == 0 && b.run[0]->io.port == 0x20);
	machine_free(&b, 1);
}

/*
 * The VM belongs to the parent: its calls fail with EIO in the child. The child can make a VM of its own, and the
 * parent's works on.
 */
static void test_fork(void)
{
	struct machine m;
	struct kvm_regs regs;
	int status = -1;
	pid_t child;

	machine_make(&m, 1, 16 * PAGE);
	memcpy(m.memory + 0x1000, port, sizeof(port));
	child = fork();
	if (child == 0) {
		struct machine own;
		bool good;

		good = ioctl(m.vcpu[0], KVM_GET_REGS, &regs) == -1 && errno == EIO;
		good &= ioctl(m.vm, KVM_CREATE_VCPU, 3ul) == -1 && errno == EIO;
		good &= close(m.vcpu[0]) == 0 && close(m.vm) == 0;
		machine_make(&own, 1, 16 * PAGE);
		memcpy(own.memory + 0x1000, port, sizeof(port));
		good &= ioctl(own.vcpu[0], KVM_RUN, 0) == 0;
		machine_free(&own, 1);
		_exit(good ? 0 : 1);
	}
	NEED(child > 0 && waitpid(child, &status, 0) == child);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == 0 && m.run[0]->exit_reason == KVM_EXIT_IO);
	machine_free(&m, 1);
}

static void *run_cancellable(void *argument)
{
	int old;

	/* As KVM's own selftests do: a cancelled thread leaves a real KVM_RUN at once. */
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
	for (;;)
		ioctl(((struct machine *)argument)->vcpu[0], KVM_RUN, 0);
	return NULL;
}

static void test_cancel(void)
{
	for (int i = 0; i < 20; i++) {
		struct machine m;
		struct kvm_regs regs;
		pthread_t thread;
		void *result;

		machine_make(&m, 1, 16 * PAGE);
		memcpy(m.memory + 0x1000, i % 2 ? spin : port, i % 2 ? sizeof(spin) : sizeof(port));
		NEED(pthread_create(&thread, NULL, run_cancellable, &m) == 0);
		if (i % 4 == 1)
			CHECK(counts(m.memory));
		CHECK(pthread_cancel(thread) == 0);
		CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
		/* The cancelled thread held no lock. */
		CHECK(ioctl(m.vcpu[0], KVM_GET_REGS, &regs) == 0);
		machine_free(&m, 1);
	}
}

/* A thread holds locks for a few instructions as it enters and leaves KVM_RUN. Cancelled there, it must let them go. */
static void test_cancel_at_any_moment(void)
{
	alarm(120); /* ends a test that waits for such a lock */
	for (unsigned i = 0; i < 500; i++) {
		const uint8_t *code = i % 4 == 3 ? spin : port;
		struct machine m;
		struct kvm_regs regs;
		pthread_t thread;
		void *result;

		machine_make(&m, 1, 16 * PAGE);
		memcpy(m.memory + 0x1000, code, code == spin ? sizeof(spin) : sizeof(port));
		NEED(pthread_create(&thread, NULL, run_cancellable, &m) == 0);
		usleep(i * 37 % 300);
		CHECK(pthread_cancel(thread) == 0);
		CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
		CHECK(ioctl(m.vcpu[0], KVM_GET_REGS, &regs) == 0);
		machine_free(&m, 1);
	}
	alarm(0);
}

int main(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGUSR1, &action, NULL);
	test_close_orders();
	test_map_after_close();
	test_two_vms();
	if (!under_runtime("__tsan_init")) {
		test_fork();
		test_cancel();
		test_cancel_at_any_moment();
	}
	return check_end();
}

/* SPDX-License-Identifier: MIT */
/*
 * vCPUs write their own code and each other's all the time, in one page, while a thread tells each vCPU in turn to
 * leave the guest. Every KVM_RUN must return, and every vCPU must go on after it. If a vCPU is stuck, the test hangs.
 */
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#define VCPUS  4u
#define ROUNDS 100u
#define LOOP     0x1000u /* the code that writes other code */
#define CALLED   0x2000u /* the code that is written: `mov al, n; ret` for each vCPU, 64 bytes apart */
#define COUNTERS 0x3000u

/* again: inc word [di]; inc cx; mov [bx+1], cl; call bx; mov [si+1], cl; call si; jmp again */
static const uint8_t writer[] = {
	0xff, 0x05, 0x41, 0x88, 0x4f, 0x01, 0xff, 0xd3, 0x88, 0x4c, 0x01, 0xff, 0xd6, 0xeb, 0xf1
};

static struct machine m;
static pthread_t threads[VCPUS];
static atomic_uint returned[VCPUS];
static atomic_bool stop;
static __thread unsigned self;

static void on_usr1(int number)
{
	(void)number;
	m.run[self]->immediate_exit = 1; /* so that a signal that comes just before KVM_RUN ends it, too */
}

static void *run(void *argument)
{
	self = (unsigned)(uintptr_t)argument;
	while (!atomic_load(&stop)) {
		NEED(ioctl(m.vcpu[self], KVM_RUN, 0) == -1 && errno == EINTR);
		m.run[self]->immediate_exit = 0;
		atomic_fetch_add(&returned[self], 1);
	}
	return NULL;
}

static void vcpu_start(unsigned i)
{
	struct kvm_regs regs = {
		.rip = LOOP, .rflags = 2, .rsp = 0x6000 + 0x400 * i, .rbx = CALLED + 64 * i,
		.rsi = CALLED + 64 * ((i + 1) % VCPUS), .rdi = COUNTERS + 64 * i,
	};

	memcpy(m.memory + CALLED + 64 * i, "\xb0\x00\xc3", 3);
	NEED(ioctl(m.vcpu[i], KVM_SET_REGS, &regs) == 0);
}

static uint16_t counter(unsigned i)
{
	return *(volatile uint16_t *)(m.memory + COUNTERS + 64 * i);
}

/* Tell a vCPU to leave the guest. Wait until it has left, and until it has counted again. */
static void tell(unsigned i)
{
	unsigned before = atomic_load(&returned[i]);
	uint16_t count = counter(i);

	NEED(pthread_kill(threads[i], SIGUSR1) == 0);
	while (atomic_load(&returned[i]) == before)
		usleep(100);
	while (!atomic_load(&stop) && counter(i) == count)
		usleep(100);
}

int main(void)
{
	struct sigaction action = { .sa_handler = on_usr1 };

	NEED(sigaction(SIGUSR1, &action, NULL) == 0);
	machine_make(&m, VCPUS, 16 * PAGE);
	memcpy(m.memory + LOOP, writer, sizeof(writer));
	for (unsigned i = 0; i < VCPUS; i++)
		vcpu_start(i);
	for (unsigned i = 0; i < VCPUS; i++)
		NEED(pthread_create(&threads[i], NULL, run, (void *)(uintptr_t)i) == 0);
	for (unsigned i = 0; i < VCPUS; i++) {
		while (counter(i) == 0)
			usleep(100); /* the vCPU has not run yet */
	}
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < VCPUS; i++)
			tell(i);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < VCPUS; i++) {
		tell(i);
		pthread_join(threads[i], NULL);
		CHECK(atomic_load(&returned[i]) > ROUNDS);
	}
	machine_free(&m, VCPUS);
	return check_end();
}

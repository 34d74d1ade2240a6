/* SPDX-License-Identifier: MIT */
/*
 * Interrupts: from vCPU to vCPU, from an eventfd to the guest's handler, and how late the local APIC's timer is. Where
 * one side waits in HLT, the pauses between the events are longer than a KVM polls before it really sleeps.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bench/bench.h"

#define VECTOR       0x41
#define TIMER_VECTOR 0x42
#define GSI          24u
#define ANSWER_PORT  0x12

/* Each vCPU's counter is in a page of its own, so that no cache line is shared. */
static volatile uint64_t *counter(struct machine *m, int vcpu)
{
	return (volatile uint64_t *)(m->data + (size_t)vcpu * PAGE);
}

static void irq_machine(struct machine *m, int vcpus)
{
	machine_init(m, vcpus, MIB, DATA_PRESENT | DATA_SMALL | DATA_IRQCHIP);
	machine_handler(m, VECTOR, guest_handler);
	machine_handler(m, TIMER_VECTOR, guest_timer_handler);
	for (int v = 0; v < vcpus; v++) {
		struct call on = { .routine = guest_apic_on, .rdi = v ? 0xfee00c00 : 0xfee00d00 };

		machine_call(m, v, &on);
	}
}

static double ipi(struct machine *m, const uint8_t *ping, const uint8_t *pong, uint64_t turns)
{
	double best = 1e18;

	for (int i = 0; i < RUNS; i++) {
		struct call calls[2] = {
			{ .routine = ping, .rdi = DATA_GPA, .rsi = turns, .r8 = 1 },
			{ .routine = pong, .rdi = DATA_GPA + PAGE, .rsi = turns, .r8 = 0 },
		};
		uint64_t cpu;

		*counter(m, 0) = *counter(m, 1) = 0;
		best = least(best, (double)machine_call_all(m, calls, &cpu) / 1000 / (double)turns);
	}
	return best;
}

/* ---- irqfd ----------------------------------------------------------------------------------------------- */

static int ioeventfd_make(struct machine *m)
{
	int fd = eventfd(0, EFD_CLOEXEC);
	struct kvm_ioeventfd ioeventfd = { .addr = ANSWER_PORT, .len = 1, .fd = fd, .flags = KVM_IOEVENTFD_FLAG_PIO };

	if (fd < 0 || ioctl(m->vm, KVM_IOEVENTFD, &ioeventfd))
		die("KVM_IOEVENTFD");
	return fd;
}

static int irqfd_make(struct machine *m)
{
	struct kvm_irq_routing *routes = calloc(1, sizeof(*routes) + sizeof(routes->entries[0]));
	struct kvm_irqfd irqfd = { .gsi = GSI };
	int fd = eventfd(0, EFD_CLOEXEC);

	if (!routes)
		die("memory");
	routes->nr = 1;
	routes->entries[0].gsi = GSI;
	routes->entries[0].type = KVM_IRQ_ROUTING_MSI;
	routes->entries[0].u.msi.address_lo = 0xfee00000;
	routes->entries[0].u.msi.data = VECTOR;
	irqfd.fd = (uint32_t)fd;
	if (fd < 0 || ioctl(m->vm, KVM_SET_GSI_ROUTING, routes) || ioctl(m->vm, KVM_IRQFD, &irqfd))
		die("KVM_IRQFD");
	free(routes);
	return fd;
}

struct listener {
	struct machine *m;
	struct call call;
};

static void *listen(void *argument)
{
	struct listener *l = argument;

	machine_call(l->m, 0, &l->call);
	return NULL;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t median(uint64_t *values, size_t count)
{
	qsort(values, count, sizeof(*values), by_value);
	return values[count / 2];
}

/*
 * From the write to the eventfd until the answer of the handler has woken the client, in us: the median of `count`,
 * with a pause between. The answer is an ioeventfd's, so that the client sleeps meanwhile, as a VMM does.
 */
static double irqfd(struct machine *m, int fd, int answer, const uint8_t *routine, unsigned count, unsigned pause_us)
{
	struct listener l = { m, { .routine = routine, .rdi = DATA_GPA, .rsi = count } };
	uint64_t *taken = calloc(count, sizeof(*taken)), value = 1, result;
	pthread_t thread;

	if (!taken)
		die("memory");
	*counter(m, 0) = 0;
	if (pthread_create(&thread, NULL, listen, &l))
		die("thread");
	usleep(10000);
	for (unsigned i = 0; i < count; i++) {
		uint64_t begin;

		usleep(pause_us);
		begin = now();
		value = 1;
		if (write(fd, &value, sizeof(value)) != sizeof(value) ||
		    read(answer, &value, sizeof(value)) != sizeof(value))
			die("eventfd");
		taken[i] = now() - begin;
	}
	pthread_join(thread, NULL);
	result = median(taken, count);
	free(taken);
	return (double)result / 1000;
}

/* ---- the timer ------------------------------------------------------------------------------------------- */

/* How long after its deadline the handler begins, in us: the median. */
static double late(struct machine *m, const uint8_t *routine, unsigned count, unsigned after_us)
{
	uint64_t khz = (uint64_t)ioctl(m->vcpu[0], KVM_GET_TSC_KHZ, 0L);
	struct call call = { .routine = routine, .rdi = DATA_GPA + 16 * PAGE, .rsi = count, .r8 = DATA_GPA,
		             .rdx = khz * after_us / 1000 };

	machine_call(m, 0, &call);
	return (double)median((uint64_t *)(void *)(m->data + 16 * PAGE), count) * 1000 / (double)khz;
}

void bench_irq(void)
{
	struct machine m;
	int fd, answer;

	irq_machine(&m, 2);
	line("IPI to a halted vCPU and back", ipi(&m, guest_ping, guest_pong, 1000), "us");
	line("IPI to a running vCPU and back", ipi(&m, guest_ping_spin, guest_pong_spin, 300), "us");
	machine_fini(&m);
	irq_machine(&m, 1);
	machine_handler(&m, VECTOR, guest_answer_handler);
	fd = irqfd_make(&m);
	answer = ioeventfd_make(&m);
	line("irqfd to handler and ioeventfd, halted", irqfd(&m, fd, answer, guest_listen, 300, 1000), "us");
	line("irqfd to handler and ioeventfd, running", irqfd(&m, fd, answer, guest_listen_spin, 300, 200), "us");
	line("timer lateness, vCPU halted", late(&m, guest_late, 300, 1000), "us");
	line("timer lateness, vCPU running", late(&m, guest_late_spin, 300, 1000), "us");
	close(fd);
	close(answer);
	machine_fini(&m);
}

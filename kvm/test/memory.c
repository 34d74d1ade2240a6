/* SPDX-License-Identifier: MIT */
/*
 * The client's memory calls while a vCPU runs. Once a call has returned, the guest sees the memory that is there now,
 * or KVM_RUN fails with EFAULT.
 */
#include "check.h"
#include <linux/falloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

/*
 * Real mode, at 0x1000: read the word at ds:0 (ds is 0x400, so this is guest address 0x4000), write it to port 0x11,
 * repeat.
 *     mov ax, [0]; out 0x11, ax; jmp
 */
static const uint8_t reader[] = { 0xa1, 0x00, 0x00, 0xe7, 0x11, 0xeb, 0xf9 };
/* inc word [0]; jmp: never exits. */
static const uint8_t writer[] = { 0xff, 0x06, 0x00, 0x00, 0xeb, 0xfa };

#define WINDOW 0x4000u /* the guest address of the memory that the client changes */

struct window {
	struct machine m;
	uint8_t *memory; /* backs WINDOW */
};

static void window_make(struct window *w, const uint8_t *code, size_t bytes, void *memory)
{
	struct kvm_sregs sregs;

	machine_make(&w->m, 1, 4 * PAGE);
	memcpy(w->m.memory + 0x1000, code, bytes);
	w->memory = memory;
	NEED(machine_slot(w->m.vm, 1, 0, WINDOW, 4 * PAGE, memory) == 0);
	NEED(ioctl(w->m.vcpu[0], KVM_GET_SREGS, &sregs) == 0);
	sregs.ds.base = WINDOW;
	sregs.ds.selector = WINDOW >> 4;
	NEED(ioctl(w->m.vcpu[0], KVM_SET_SREGS, &sregs) == 0);
}

static void window_free(struct window *w)
{
	machine_free(&w->m, 1);
}

static void *fresh(int flags, int fd)
{
	void *memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);

	NEED(memory != MAP_FAILED);
	return memory;
}

/* Returns: what the guest reads now, -1 when KVM_RUN fails with EFAULT, -2 for anything else. */
static int guest_reads(struct window *w)
{
	if (ioctl(w->m.vcpu[0], KVM_RUN, 0) == 0 && w->m.run[0]->exit_reason == KVM_EXIT_IO)
		return *(uint16_t *)((char *)w->m.run[0] + w->m.run[0]->io.data_offset);
	return errno == EFAULT ? -1 : -2;
}

static void test_discard(void)
{
	struct window w;
	uint8_t *memory = fresh(MAP_PRIVATE | MAP_ANONYMOUS, -1);

	window_make(&w, reader, sizeof(reader), memory);
	memory[0] = 7;
	CHECK(guest_reads(&w) == 7);
	CHECK(madvise(memory, PAGE, MADV_DONTNEED) == 0);
	CHECK(guest_reads(&w) == 0);
	memory[0] = 8;
	CHECK(guest_reads(&w) == 8);
	window_free(&w);
	munmap(memory, 4 * PAGE);
}

static void test_unmap(void)
{
	struct window w;
	uint8_t *memory = fresh(MAP_PRIVATE | MAP_ANONYMOUS, -1);

	window_make(&w, reader, sizeof(reader), memory);
	memory[0] = 7;
	CHECK(guest_reads(&w) == 7);
	CHECK(munmap(memory, 4 * PAGE) == 0);
	CHECK(guest_reads(&w) == -1);
	CHECK(guest_reads(&w) == -1);
	/* When other memory is mapped at the same address, the guest sees that. */
	CHECK(mmap(memory, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == memory);
	memory[0] = 9;
	CHECK(guest_reads(&w) == 9);
	CHECK(mmap(memory, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == memory);
	CHECK(guest_reads(&w) == 0);
	window_free(&w);
	munmap(memory, 4 * PAGE);
}

static void test_move(void)
{
	struct window w;
	uint8_t *memory = fresh(MAP_PRIVATE | MAP_ANONYMOUS, -1), *moved, *place;

	window_make(&w, reader, sizeof(reader), memory);
	memory[0] = 7;
	CHECK(guest_reads(&w) == 7);
	place = fresh(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	place[0] = 55;
	moved = mremap(memory, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
	CHECK(moved == place && moved[0] == 7);
	CHECK(guest_reads(&w) == -1);
	window_free(&w);
	munmap(moved, 4 * PAGE);
}

static void test_protect(void)
{
	struct window w;
	uint8_t *memory = fresh(MAP_PRIVATE | MAP_ANONYMOUS, -1);

	window_make(&w, reader, sizeof(reader), memory);
	memory[0] = 7;
	CHECK(guest_reads(&w) == 7);
	CHECK(mprotect(memory, 4 * PAGE, PROT_NONE) == 0);
	CHECK(guest_reads(&w) == -1);
	CHECK(mprotect(memory, 4 * PAGE, PROT_READ) == 0);
	CHECK(guest_reads(&w) == 7);
	window_free(&w);
	munmap(memory, 4 * PAGE);
}

static void test_file(void)
{
	struct window w;
	int fd = memfd_create("window", MFD_CLOEXEC);
	uint8_t *memory;

	NEED(fd >= 0 && ftruncate(fd, 4 * PAGE) == 0);
	memory = fresh(MAP_SHARED, fd);
	window_make(&w, reader, sizeof(reader), memory);
	memory[0] = 7;
	CHECK(guest_reads(&w) == 7);
	CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE) == 0);
	CHECK(guest_reads(&w) == 0);
	memory[0] = 8;
	CHECK(guest_reads(&w) == 8);
	CHECK(madvise(memory, PAGE, MADV_REMOVE) == 0);
	CHECK(guest_reads(&w) == 0);
	CHECK(ftruncate(fd, 0) == 0);
	CHECK(guest_reads(&w) == -1);
	CHECK(ftruncate(fd, 4 * PAGE) == 0);
	CHECK(guest_reads(&w) == 0);
	window_free(&w);
	munmap(memory, 4 * PAGE);
	close(fd);
}

/* ---- with the vCPU in the guest ------------------------------------------------------------------ */

static _Atomic bool running, ended;
static int last_error;

static void on_signal(int number)
{
	(void)number;
}

static void *run(void *argument)
{
	struct window *w = argument;

	last_error = 0;
	running = true;
	while (ioctl(w->m.vcpu[0], KVM_RUN, 0) == 0)
		;
	last_error = errno;
	ended = true;
	return NULL;
}

static void begin(struct window *w, pthread_t *thread)
{
	running = ended = false;
	w->m.run[0]->immediate_exit = 0;
	NEED(pthread_create(thread, NULL, run, w) == 0);
	while (!running)
		sched_yield();
}

static void finish(struct window *w, pthread_t thread)
{
	w->m.run[0]->immediate_exit = 1;
	for (int i = 0; i < 20000 && !ended; i++) {
		pthread_kill(thread, SIGUSR1);
		usleep(1000);
	}
	CHECK(ended);
	pthread_join(thread, NULL);
	w->m.run[0]->immediate_exit = 0;
}

/* Wait until the guest's counter is not 0. It wraps to 0 every 65536 times, so look more than once. */
static void wait_nonzero(const volatile uint16_t *word)
{
	bool seen = *word;

	for (int i = 0; i < 100000 && !seen; i++) {
		usleep(200);
		seen = *word;
	}
	CHECK(seen);
}

/* A page goes away and comes back while the guest writes to it all the time. */
static void test_discard_running(void)
{
	struct window w;
	uint8_t *memory = fresh(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	pthread_t thread;

	window_make(&w, writer, sizeof(writer), memory);
	begin(&w, &thread);
	for (int i = 0; i < 200; i++) {
		wait_nonzero((uint16_t *)memory);
		CHECK(madvise(memory, PAGE, MADV_DONTNEED) == 0);
	}
	finish(&w, thread);
	CHECK(last_error == EINTR);
	window_free(&w);
	munmap(memory, 4 * PAGE);
}

/* The guest writes nothing more once mprotect has returned. */
static void test_protect_running(void)
{
	struct window w;
	uint8_t *memory = fresh(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	pthread_t thread;

	window_make(&w, writer, sizeof(writer), memory);
	for (int i = 0; i < 20; i++) {
		uint16_t before;

		CHECK(mprotect(memory, PAGE, PROT_READ | PROT_WRITE) == 0);
		*(uint16_t *)memory = 0;
		begin(&w, &thread);
		wait_nonzero((uint16_t *)memory);
		CHECK(mprotect(memory, PAGE, PROT_READ) == 0);
		before = *(volatile uint16_t *)memory;
		usleep(2000);
		CHECK(*(volatile uint16_t *)memory == before);
		finish(&w, thread);
		CHECK(last_error == EFAULT || last_error == EINTR);
	}
	window_free(&w);
	munmap(memory, 4 * PAGE);
}

static void test_unmap_running(void)
{
	struct window w;
	uint8_t *memory = fresh(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	pthread_t thread;

	window_make(&w, writer, sizeof(writer), memory);
	begin(&w, &thread);
	wait_nonzero((uint16_t *)memory);
	CHECK(munmap(memory, 4 * PAGE) == 0);
	for (int i = 0; i < 20000 && !ended; i++)
		usleep(1000);
	CHECK(ended);
	CHECK(last_error == EFAULT);
	pthread_join(thread, NULL);
	window_free(&w);
}

/* KVM_PRE_FAULT_MEMORY of Linux 6.11, which older headers do not have. */
struct pre_fault {
	uint64_t gpa, size, flags, padding[5];
};
#define PRE_FAULT     _IOWR(KVMIO, 0xd5, struct pre_fault)
#define CAP_PRE_FAULT 236

/*
 * KVM_PRE_FAULT_MEMORY maps memory ahead of a fault and takes the part that it has mapped off the request. Where the
 * capability says that it does not exist, it is refused.
 */
static void test_prefault(void)
{
	uint8_t *memory = fresh(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	struct pre_fault range = { .gpa = WINDOW, .size = 2 * PAGE };
	struct window w;

	window_make(&w, reader, sizeof(reader), memory);
	if (ioctl(w.m.vm, KVM_CHECK_EXTENSION, CAP_PRE_FAULT) > 0) {
		CHECK(ioctl(w.m.vcpu[0], PRE_FAULT, &range) == 0 && range.gpa == WINDOW + 2 * PAGE && range.size == 0);
		range = (struct pre_fault){ .gpa = WINDOW + 1, .size = PAGE };
		CHECK(ioctl(w.m.vcpu[0], PRE_FAULT, &range) == -1 && errno == EINVAL);
		range = (struct pre_fault){ .gpa = 1ull << 40, .size = PAGE };
		CHECK(ioctl(w.m.vcpu[0], PRE_FAULT, &range) == -1 && errno == ENOENT && range.size == PAGE);
	} else {
		CHECK(ioctl(w.m.vcpu[0], PRE_FAULT, &range) == -1 && (errno == EOPNOTSUPP || errno == ENOTTY) &&
		      range.size == 2 * PAGE);
	}
	*(uint16_t *)memory = 0x1234;
	CHECK(guest_reads(&w) == 0x1234);
	window_free(&w);
	munmap(memory, 4 * PAGE);
}

int main(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGUSR1, &action, NULL);
	test_prefault();
	test_discard();
	test_unmap();
	test_move();
	test_protect();
	test_file();
	test_discard_running();
	test_protect_running();
	test_unmap_running();
	return check_end();
}

/* SPDX-License-Identifier: MIT */
/* KVM_IOEVENTFD: what it refuses, which of many a write finds, and what a removal promises beside writes. */
#include "check.h"
#include <pthread.h>
#include <sys/eventfd.h>

#define DEVICE 0x90000u /* the guest's data segment begins here */
#define MANY   300u

#define PIO      KVM_IOEVENTFD_FLAG_PIO
#define MATCH    KVM_IOEVENTFD_FLAG_DATAMATCH
#define DEASSIGN KVM_IOEVENTFD_FLAG_DEASSIGN
#define CCW      KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY

static struct machine m;

static int call(uint64_t address, uint32_t len, int fd, uint32_t flags, uint64_t data)
{
	struct kvm_ioeventfd in = { .addr = address, .len = len, .fd = fd, .flags = flags, .datamatch = data };

	return ioctl(m.vm, KVM_IOEVENTFD, &in) == 0 ? 0 : errno;
}

static uint64_t take(int fd)
{
	uint64_t count = 0;

	return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static void test_errors(void)
{
	int a = eventfd(0, EFD_NONBLOCK), b = eventfd(0, EFD_NONBLOCK);
	int closed = dup(a), file = open("/dev/null", O_RDWR);
	const struct {
		uint64_t address;
		uint32_t len;
		int fd;
		uint32_t flags;
		uint64_t data;
		int result;
	} calls[] = {
		{ 0x100, 3, a, 0, 0, EINVAL },
		{ 0x100, 16, a, 0, 0, EINVAL },
		{ 0x100, 4, a, 1u << 5, 0, EINVAL },
		{ 0x100, 0, a, MATCH, 0, EINVAL },
		{ UINT64_MAX, 1, a, 0, 0, EINVAL },
		{ UINT64_MAX - 1, 1, a, 0, 0, 0 },
		{ 0x100, 4, closed, 0, 0, EBADF },
		{ 0x100, 3, closed, 0, 0, EINVAL },
		{ 0x100, 4, file, 0, 0, EINVAL },
		{ 0x100, 4, m.vm, 0, 0, EINVAL },
		/* A removal checks the descriptor, and then only looks for what is there. */
		{ 0x100, 3, a, DEASSIGN, 0, ENOENT },
		{ 0x100, 3, a, DEASSIGN | 1u << 5, 0, ENOENT },
		{ 0x100, 4, closed, DEASSIGN, 0, EBADF },
		{ 0x100, 4, file, DEASSIGN, 0, EINVAL },
		/* What overlaps. The bus of another architecture is one of its own. */
		{ 0x100, 4, a, CCW, 0, 0 },
		{ 0x100, 4, a, CCW | MATCH, 5, EEXIST },
		{ 0x100, 4, a, 0, 0, 0 },
		{ 0x100, 4, a, CCW | DEASSIGN, 0, 0 },
		{ 0x100, 4, a, CCW | DEASSIGN, 0, ENOENT },
		{ 0x100, 4, a, PIO, 0, 0 },
		{ 0x100, 0, b, 0, 0, EEXIST },
		{ 0x100, 2, b, 0, 0, 0 },
		{ 0x200, 4, a, MATCH, 1, 0 },
		{ 0x200, 4, a, MATCH, 2, 0 },
		{ 0x200, 4, b, MATCH, 2, EEXIST },
		{ 0x200, 4, b, 0, 0, EEXIST },
		{ 0x200, 0, b, 0, 0, EEXIST },
		/* All that it was added with must be said. */
		{ 0x200, 4, a, DEASSIGN, 1, ENOENT },
		{ 0x200, 4, b, DEASSIGN | MATCH, 1, ENOENT },
		{ 0x200, 2, a, DEASSIGN | MATCH, 1, ENOENT },
		{ 0x200, 4, a, DEASSIGN | MATCH, 3, ENOENT },
		{ 0x200, 4, a, DEASSIGN | MATCH | PIO, 1, ENOENT },
		{ 0x200, 4, a, DEASSIGN | MATCH, 1, 0 },
		{ 0x200, 4, a, DEASSIGN | MATCH, 1, ENOENT },
		{ 0x100, 4, a, DEASSIGN, 77, 0 },
		/* Another descriptor of the same eventfd will do. */
		{ 0x300, 4, a, 0, 0, 0 },
		{ 0x300, 4, dup(a), DEASSIGN, 0, 0 },
	};

	close(closed);
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		int result = call(calls[i].address, calls[i].len, calls[i].fd, calls[i].flags, calls[i].data);

		if (result != calls[i].result)
			fprintf(stderr, "call %zu: errno %d, not %d\n", i, result, calls[i].result);
		CHECK(result == calls[i].result);
	}
	CHECK(ioctl(m.vm, KVM_IOEVENTFD, 8) == -1 && errno == EFAULT);
	close(a);
	close(b);
	close(file);
}

/* The guest's program. DS is the segment of DEVICE. */
static void load(const uint8_t *code, size_t bytes)
{
	struct kvm_sregs sregs;

	memcpy(m.memory + 0x1000, code, bytes);
	machine_start(&m, 0, 0x1000);
	NEED(ioctl(m.vcpu[0], KVM_GET_SREGS, &sregs) == 0);
	sregs.ds.base = DEVICE;
	sregs.ds.selector = DEVICE >> 4;
	NEED(ioctl(m.vcpu[0], KVM_SET_SREGS, &sregs) == 0);
}

static unsigned run(void)
{
	NEED(ioctl(m.vcpu[0], KVM_RUN, 0) == 0);
	return m.run[0]->exit_reason;
}

/* mov [bx], ax; add bx, 4; cmp bx, MANY * 4; jne; hlt */
static const uint8_t write_all[] = { 0x31, 0xdb, 0x89, 0x07, 0x83, 0xc3, 0x04, 0x81, 0xfb, MANY * 4 & 0xff,
	MANY * 4 >> 8, 0x75, 0xf5, 0xf4 };

static void test_many(void)
{
	int fd[MANY];

	for (unsigned i = 0; i < MANY; i++) {
		fd[i] = eventfd(0, EFD_NONBLOCK);
		NEED(fd[i] >= 0);
		CHECK(call(DEVICE + i * 4, i % 3 ? 2 : 0, fd[i], 0, 0) == 0);
	}
	load(write_all, sizeof(write_all));
	CHECK(run() == KVM_EXIT_HLT);
	for (unsigned i = 0; i < MANY; i++)
		CHECK(take(fd[i]) == 1);
	/* Every other one goes: its write exits, and no other's. */
	for (unsigned i = 0; i < MANY; i += 2)
		CHECK(call(DEVICE + i * 4, i % 3 ? 2 : 0, fd[i], DEASSIGN, 0) == 0);
	load(write_all, sizeof(write_all));
	for (unsigned i = 0; i < MANY; i += 2)
		CHECK(run() == KVM_EXIT_MMIO && m.run[0]->mmio.phys_addr == DEVICE + i * 4);
	CHECK(run() == KVM_EXIT_HLT);
	for (unsigned i = 0; i < MANY; i++) {
		CHECK(take(fd[i]) == i % 2);
		if (i % 2)
			CHECK(call(DEVICE + i * 4, i % 3 ? 2 : 0, fd[i], DEASSIGN, 0) == 0);
		close(fd[i]);
	}
}

static void test_match(void)
{
	/* mov al, 5; mov [0], al; mov [0], ax; mov ax, 0x105; mov [0], al; mov [0], ax; mov al, [0]; hlt */
	static const uint8_t code[] = { 0xb8, 0x05, 0x00, 0xa2, 0, 0, 0xa3, 0, 0, 0xb8, 0x05, 0x01, 0xa2, 0, 0, 0xa3, 0,
		0, 0xa0, 0, 0, 0xf4 };
	int byte = eventfd(0, EFD_NONBLOCK), word = eventfd(0, EFD_NONBLOCK), high = eventfd(0, EFD_NONBLOCK);

	CHECK(call(DEVICE, 1, byte, MATCH, 5) == 0);
	CHECK(call(DEVICE, 2, word, MATCH, 0x105) == 0);
	CHECK(call(DEVICE, 1, high, MATCH, 0x105) == 0); /* never matches: KVM compares all 64 bits */
	load(code, sizeof(code));
	CHECK(run() == KVM_EXIT_MMIO && m.run[0]->mmio.is_write && m.run[0]->mmio.len == 2); /* 0x0005 */
	CHECK(run() == KVM_EXIT_MMIO && !m.run[0]->mmio.is_write); /* a read is nobody's */
	CHECK(run() == KVM_EXIT_HLT);
	CHECK(take(byte) == 2 && take(word) == 1 && take(high) == 0);
	CHECK(call(DEVICE, 1, byte, MATCH | DEASSIGN, 5) == 0);
	CHECK(call(DEVICE, 2, word, MATCH | DEASSIGN, 0x105) == 0);
	CHECK(call(DEVICE, 1, high, MATCH | DEASSIGN, 0x105) == 0);
	close(byte);
	close(word);
	close(high);
}

/* The client may close its descriptor, and use the number for something else. */
static void test_closed(void)
{
	static const uint8_t code[] = { 0xa3, 0, 0, 0xf4 };
	int fd = eventfd(0, EFD_NONBLOCK), other = dup(fd), pipes[2];
	char byte;

	CHECK(call(DEVICE, 2, fd, 0, 0) == 0);
	NEED(pipe2(pipes, O_NONBLOCK) == 0 && dup2(pipes[1], fd) == fd);
	load(code, sizeof(code));
	CHECK(run() == KVM_EXIT_HLT);
	CHECK(take(other) == 1 && read(pipes[0], &byte, 1) == -1 && errno == EAGAIN);
	CHECK(call(DEVICE, 2, other, DEASSIGN, 0) == 0);
	close(fd);
	close(other);
	close(pipes[0]);
	close(pipes[1]);
}

static void *run_vcpu(void *unused)
{
	(void)unused;
	while (run() == KVM_EXIT_MMIO)
		;
	return NULL;
}

/*
 * A guest writes all the time, while one ioeventfd comes and goes. Once it is gone, its eventfd is signalled no more.
 * The guest ends when it finds a byte of its memory changed.
 */
static void test_storm(void)
{
	/* mov [0], ax; cmp byte cs:[0x2000], 0; je; hlt */
	static const uint8_t code[] = { 0xa3, 0, 0, 0x2e, 0x80, 0x3e, 0x00, 0x20, 0x00, 0x74, 0xf5, 0xf4 };
	int fd = eventfd(0, EFD_NONBLOCK);
	unsigned signals = 0;
	pthread_t thread;

	load(code, sizeof(code));
	NEED(pthread_create(&thread, NULL, run_vcpu, NULL) == 0);
	for (unsigned i = 0; i < 2000; i++) {
		CHECK(call(DEVICE, 0, fd, 0, 0) == 0);
		if (i % 16 == 0)
			usleep(200);
		CHECK(call(DEVICE, 0, fd, DEASSIGN, 0) == 0);
		signals += take(fd) != 0;
		usleep(i % 8 == 0 ? 50 : 0);
		CHECK(take(fd) == 0);
	}
	CHECK(signals > 0);
	__atomic_store_n(m.memory + 0x2000, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	close(fd);
}

int main(void)
{
	machine_make(&m, 1, 16 * PAGE);
	test_errors();
	machine_free(&m, 1); /* with ioeventfds in it */
	machine_make(&m, 1, 16 * PAGE);
	test_many();
	test_match();
	test_closed();
	test_storm();
	machine_free(&m, 1);
	return check_end();
}

/* SPDX-License-Identifier: MIT */
/*
 * A client with an io_uring. What the ring would do to a descriptor of KVM or to memory is refused; all else is as
 * ever. Only under `vmmu run`: a kernel's own KVM has no reason to refuse it. Exit status: 77 where io_uring is not.
 */
#include "check.h"
#include <linux/io_uring.h>
#include <sys/syscall.h>

struct ring {
	int fd;
	unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
};

static void *ring_map(int fd, size_t bytes, long at)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, at);

	NEED(memory != MAP_FAILED);
	return memory;
}

/* Returns: false when there is none. */
static bool ring_make(struct ring *r)
{
	struct io_uring_params p = { 0 };
	char *sq, *cq;

	r->fd = (int)syscall(SYS_io_uring_setup, 4, &p);
	if (r->fd < 0)
		return false;
	CHECK(p.flags == 0 && p.sq_entries >= 4);
	sq = ring_map(r->fd, p.sq_off.array + p.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
	cq = ring_map(r->fd, p.cq_off.cqes + p.cq_entries * sizeof(*r->cqe), IORING_OFF_CQ_RING);
	r->sqe = ring_map(r->fd, p.sq_entries * sizeof(*r->sqe), IORING_OFF_SQES);
	r->sq_tail = (unsigned *)(void *)(sq + p.sq_off.tail);
	r->sq_mask = (unsigned *)(void *)(sq + p.sq_off.ring_mask);
	r->sq_array = (unsigned *)(void *)(sq + p.sq_off.array);
	r->cq_head = (unsigned *)(void *)(cq + p.cq_off.head);
	r->cq_tail = (unsigned *)(void *)(cq + p.cq_off.tail);
	r->cq_mask = (unsigned *)(void *)(cq + p.cq_off.ring_mask);
	r->cqe = (struct io_uring_cqe *)(void *)(cq + p.cq_off.cqes);
	return true;
}

/* Carry one operation out. Returns: its result. */
static int ring_do(struct ring *r, struct io_uring_sqe sqe)
{
	unsigned tail = *r->sq_tail, head = *r->cq_head;
	long result;

	r->sqe[tail & *r->sq_mask] = sqe;
	r->sq_array[tail & *r->sq_mask] = tail & *r->sq_mask;
	__atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE);
	do {
		result = syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0);
	} while (result < 0 && errno == EINTR);
	NEED(result == 1 && __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE) == head + 1);
	result = r->cqe[head & *r->cq_mask].res;
	__atomic_store_n(r->cq_head, head + 1, __ATOMIC_RELEASE);
	return (int)result;
}

#define DO(r, number, ...) ring_do(r, (struct io_uring_sqe){ .opcode = (number), __VA_ARGS__ })

int main(void)
{
	struct io_uring_params p = { .flags = IORING_SETUP_R_DISABLED };
	struct ring before, ring;
	struct machine m;
	char byte = 'x', back = 0;
	int pipes[2];

	if (!ring_make(&before))
		return 77;
	CHECK(DO(&before, IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (uintptr_t)"/dev/null", .open_flags = O_RDWR) >= 0);
	machine_make(&m, 1, 16 * PAGE);
	NEED(pipe(pipes) == 0 && ring_make(&ring));
	CHECK(DO(&ring, IORING_OP_NOP, .fd = -1) == 0);
	CHECK(DO(&ring, IORING_OP_WRITE, .fd = pipes[1], .addr = (uintptr_t)&byte, .len = 1) == 1);
	CHECK(DO(&ring, IORING_OP_READ, .fd = pipes[0], .addr = (uintptr_t)&back, .len = 1) == 1 && back == 'x');
	CHECK(DO(&ring, IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (uintptr_t)"/dev/kvm", .open_flags = O_RDWR) ==
	      -EACCES);
	CHECK(DO(&ring, IORING_OP_CLOSE, .fd = m.kvm) == -EACCES);
	m.memory[PAGE] = 1;
	CHECK(DO(&ring, IORING_OP_MADVISE, .fd = -1, .addr = (uintptr_t)m.memory + PAGE, .len = PAGE,
	         .fadvise_advice = MADV_DONTNEED) == -EACCES);
	CHECK(m.memory[PAGE] == 1 && ioctl(m.kvm, KVM_GET_API_VERSION, 0) == 12);
	/* The client cannot have restrictions of its own, which would come second. */
	CHECK(syscall(SYS_io_uring_setup, 4, &p) == -1 && errno == EINVAL);
	CHECK(syscall(SYS_io_uring_setup, 4, NULL) == -1 && errno == EFAULT);
	machine_free(&m, 1);
	return check_end();
}

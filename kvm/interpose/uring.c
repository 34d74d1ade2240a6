/* SPDX-License-Identifier: MIT */
/*
 * io_uring of a client that has files of ours. The kernel carries out what is in a ring without a call that anybody
 * sees. What it does by that to a file of ours, or to guest memory, would pass by us. So the ring is made such that the
 * kernel refuses these operations (EACCES), before the client can use it.
 */
#include "kvm/interpose/interpose.h"
#include "kvm/process/file.h"
#include "kvm/process/sys.h"
#include "kvm/process/user.h"
#include <errno.h>
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define FD_ONLY_REGISTERED (1u << 15) /* IORING_SETUP_REGISTERED_FD_ONLY: not in headers of Linux 6.1 */
#define OP_FTRUNCATE       55u        /* IORING_OP_FTRUNCATE: the same */
#define OPERATIONS         256u
#define REGISTERS          64u        /* more kinds of io_uring_register than any kernel knows */

/* Operations that open or close files, or take memory away or change what is in it. */
static bool is_refused(unsigned operation)
{
	switch (operation) {
	case IORING_OP_OPENAT:
	case IORING_OP_OPENAT2:
	case IORING_OP_CLOSE:
	case IORING_OP_MADVISE:
	case IORING_OP_FALLOCATE:
	case OP_FTRUNCATE:
		return true;
	default:
		return false;
	}
}

/* How many operations this kernel knows; 0: it does not say. */
static unsigned operations_known(int ring)
{
	_Alignas(struct io_uring_probe) char room[sizeof(struct io_uring_probe) +
	                                          OPERATIONS * sizeof(struct io_uring_probe_op)] = { 0 };
	const struct io_uring_probe *probe = (const struct io_uring_probe *)room;

	if (SYS4(SYS_io_uring_register, ring, IORING_REGISTER_PROBE, room, OPERATIONS) != 0)
		return 0;
	return probe->last_op + 1u;
}

/* Allow everything but what is refused. Returns: 0 or -errno. */
static long restrict_ring(int ring)
{
	struct io_uring_restriction allowed[OPERATIONS + REGISTERS + 1] = { 0 };
	unsigned known = operations_known(ring), count = 0, registers = REGISTERS;
	long result = -EINVAL;

	allowed[count].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	allowed[count++].sqe_flags = 0xff;
	for (unsigned i = 0; i < known; i++)
		if (!is_refused(i)) {
			allowed[count].opcode = IORING_RESTRICTION_SQE_OP;
			allowed[count++].sqe_op = (uint8_t)i;
		}
	for (unsigned i = 0; i < REGISTERS; i++) {
		allowed[count + i].opcode = IORING_RESTRICTION_REGISTER_OP;
		allowed[count + i].register_op = (uint8_t)i;
	}
	/* The kernel refuses a list that names a kind which it does not know, and does not say which it knows. */
	while (known && result == -EINVAL && registers > 0)
		result = SYS4(SYS_io_uring_register, ring, IORING_REGISTER_RESTRICTIONS, allowed, count + registers--);
	return result;
}

static void say(const char *text)
{
	static atomic_flag said = ATOMIC_FLAG_INIT;

	if (!atomic_flag_test_and_set(&said))
		SYS3(SYS_write, STDERR_FILENO, text, strlen(text));
}

long uring_setup(unsigned entries, unsigned long parameters)
{
	struct io_uring_params p;
	uint32_t flags;
	long ring, result;

	if (!file_table_is_ours())
		return SYS2(SYS_io_uring_setup, entries, parameters);
	if (user_read(&p, parameters, sizeof(p)) != 0)
		return -EFAULT;
	flags = p.flags;
	if (flags & (IORING_SETUP_R_DISABLED | FD_ONLY_REGISTERED))
		return -EINVAL; /* as kernels that do not know them */
	p.flags |= IORING_SETUP_R_DISABLED;
	ring = SYS2(SYS_io_uring_setup, entries, &p);
	if (ring < 0)
		return ring;
	p.flags = flags;
	result = restrict_ring((int)ring);
	if (result == 0)
		result = SYS4(SYS_io_uring_register, ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	if (result == 0 && user_write(parameters, &p, sizeof(p)) != 0)
		result = -EFAULT;
	if (result == 0) {
		say("vmmu: the program's io_uring cannot open, close or resize files, nor use madvise (EACCES): nobody "
		    "would see it\n");
		return ring;
	}
	SYS1(SYS_close, ring);
	say("vmmu: the program cannot have an io_uring: this kernel cannot restrict one\n");
	return -ENOSYS;
}

/* SPDX-License-Identifier: MIT */
/*
 * The functions of libc that this library stands in for. A call that does not concern KVM's files goes on to the
 * next library (kvm/process/real.h). Memory calls are always made directly.
 */
#ifndef VMMU_KVM_INTERPOSE_H
#define VMMU_KVM_INTERPOSE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "kvm/process/real.h"

/* The memory calls, with their invalidations (mem.c). Return: a value or -errno. */
long mem_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
long mem_munmap(void *address, size_t length);
long mem_mremap(void *address, size_t old_length, size_t length, int flags, void *wanted);
long mem_madvise(void *address, size_t length, int advice);
long mem_mprotect(void *address, size_t length, int protection, int key);
long mem_fallocate(int fd, int mode, off_t offset, off_t length);
long mem_ftruncate(int fd, off_t length);

/* Calls on descriptors (fds.c). Return: a value or -errno. */
long fds_ioctl(int fd, unsigned long request, unsigned long argument);
long fds_close(int fd);
long fds_dup(long number, int fd, int wanted, int flags);
long fds_close_range(unsigned first, unsigned last, unsigned flags);
long fds_open_kvm(int flags);
struct msghdr;
void fds_received(struct msghdr *message); /* after recvmsg filled `message` */
/** Is it a descriptor of ours? */
bool fds_is_kvm(int fd);

/** Is it a request of fcntl that memfds answer and KVM's files refuse? */
bool fds_fcntl_refused(int fd, int command);

/*
 * syscall(2) for the calls of interpose_path.c, interpose_file.c, interpose_signal.c and exec.c. Return: true with
 * `result` set; false for any other number.
 */
bool syscall_path(long number, const long a[6], long *result);
bool syscall_file(long number, const long a[6], long *result);
bool syscall_exec(long number, const long a[6], long *result);
bool syscall_signal(long number, const long a[6], long *result);

#define EXEC_MISSING 14u
/**
 * What `environment` lacks of what the program at `path` has the front end by, as "NAME=value" in memory that the
 * caller frees. Returns: how many; -1 without memory.
 */
int exec_missing(const char *path, char *const *environment, char *missing[static EXEC_MISSING]);

/** io_uring_setup (uring.c). Returns: a descriptor or -errno. */
long uring_setup(unsigned entries, unsigned long parameters);

/** syscall(2) as the client means it. Returns: a value or -errno. */
long syscall_ours(long number, const long a[6]);

/* A userfaultfd request that changes what a fault in a range means (mem.c). */
long mem_userfaultfd_ioctl(int fd, unsigned long request, unsigned long argument);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Eventfds of the client. A number may be closed or reused at any time, so an eventfd is told by its id, and we keep
 * descriptors of our own.
 */
#ifndef VMMU_KVM_EVENTFD_H
#define VMMU_KVM_EVENTFD_H

#include <stdint.h>

/**
 * Which eventfd is it? Opens and reads /proc/self/fdinfo. All descriptors of one eventfd have the same id, and no
 * other eventfd has it while one of them is open.
 * Returns: 0, -EBADF for a closed number, -EINVAL for another kind of file.
 */
long eventfd_id(int fd, unsigned *id);

/**
 * A descriptor of our own for the same eventfd. Its number is high where there is room: low ones are those that a
 * client expects, or picks itself for dup2. Returns: the descriptor or -errno.
 */
long eventfd_keep(int fd);

/** Add 1 to it. Sleeps while its counter is at the maximum, to which only the client itself can bring it. */
void eventfd_signal(int fd);

/** Take what is in its counter, without sleeping. Returns: the count, 0 when there is none. */
uint64_t eventfd_take(int fd);

#endif

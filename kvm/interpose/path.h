/* SPDX-License-Identifier: MIT */
/*
 * /dev/kvm as a file name: whether a path means it, however it is written, and what is said of it. The machine's own
 * /dev/kvm, where there is one, is never looked at and never reached: the name is ours.
 *
 * All of this runs in calls that may be made in a signal handler or in a vfork child: no locks, no allocation.
 * Results are a value or -errno. Directories are descriptors as openat has them.
 */
#ifndef VMMU_KVM_PATH_H
#define VMMU_KVM_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

struct statx;

/** Is it the name itself: a last component "kvm" in the directory /dev, however that is reached? Costs no system call for
 * any other last component. */
bool path_is_kvm(int directory, const char *path);

/** The same with symbolic links followed, also those of /proc/self/fd, whether or not the machine has a /dev/kvm. */
bool path_leads_to_kvm(int directory, const char *path);

/** Must an open with these flags not be tried, because it is /dev/kvm that is meant? One that may create a file is not
 * tried even through a link. */
bool path_open_is_kvm(int directory, const char *path, int flags);

/** An open that was tried. `result`: its descriptor or -errno. Returns: what the client gets: `result`, or a descriptor
 * of ours where it is /dev/kvm after all (the other one is closed). */
long path_opened(long result, int directory, const char *path, int flags);

/** Does it say that this is the machine's own device, by whatever name? */
bool path_stat_is_device(const struct stat *st);

/** The family of stat: `result` and `st` as the kernel answered for (directory, path, flags as of fstatat). */
long path_stat(long result, int directory, const char *path, int flags, struct stat *st);
long path_statx(long result, int directory, const char *path, int flags, struct statx *stx);
void path_stat_kvm(struct stat *st);
void path_statx_kvm(struct statx *stx);

/** access: `result` as the kernel answered. */
long path_access(long result, int directory, const char *path, int mode, int flags);
long path_access_kvm(int mode);

/** readlink: `result` bytes in `buffer` as the kernel answered: our files' names become those of KVM's. */
long path_readlink(long result, char *buffer);

#endif

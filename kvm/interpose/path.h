/* SPDX-License-Identifier: MIT */
/*
 * /dev/kvm as a file name: whether a path means it, however it is written, and what calls answer about it. The
 * name is ours: the machine's own /dev/kvm, if any, is never looked at and never opened.
 *
 * Callers may be in a signal handler or in a vfork child: no locks, no allocation. Results are a value or -errno.
 * Directories are descriptors as openat has them.
 */
#ifndef VMMU_KVM_PATH_H
#define VMMU_KVM_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

struct statx;

/**
 * Is it the name itself: the last component "kvm" in the directory /dev, however that is reached? Makes no system
 * call for any other last component.
 */
bool path_is_kvm(int directory, const char *path);

/** The same with symbolic links followed, also those of /proc/self/fd. The machine need not have a /dev/kvm. */
bool path_leads_to_kvm(int directory, const char *path);

/**
 * Does this open mean /dev/kvm, so that the next library must not try it? An open that may create a file is not
 * tried even through a link.
 */
bool path_open_is_kvm(int directory, const char *path, int flags);

/**
 * After an open that was tried. `result`: its descriptor or -errno. Returns: what the client gets. That is
 * `result`, or a descriptor of ours if /dev/kvm was meant after all; then the other one is closed.
 */
long path_opened(long result, int directory, const char *path, int flags);

/** Is it the machine's own /dev/kvm, by whatever name? */
bool path_stat_is_device(const struct stat *st);

/**
 * After a function of the stat family. `result` and `st`: what the kernel answered for (directory, path, flags as
 * of fstatat). Returns: what the client gets, in `st` too.
 */
long path_stat(long result, int directory, const char *path, int flags, struct stat *st);
long path_statx(long result, int directory, const char *path, int flags, struct statx *stx);
void path_stat_kvm(struct stat *st);
void path_statx_kvm(struct statx *stx);

/** After access: `result` is what the kernel answered. */
long path_access(long result, int directory, const char *path, int mode, int flags);
long path_access_kvm(int mode);

/** After readlink: the kernel put `result` bytes in `buffer`. Gives our files the names of KVM's. */
long path_readlink(long result, char *buffer);

#endif

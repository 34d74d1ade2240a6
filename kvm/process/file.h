/* SPDX-License-Identifier: MIT */
/*
 * The files that stand for KVM's, and the table of descriptors that name them.
 *
 * As in a kernel, a file lives while a descriptor or a running call holds it. A client may close every descriptor
 * during KVM_RUN: the object is released when the call returns.
 *
 * A memfd is behind the descriptors of each file, so the kernel does mmap, dup and poll. The memfd is sealed and
 * has the name of KVM's file. Its inode identifies the file. The number of a descriptor does not, because the
 * client may close and reuse a number in a way that we do not see.
 */
#ifndef VMMU_KVM_FILE_H
#define VMMU_KVM_FILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "port/posix/fork.h"

enum file_kind {
	FILE_SYSTEM, /* /dev/kvm */
	FILE_VM,
	FILE_VCPU,
	FILE_STATS,
};

struct file {
	atomic_uint refs;
	enum file_kind kind;
	ino_t inode;     /* of the memfd; all memfds are on one device */
	bool foreign;    /* inherited through fork: the owner is the parent, and ioctls answer -EIO as in KVM */
	void *object;    /* struct kvm or struct kvm_vcpu; NULL for FILE_SYSTEM */
	void (*release)(struct file *file); /* called when the last reference is gone; may be NULL */
};

/**
 * A memfd to stand for one of KVM's files. `name`: what /proc/self/fd shows for KVM's file. Returns: a descriptor
 * or -errno.
 */
long file_memory(const char *name, bool close_on_exec);

/** Is it the name of one of KVM's files, as given to file_memory? */
bool file_name_is_kvm(const char *name, size_t length);

/**
 * Make a file over `descriptor`: a memfd of file_memory that has its final size. Seals the memfd and enters the
 * file in the table. From then on the client's calls on that number reach the file. The descriptor owns the
 * file's only reference.
 * Returns: the file, or NULL when there is no memory. Then the caller closes the descriptor.
 */
struct file *file_install(int descriptor, enum file_kind kind, void *object, void (*release)(struct file *));

/**
 * The file behind a descriptor, with a reference for the caller. Returns: NULL for a descriptor that is not ours.
 * Asks the kernel whether the number still names the file of the entry, and forgets the entry if not. That costs
 * one system call, and only for numbers that have an entry.
 */
struct file *file_get(int descriptor);

/** The same by number alone: no system call. Wait-free, except while another thread changes the entry. */
struct file *file_get_unverified(int descriptor);

/** Does the number still name `file`? If not, its entry is forgotten. The caller keeps its reference either way. */
bool file_verify(int descriptor, struct file *file);

/** The file with this inode under any number, with a reference for the caller; or NULL. */
struct file *file_get_by_stat(const struct stat *st);

/** Is it the inode of one of our files, and of which kind? Costs one comparison unless `st` is of a memfd. */
bool file_find(const struct stat *st, enum file_kind *kind);

/** Drop a reference. Dropping the last one releases the object of the file, which may sleep. */
void file_put(struct file *file);

/** `copy` is a new descriptor of the same file (dup). Its entry takes a reference. */
void file_alias(int copy, struct file *file);

/** The descriptor is about to be closed or reused: forget it. Ignores numbers that are not ours. */
void file_forget(int descriptor);

/** Forget all in [first, last]. */
void file_forget_range(unsigned first, unsigned last);

/** The table belongs to this process. Called by the library's constructor. */
void file_init(void);

/** In a forked child every file becomes foreign. */
fork_fn file_fork;

/** The number of statistics files. read(2) looks for one only when it is not 0. */
extern atomic_uint file_stats_count;

/**
 * May this process change the table, and was there ever a file in it? False in a vfork child: it shares our
 * memory, but the table describes the descriptors of its parent.
 */
bool file_table_is_ours(void);

/** May this process change the table? */
bool file_table_may_change(void);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The files that stand for KVM's, and the table of descriptors that name them.
 *
 * As in a kernel, a file lives while a descriptor or a call under way holds it: closing every descriptor while
 * KVM_RUN is in progress is safe, and what the file stands for goes away when the call returns.
 * Each file has a memfd behind its descriptors, so that mmap and dup and poll are the kernel's business. The memfd is
 * sealed, is named as KVM's file is, and its inode is the file's identity: what a descriptor means is decided by that
 * and not by its number, which the client may have closed in a way that we do not see.
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
	bool foreign;    /* inherited through fork: KVM answers -EIO, the owner is the parent */
	void *object;    /* struct kvm or struct kvm_vcpu; NULL for FILE_SYSTEM */
	void (*release)(struct file *file); /* the last reference is gone; may be NULL */
};

/** A memfd to stand for one of KVM's files. `name`: what /proc/self/fd shows of KVM's. Returns: a descriptor or -errno. */
long file_memory(const char *name, bool close_on_exec);

/** Is this the name of one of KVM's files, as file_memory got it? */
bool file_name_is_kvm(const char *name, size_t length);

/**
 * Make a file over `descriptor` (of file_memory, of its final size; it belongs to the caller), seal that, and enter it in
 * the table: from now on the client's calls on that number reach it. The file's one reference is the descriptor's.
 * Returns: the file, or NULL when there is no memory (the caller closes the descriptor).
 */
struct file *file_install(int descriptor, enum file_kind kind, void *object, void (*release)(struct file *));

/**
 * The file behind a descriptor, with a reference for the caller; NULL when it is none of ours. Asks the kernel whether the
 * number still means the file that was entered for it, and forgets the entry if not: one system call, for ours only.
 */
struct file *file_get(int descriptor);

/** The same by number alone: no system call. Wait-free but for the moment in which another thread changes the entry. */
struct file *file_get_unverified(int descriptor);

/** Does the number still mean `file`? When not, its entry is forgotten; the caller keeps its reference. */
bool file_verify(int descriptor, struct file *file);

/** The file with this inode under any other number, with a reference for the caller; or NULL. */
struct file *file_get_by_stat(const struct stat *st);

/** Is it the inode of one of our files, and of which kind? Costs a comparison where no memfd is concerned. */
bool file_find(const struct stat *st, enum file_kind *kind);

/** Drop a reference. The last one releases what the file stands for: may sleep. */
void file_put(struct file *file);

/** `copy` is a new descriptor of the same file (dup). Takes a reference of its own. */
void file_alias(int copy, struct file *file);

/** The descriptor is about to be closed or reused: forget it. Does nothing for a number that is not ours. */
void file_forget(int descriptor);

/** Forget all in [first, last]. */
void file_forget_range(unsigned first, unsigned last);

/** The process that the table belongs to is this one. Called by the library's constructor. */
void file_init(void);

/** In a forked child every file becomes foreign. */
fork_fn file_fork;

/** How many statistics descriptors exist: read(2) looks for them only when there are some. */
extern atomic_uint file_stats_count;

/** False in a vfork child, which shares our memory but must not change our table; and while there is no file. */
bool file_table_is_ours(void);

/** The same, and true also while there is no file. */
bool file_table_may_change(void);

#endif

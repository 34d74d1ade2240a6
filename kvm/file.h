/* SPDX-License-Identifier: MIT */
/*
 * The files that stand for KVM's, and the table of descriptors that name them.
 *
 * As in a kernel, a file lives while a descriptor or a call under way holds it: closing every descriptor while
 * KVM_RUN is in progress is safe, and what the file stands for goes away when the call returns.
 * Each file has a memfd behind its descriptors, so that mmap and dup and poll are the kernel's business.
 */
#ifndef VMMU_KVM_FILE_H
#define VMMU_KVM_FILE_H

#include <stdatomic.h>
#include <stdbool.h>

enum file_kind {
	FILE_SYSTEM, /* /dev/kvm */
	FILE_VM,
	FILE_VCPU,
	FILE_STATS,
};

struct file {
	atomic_uint refs;
	enum file_kind kind;
	bool foreign;    /* inherited through fork: KVM answers -EIO, the owner is the parent */
	void *object;    /* struct vm or struct vcpu; NULL for FILE_SYSTEM */
	void (*release)(struct file *file); /* the last reference is gone; may be NULL */
};

/**
 * Make a file over `descriptor` (a memfd that belongs to the caller) and enter it in the table: from now on the
 * client's calls on that number reach it. The file's one reference is the descriptor's.
 * Returns: the file, or NULL when there is no memory (the caller closes the descriptor).
 */
struct file *file_install(int descriptor, enum file_kind kind, void *object, void (*release)(struct file *));

/** The file behind a descriptor, with a reference for the caller; NULL when it is none of ours. Wait-free but for
 * the moment in which another thread changes the same entry. */
struct file *file_get(int descriptor);

/** Drop a reference. The last one releases what the file stands for: may sleep. */
void file_put(struct file *file);

/** `copy` is a new descriptor of the same file (dup). Takes a reference of its own. */
void file_alias(int copy, struct file *file);

/** The descriptor is about to be closed or reused: forget it. Does nothing for a number that is not ours. */
void file_forget(int descriptor);

/** Forget all in [first, last]. */
void file_forget_range(unsigned first, unsigned last);

/** In a forked child: every file becomes foreign. */
void file_fork_child(void);

/** How many statistics descriptors exist: read(2) looks for them only when there are some. */
extern atomic_uint file_stats_count;

/** False in a vfork child, which shares our memory but must not change our table. */
bool file_table_is_ours(void);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Address kinds, and the outcomes that every part of vmmu reports.
 *
 * Each kind of address is a struct of its own, so a guest frame number cannot be passed where a host address is meant.
 * That mistake has been a real bug in real hypervisors; here it does not compile.
 */
#ifndef VMMU_TYPES_H
#define VMMU_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each header can be included alone, also by C++. */
#ifdef __cplusplus
#define VMMU_BEGIN_DECLS extern "C" {
#define VMMU_END_DECLS   }
#else
#define VMMU_BEGIN_DECLS
#define VMMU_END_DECLS
#endif

/* The caller must look at what the function returns: the compiler warns. */
#define VMMU_MUST_CHECK __attribute__((warn_unused_result))

VMMU_BEGIN_DECLS

#define VMMU_PAGE_SHIFT 12
#define VMMU_PAGE_SIZE  (UINT64_C(1) << VMMU_PAGE_SHIFT)

struct vmmu_gva { uint64_t v; }; /* guest virtual address, bytes */
struct vmmu_gpa { uint64_t v; }; /* guest physical address, bytes */
struct vmmu_gfn { uint64_t v; }; /* guest frame number: gpa >> 12 */
struct vmmu_hva { uint64_t v; }; /* host virtual address, bytes */
struct vmmu_pfn { uint64_t v; }; /* host frame number: host physical >> 12 */

/* Kinds of access, a bit set. */
#define VMMU_READ  1u
#define VMMU_WRITE 2u
#define VMMU_EXEC  4u
/* To the host, beside them: do not wait for the page (vmmu/host.h). */
#define VMMU_NOWAIT 8u

/* Page sizes are named by the level of the table that holds the leaf. */
enum vmmu_level {
	VMMU_LEVEL_4K = 1,
	VMMU_LEVEL_2M = 2,
	VMMU_LEVEL_1G = 3,
};

/* How a call ended. Nothing in the library speaks -errno; the front end translates, in one table. */
enum vmmu_status {
	VMMU_OK = 0,
	VMMU_EINVAL,     /* the request is malformed */
	VMMU_EEXIST,     /* the request collides with something that exists */
	VMMU_ENOENT,     /* what the request names does not exist */
	VMMU_ENOMEM,     /* the host gave no memory; nothing was changed */
	VMMU_EFAULT,     /* a host address is not usable as asked */
	VMMU_EBUSY,      /* not now: in use, full, or too late in the VM's life */
	VMMU_EAGAIN,     /* the state changed during the call: try again */
	VMMU_E2BIG,      /* over a limit: it will never succeed */
	VMMU_EDEAD,      /* the VM was marked dead by an internal check */
};

/**
 * The name of a status, as a message can show it ("out of memory", ...).
 * Returns: a constant string, also for a value that is no status.
 */
const char *vmmu_status_name(enum vmmu_status status);

VMMU_END_DECLS

#endif

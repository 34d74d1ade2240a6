/* SPDX-License-Identifier: MIT */
/*
 * The whole KVM interface for x86 as a table: every ioctl and capability by name, and what we do with it. The
 * front end answers KVM_CHECK_EXTENSION from it, `vmmu doctor` warns by it, and doc/kvm-conformance.md is made
 * from it.
 */
#ifndef VMMU_KVM_SURFACE_H
#define VMMU_KVM_SURFACE_H

#include <stdint.h>

enum surface_status { SURFACE_DONE, SURFACE_PARTIAL, SURFACE_REFUSED };

struct surface_ioctl {
	uint32_t request;
	const char *name;
	enum surface_status status;
	const char *note; /* what is partial; may be NULL */
	const char *test; /* the tests that show it: of kvm/test/, or KVM selftests; NULL: none yet */
};

struct surface_cap {
	unsigned number;
	const char *name;
	enum surface_status status;
	int32_t value; /* the answer to KVM_CHECK_EXTENSION; 0 when refused */
	const char *note;
	const char *test;
};
#define SURFACE_COMPUTED (-1) /* depends on the machine or the MMU: see kvm/ioctl/cap.c */

#define SURFACE_SET_USER_MEMORY_REGION2 0x40a0ae49u /* Linux 6.8 */
#define SURFACE_PRE_FAULT_MEMORY 0xc040aed5u /* Linux 6.11 */
#define SURFACE_QUIRK_SLOT_ZAP_ALL (1u << 7) /* Linux 6.12 */
#define SURFACE_CAP_PRE_FAULT_MEMORY 236
#define SURFACE_CAP_APIC_BUS_CYCLES_NS 237

/* Both end with a NULL name. */
extern const struct surface_ioctl surface_ioctls[];
extern const struct surface_cap surface_caps[];

/** Returns: NULL when KVM has no such ioctl or capability (for x86, up to Linux 6.11). */
const struct surface_ioctl *surface_ioctl_find(uint32_t request);
const struct surface_cap *surface_cap_find(unsigned number);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * On the machine of guest.h: a hypervisor (L1) that runs a nested guest (L2), with nested paging or without.
 *
 * L1 is the 64-bit program of guest_long. With nested paging, L2 has a copy of the first MiB, so it begins in the same
 * mode with the same tables. Its physical address X is L1's X + HIGH. Without, it runs in L1's address space.
 */
#ifndef VMMU_CPU_TEST_HYPERVISOR_H
#define VMMU_CPU_TEST_HYPERVISOR_H

#include "cpu/system/vmcb.h"
#include "guest.h"

#define VMCB     0x200000u
#define HSAVE    0x202000u
#define IOPM     0x204000u
#define MSRPM    0x208000u
#define NPT      0x600000u /* PML4, PDPT, PD, and then tables of 4 KiB entries */
#define HIGH     UINT64_C(0x1000000)
#define L2       0x300000u /* the nested guest's code; all addresses of it are its own */
#define L2_DATA  UINT64_C(0x320000)
#define L2_STACK 0x310000u
#define L2_PT(linear) (0x40000u + ((linear) >> 21 << 12))

#define PTE_P  UINT64_C(1)
#define PTE_W  UINT64_C(2)
#define PTE_U  UINT64_C(4)
#define PTE_A  UINT64_C(0x20)
#define PTE_D  UINT64_C(0x40)
#define PTE_NX (UINT64_C(1) << 63)
#define PTE_RESERVED (UINT64_C(1) << 50)
#define EFER_SVME UINT64_C(0x1000)

/* EXITINFO1 */
#define NPF_P     UINT64_C(1)
#define NPF_W     UINT64_C(2)
#define NPF_U     UINT64_C(4)
#define NPF_RSVD  UINT64_C(8)
#define NPF_ID    UINT64_C(0x10)
#define NPF_FINAL (UINT64_C(1) << 32)
#define NPF_TABLE (UINT64_C(1) << 33)

#define ALL (PTE_P | PTE_W | PTE_U)

/** cmocka's setup: L1 at a loop of VMRUN and OUT to port 0x70, L2 at a VMMCALL, which is intercepted. */
int hypervisor_setup(void **state);
/** The same without nested paging. */
int hypervisor_flat_setup(void **state);

struct vmcb *l1_vmcb(struct guest *g);
/** The VMCB as setup makes it: L2 is a copy of what L1 is now, at L2, and has run nothing. */
void l1_vmcb_fill(struct guest *g);
void l1_intercept(struct guest *g, unsigned exit);
void l1_intercept_not(struct guest *g, unsigned exit);
/** The entry of L1's nested table that has L2's `gpa`, at a level or at the last. */
uint64_t *l1_npt(struct guest *g, uint64_t gpa, unsigned level);
uint64_t *l1_npte(struct guest *g, uint64_t gpa);

#define L2_LOAD(g, at, name) guest_code(g, HIGH + (at), name, (unsigned)(name##_end - (name)))
uint64_t l2_read(struct guest *g, uint64_t gpa);
/** The leaf entry of L2's identity map. */
uint64_t *l2_pte(struct guest *g, uint64_t linear);

/** Run to L1's OUT behind VMRUN. Returns: EXITCODE. */
uint64_t l2_run(struct guest *g);
/** L2 runs to its VMMCALL, from where it is or from L2. */
void assert_l2_vmmcall(struct guest *g);
void assert_l2_runs(struct guest *g);
/** L2 runs into the nested table. */
void assert_l2_npf(struct guest *g, uint64_t info1, uint64_t info2);

#endif

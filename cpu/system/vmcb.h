/* SPDX-License-Identifier: MIT */
/* The virtual machine control block and the codes in it (APM vol. 2, appendix B and C). */
#ifndef CPU_SYSTEM_VMCB_H
#define CPU_SYSTEM_VMCB_H

#include <stddef.h>
#include <stdint.h>

#define VMCB_BYTES 4096u
#define VMCB_SAVE  0x400u /* where the state-save area begins */

struct vmcb_control {
	uint32_t intercepts[6];    /* 000: by enum svm_exit */
	uint8_t reserved_018[0x24];
	uint16_t pause_threshold;  /* 03c */
	uint16_t pause_count;      /* 03e */
	uint64_t iopm, msrpm;      /* 040, 048: physical addresses of the permission maps */
	uint64_t tsc_offset;       /* 050 */
	uint32_t asid;             /* 058 */
	uint8_t tlb_control;       /* 05c: TLB_CONTROL_* */
	uint8_t reserved_05d[3];
	uint64_t virtual_interrupt; /* 060: V_* */
	uint64_t interrupt_shadow; /* 068: SHADOW_* */
	uint64_t exit_code;        /* 070 */
	uint64_t exit_info1;       /* 078 */
	uint64_t exit_info2;       /* 080 */
	uint64_t exit_int_info;    /* 088 */
	uint64_t nested;           /* 090: NESTED_* */
	uint64_t avic_apic_bar;    /* 098 */
	uint64_t ghcb;             /* 0a0 */
	uint64_t event_inject;     /* 0a8: EVENT_* */
	uint64_t nested_cr3;       /* 0b0 */
	uint64_t virtual_extension; /* 0b8: VIRTUAL_* */
	uint32_t clean;            /* 0c0 */
	uint32_t reserved_0c4;
	uint64_t next_rip;         /* 0c8 */
	uint8_t fetched_count;     /* 0d0 */
	uint8_t fetched[15];       /* 0d1 */
	uint8_t reserved_0e0[0x320];
};

struct vmcb_segment {
	uint16_t selector, attributes; /* the attributes: bits 55:52 and 47:40 of a descriptor */
	uint32_t limit;
	uint64_t base;
};

struct vmcb_save {
	struct vmcb_segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr; /* 400 */
	uint8_t reserved_4a0[0x2b];
	uint8_t cpl;               /* 4cb */
	uint32_t reserved_4cc;
	uint64_t efer;             /* 4d0 */
	uint8_t reserved_4d8[0x70];
	uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip; /* 548 */
	uint8_t reserved_580[0x58];
	uint64_t rsp;              /* 5d8 */
	uint64_t s_cet, ssp, isst_addr;
	uint64_t rax;              /* 5f8 */
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip, cr2; /* 628 */
	uint8_t reserved_648[0x20];
	uint64_t pat, debugctl, br_from, br_to, last_exception_from, last_exception_to; /* 668 */
};

struct vmcb {
	struct vmcb_control control;
	struct vmcb_save save;
	uint8_t rest[VMCB_BYTES - VMCB_SAVE - sizeof(struct vmcb_save)];
};

_Static_assert(sizeof(struct vmcb_control) == VMCB_SAVE, "control area");
_Static_assert(offsetof(struct vmcb_control, virtual_interrupt) == 0x60, "V_IRQ");
_Static_assert(offsetof(struct vmcb_control, nested_cr3) == 0xb0, "N_CR3");
_Static_assert(offsetof(struct vmcb_control, next_rip) == 0xc8, "nRIP");
_Static_assert(offsetof(struct vmcb, save.cpl) == 0x4cb, "CPL");
_Static_assert(offsetof(struct vmcb, save.cr4) == 0x548, "CR4");
_Static_assert(offsetof(struct vmcb, save.rsp) == 0x5d8, "RSP");
_Static_assert(offsetof(struct vmcb, save.rax) == 0x5f8, "RAX");
_Static_assert(offsetof(struct vmcb, save.pat) == 0x668, "PAT");
_Static_assert(sizeof(struct vmcb) == VMCB_BYTES, "a page");

#define TLB_CONTROL_NOTHING     0u
#define TLB_CONTROL_ALL         1u
#define TLB_CONTROL_ASID        3u
#define TLB_CONTROL_ASID_LOCAL  7u /* all but global pages of the ASID */

#define V_TPR           UINT64_C(0xff)
#define V_IRQ           (UINT64_C(1) << 8)
#define V_GIF           (UINT64_C(1) << 9)
#define V_PRIORITY_SHIFT 16u
#define V_IGNORE_TPR    (UINT64_C(1) << 20)
#define V_INTR_MASKING  (UINT64_C(1) << 24)
#define V_GIF_ENABLE    (UINT64_C(1) << 25)
#define V_VECTOR_SHIFT  32u

#define SHADOW_GUEST        UINT64_C(1)
#define SHADOW_GUEST_MASKED UINT64_C(2) /* RFLAGS.IF of the guest, where V_INTR_MASKING is used by SEV-ES */

#define NESTED_PAGING   UINT64_C(1)

#define EVENT_VECTOR    UINT64_C(0xff)
#define EVENT_TYPE_SHIFT 8u
#define EVENT_TYPE_INTERRUPT 0u
#define EVENT_TYPE_NMI       2u
#define EVENT_TYPE_EXCEPTION 3u
#define EVENT_TYPE_SOFTWARE  4u
#define EVENT_ERROR     (UINT64_C(1) << 11)
#define EVENT_VALID     (UINT64_C(1) << 31)

#define VIRTUAL_LBR     UINT64_C(1)
#define VIRTUAL_VMLOAD  UINT64_C(2)

#define VM_CR_LOCK   UINT64_C(0x08) /* LOCK and SVMDIS are kept */
#define VM_CR_SVMDIS UINT64_C(0x10) /* EFER.SVME cannot be set */
#define VM_CR_VALID  UINT64_C(0x1f)

/* Exit codes. Up to SVM_EXIT_LAST_INTERCEPT the code is also the number of the bit in `intercepts` that asks for it. */
enum svm_exit {
	SVM_EXIT_READ_CR0 = 0x00,  /* + n */
	SVM_EXIT_WRITE_CR0 = 0x10, /* + n */
	SVM_EXIT_READ_DR0 = 0x20,  /* + n */
	SVM_EXIT_WRITE_DR0 = 0x30, /* + n */
	SVM_EXIT_EXCEPTION = 0x40, /* + vector */
	SVM_EXIT_INTR = 0x60, SVM_EXIT_NMI, SVM_EXIT_SMI, SVM_EXIT_INIT, SVM_EXIT_VINTR, SVM_EXIT_CR0_SELECTIVE,
	SVM_EXIT_READ_IDTR, SVM_EXIT_READ_GDTR, SVM_EXIT_READ_LDTR, SVM_EXIT_READ_TR,
	SVM_EXIT_WRITE_IDTR, SVM_EXIT_WRITE_GDTR, SVM_EXIT_WRITE_LDTR, SVM_EXIT_WRITE_TR,
	SVM_EXIT_RDTSC, SVM_EXIT_RDPMC, SVM_EXIT_PUSHF, SVM_EXIT_POPF, SVM_EXIT_CPUID, SVM_EXIT_RSM, SVM_EXIT_IRET,
	SVM_EXIT_SOFT_INT, SVM_EXIT_INVD, SVM_EXIT_PAUSE, SVM_EXIT_HLT, SVM_EXIT_INVLPG, SVM_EXIT_INVLPGA,
	SVM_EXIT_IOIO, SVM_EXIT_MSR, SVM_EXIT_TASK_SWITCH, SVM_EXIT_FERR_FREEZE, SVM_EXIT_SHUTDOWN,
	SVM_EXIT_VMRUN = 0x80, SVM_EXIT_VMMCALL, SVM_EXIT_VMLOAD, SVM_EXIT_VMSAVE, SVM_EXIT_STGI, SVM_EXIT_CLGI,
	SVM_EXIT_SKINIT, SVM_EXIT_RDTSCP, SVM_EXIT_ICEBP, SVM_EXIT_WBINVD, SVM_EXIT_MONITOR, SVM_EXIT_MWAIT,
	SVM_EXIT_MWAIT_ARMED, SVM_EXIT_XSETBV, SVM_EXIT_RDPRU, SVM_EXIT_EFER_WRITTEN,
	SVM_EXIT_CR0_WRITTEN = 0x90, /* + n */
	SVM_EXIT_INVLPGB = 0xa0, SVM_EXIT_INVLPGB_ILLEGAL, SVM_EXIT_INVPCID, SVM_EXIT_MCOMMIT, SVM_EXIT_TLBSYNC,
	SVM_EXIT_LAST_INTERCEPT = 0xbf,
	SVM_EXIT_NPF = 0x400,
};
#define SVM_EXIT_INVALID (~UINT64_C(0))

#endif

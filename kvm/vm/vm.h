/* SPDX-License-Identifier: MIT */
/*
 * struct kvm and struct kvm_vcpu: a VM and a vCPU as the front end keeps them. `mmu` is the library's part, `cpu`
 * the software CPU with the registers.
 *
 * Who may touch a field: [c] constant after creation, [l] the VM's lock, [v] the vCPU's mutex (that is, the
 * thread in a vCPU ioctl), [a] atomic.
 */
#ifndef VMMU_KVM_VM_H
#define VMMU_KVM_VM_H

#include "cpu/cpu.h"
#include "kvm/vm/arena.h"
#include "kvm/vm/clock.h"
#include "kvm/vm/coalesced.h"
#include "kvm/vm/pv_page.h"
#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <vmmu/vmmu.h>

#define RUN_PAGES     3u /* struct kvm_run, port I/O data, coalesced writes: KVM_GET_VCPU_MMAP_SIZE */
#define RUN_PIO_PAGE  1u
#define RUN_COALESCED_PAGE 2u /* the VM's, in the mappings of all its vCPUs (kvm/interpose/mem.c) */
#define RUN_RING_PAGE 64u /* KVM_DIRTY_LOG_PAGE_OFFSET on x86 */

#define ADDRESS_SPACES 2u /* the second one is for SMM */
#define SLOT_SIZE_UNIT (UINT64_C(2) << 20)
#define MAX_VCPUS    1024u
#define MAX_VCPU_ID  4096u
#define MAX_CPUID    256u
#define MCE_BANKS    32u

/* Which exits happened, for statistics. */
enum exit_counter {
	EXITS_IO, EXITS_MMIO, EXITS_HLT, EXITS_SHUTDOWN, EXITS_ERROR, EXITS_DEBUG, EXITS_RING_FULL, EXITS_HOST_FAULT,
	EXITS_SIGNAL, EXITS_IMMEDIATE, EXITS_IRQ_WINDOW, EXITS_MSR, EXITS_HYPERCALL, EXITS_EOI, EXITS_OTHER, EXITS_COUNT
};
extern const char *const exit_counter_names[EXITS_COUNT];

/* Which interrupt controllers we play: none; local APICs; those and all others of a PC. */
enum irqchip_mode { IRQCHIP_NONE, IRQCHIP_SPLIT, IRQCHIP_KERNEL };

struct msr_filter;
struct pic;
struct pit;
struct ioapic;
struct irq_ack;
struct irq_routes;
struct ioeventfds;
struct lapic;
struct async_pf;

/* Requests to a vCPU about its paravirtual interfaces. */
#define PV_CLOCK_UPDATE 1u /* write the page of kvmclock */
#define PV_CLOCK_MASTER 2u /* see whether all vCPUs have the same TSC */
#define PV_WALL_CLOCK   4u /* write the wall clock */
#define PV_ASYNC_PF     8u /* a page that was away is there, or the guest has taken the last token */
#define PV_STEAL_UPDATE 16u /* write how much time was stolen, and that the vCPU runs again */

/* The MSRs of KVM's paravirtual interface, the memory that they name, and what follows from both. */
struct pv_guest {
	uint64_t system_time, steal_time, eoi, poll_control;
	uint64_t async_pf, async_pf_vector; /* MSR_KVM_ASYNC_PF_EN and _INT */
	struct pv_page time_page, steal_page, eoi_page;
	bool clock_stopped;        /* the next page of kvmclock says that the guest was stopped */
	bool away;                 /* the guest was told that the vCPU does not run */
	bool eoi_offered;          /* the guest may end the interrupt in service by clearing its word */
	uint64_t stolen;           /* ns that are not in the page yet */
	bool delay_known;          /* the next three are: how long the thread had waited for a processor, in ns, */
	uint64_t delay_seen;
	uint64_t delay_seen_at;    /* when that was asked last, by the host's TSC, */
	pthread_t delay_thread;    /* and whose it was */
};

struct kvm {
	atomic_uint refs;              /* [a] one for the VM's file, each vCPU's file and each statistics file */
	unsigned number;               /* [c] for messages and statistics names */
	struct vmmu_vm *mmu;           /* [c] */
	struct arena arena;            /* the library's memory */
	atomic_ullong slots_size;      /* [a] the sum of slot_size */
	struct cpu_vm *code;           /* [c] which pages hold decoded code */
	pthread_mutex_t lock;
	atomic_uint vcpu_count;        /* [a] written under the lock */
	unsigned max_vcpu_id;          /* [l] KVM_CAP_MAX_VCPU_ID, or 0 */
	uint32_t boot_cpu_id;          /* [l] */
	_Atomic enum irqchip_mode irqchip; /* [a] written once under the lock */
	uint32_t split_pins;           /* [c] once irqchip is IRQCHIP_SPLIT: lines that are pins of the client's chip */
	struct pic *pic;               /* [c] once irqchip is IRQCHIP_KERNEL; inside: irq_lock */
	struct ioapic *ioapic;         /* likewise */
	struct pit *_Atomic pit;       /* [a] NULL without one; written once under the lock; inside: irq_lock */
	pthread_mutex_t irq_lock;      /* kvm/irq/irqchip.h */
	struct irq_routes *routes;     /* irq_lock */
	struct irq_ack *irq_acks;      /* irq_lock */
	atomic_bool x2apic_ids, x2apic_exact; /* [a] KVM_CAP_X2APIC_API: wide IDs; 0xff is an ID */
	atomic_bool apic_ids_moved;    /* [a] a local APIC has an ID that is not its vCPU's */
	uint32_t ring_bytes;           /* [l] 0: no dirty rings; constant once a vCPU exists */
	unsigned dirty_mode;           /* [l] VMMU_DIRTY_* */
	unsigned long mmu_pages;       /* [l] KVM_SET_NR_MMU_PAGES */
	uint64_t identity_map;         /* [l] */
	uint64_t apic_bus_ns;          /* [l] a cycle of the local APICs' bus; constant once a vCPU exists */
	_Atomic uint64_t quirks_off;   /* [a] KVM_X86_QUIRK_* that are disabled */
	uint32_t default_tsc_khz;      /* [l] the TSC rate of new vCPUs */
	struct vm_clock clock;         /* has a lock of its own */
	atomic_bool hlt_in_guest;      /* [a] KVM_X86_DISABLE_EXITS_HLT */
	_Atomic uint64_t hypercall_exits; /* [a] KVM_CAP_EXIT_HYPERCALL: a bit for each hypercall that exits */
	atomic_bool exit_on_emulation_failure, exception_payload, triple_fault_event, hide_platform_info; /* [a] */
	atomic_uint user_msr_mask;     /* [a] KVM_CAP_X86_USER_SPACE_MSR */
	struct msr_filter *_Atomic msr_filter; /* [a] replaced under the lock; old ones are kept until the VM goes */
	struct ioeventfds *ioeventfds; /* [a] NULL until there is one; written once under the lock */
	struct coalesced coalesced;
	/* Last, since most of these is never touched, and so takes no memory. */
	struct kvm_vcpu *online[MAX_VCPUS]; /* vCPUs in the order of their creation: the first vcpu_count */
	struct kvm_vcpu *vcpus[MAX_VCPU_ID]; /* [a] by id; written once under the lock */
	/* [a] the size of each slot in SLOT_SIZE_UNITs, as the arena was told */
	atomic_uint slot_size[ADDRESS_SPACES][VMMU_MAX_SLOTS];
};

/* What the next KVM_RUN must complete for the last exit. */
enum completion { COMPLETE_NOTHING, COMPLETE_IO_IN, COMPLETE_MMIO_READ, COMPLETE_RDMSR, COMPLETE_WRMSR,
	COMPLETE_HYPERCALL };

struct kvm_vcpu {
	struct kvm *kvm;           /* [c] */
	unsigned id;               /* [c] */
	struct vmmu_vcpu *mmu;     /* [c] */
	struct cpu *cpu;           /* [c] */
	struct kvm_run *run;       /* [c] our own mapping of the run page; the client may write there at any time */
	uint8_t *pio;              /* [c] */
	struct vmmu_dirty_gfn *ring; /* [c] NULL without dirty rings */
	size_t mapped;             /* [c] bytes at run */
	pthread_mutex_t lock;      /* the vCPU's mutex */
	enum completion completion; /* [v] */
	bool ran;                  /* [v] KVM_RUN was called; CPUID is fixed from then on */
	uint32_t msr_reason;       /* [v] KVM_MSR_EXIT_REASON_* of the next MSR exit */
	bool mask_set;             /* [v] KVM_SET_SIGNAL_MASK is in force */
	uint64_t mask;             /* [v] */
	struct kvm_cpuid_entry2 *cpuid; /* [v] */
	unsigned cpuid_count;      /* [v] */
	bool cpuid_unset_means_all; /* [v] set while KVM_SET_SREGS of a vCPU without CPUID asks what the CPU can do */
	uint32_t debug_control;    /* [v] KVM_GUESTDBG_* */
	bool window_wanted;        /* [v] the last argument of cpu_irq_window_want */
	uint32_t sleep_late;       /* [v] how late the host ends a sleep, in ns */
	uint32_t tsc_khz;          /* [v] the rate of its TSC */
	uint32_t tsc_khz_wanted;   /* [v] and what KVM_SET_TSC_KHZ made of it: that may be 250 ppm off */
	uint64_t tsc_generation;   /* the VM's clock.lock */
	atomic_uint pv_requests;   /* [a] PV_*: what to do before the next guest code */
	uint32_t pv_leaf;          /* [v] the leaf of its CPUID that has KVM_FEATURE_*, or 0 */
	uint32_t pv_features;      /* [v] and these */
	bool pv_enforced;          /* [v] KVM_CAP_ENFORCE_PV_FEATURE_CPUID */
	struct pv_guest pv;        /* [v] what its guest switched on */
	atomic_bool pv_kicked;     /* [a] another vCPU ends its HLT, this one or the next */
	uint64_t mcg_cap, mcg_status, mcg_ctl; /* [v] */
	uint64_t mce[MCE_BANKS * 4]; /* [v] */
	uint64_t platform_info, misc_features, arch_capabilities, bios_sign, power_ctl, hwcr, tsc_adjust; /* [v] MSRs */
	uint64_t mtrr_fixed[11], mtrr_var[16], mtrr_def_type; /* [v] */
	struct lapic *lapic;       /* [c] NULL without an irqchip */
	struct async_pf *apf;      /* [c] NULL without an irqchip; inside: [v] */
	atomic_uint wake;          /* [a] futex: changes when a halted vCPU must look at its events again */
	atomic_uint nmi_queued;    /* [a] NMIs sent since the vCPU last collected them */
	atomic_bool smi_queued;    /* [a] an SMI was sent since then */
	/* [v] KVM_SET_NESTED_STATE began guest mode since the last KVM_RUN; and with its flag RUN_PENDING */
	bool nested_restored, nested_run_pending;
	int extint;                /* [v] a vector of the client's PIC (KVM_INTERRUPT) that waits, or -1 */
	enum { TPR_QUIET, TPR_READ, TPR_WRITTEN } tpr_access; /* [v] KVM_EXIT_TPR_ACCESS is due */
	uint64_t tpr_rip;          /* [v] where */
	int eoi_vector;            /* [v] tell the client of the end of this one, or -1 (KVM_EXIT_IOAPIC_EOI) */
	_Atomic pthread_t runner;  /* [a] the thread that called KVM_RUN last */
	atomic_bool cancelled;     /* [a] that thread was cancelled: leave the guest */
	uint64_t exits[EXITS_COUNT]; /* [v] read by anyone */
	uint64_t halt_wakeups;     /* [v] read by anyone */
	uint64_t runs;             /* [v] read by anyone */
};

static inline void count(uint64_t *counter)
{
	/* There is one writer. Readers need a whole number, not the newest. */
	__atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

/** Make a VM and its descriptor (KVM_CREATE_VM). Returns: the descriptor or -errno. */
long vm_create(unsigned long type);

/** Drop a reference. Dropping the last one destroys the VM and its vCPUs. */
void vm_put(struct kvm *kvm);

static inline struct kvm_vcpu *vm_vcpu(struct kvm *kvm, unsigned id)
{
	return id < MAX_VCPU_ID ? __atomic_load_n(&kvm->vcpus[id], __ATOMIC_ACQUIRE) : NULL;
}

/** Has the client disabled this quirk (KVM_X86_QUIRK_*)? Any thread. */
static inline bool quirk_is_off(const struct kvm *kvm, uint64_t quirk)
{
	return atomic_load_explicit(&kvm->quirks_off, memory_order_relaxed) & quirk;
}

/** How many vCPUs kvm->online has. They stay there. Any thread. */
static inline unsigned vm_vcpus_online(const struct kvm *kvm)
{
	return atomic_load_explicit(&kvm->vcpu_count, memory_order_acquire);
}

/** The -errno for a status of the library. The only place that translates them. */
long status_errno(enum vmmu_status status);

/* ---- needed in this folder and in irq, defined in folders above ------------------------------------------- */

/** Make a vCPU that is halted or in the guest look at its events. Any thread; async-signal-safe. */
void vcpu_wake(struct kvm_vcpu *vcpu);

/** Ask a vCPU for PV_*. If it runs guest code, it stops that for it. Any thread. */
void vcpu_pv_request(struct kvm_vcpu *vcpu, unsigned requests);
/** Answer PV_CLOCK_UPDATE now, if it was asked for and no thread is in an ioctl of the vCPU. Holds: no lock. */
void vcpu_clock_update(struct kvm_vcpu *vcpu);
/** Send the vCPU an SMI. Any thread; async-signal-safe. */
void vcpu_smi_send(struct kvm_vcpu *vcpu);

/** Free a vCPU of a VM that is being destroyed. */
void vcpu_destroy(struct kvm_vcpu *vcpu);

/* Each frees what its own folder keeps for a VM. Called when the VM is destroyed. */
void msr_filter_free(struct kvm *kvm);
void irq_routes_free(struct kvm *kvm);
void irqchip_free(struct kvm *kvm);
/** Before the vCPUs go: irqfds deliver to them. */
void irqfd_free(struct kvm *kvm);
void pit_free(struct kvm *kvm);
void ioeventfd_free(struct kvm *kvm);
/** A VM is destroyed: add its numbers to the totals of --stats. */
void stats_vm_gone(struct kvm *kvm);

#endif

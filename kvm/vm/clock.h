/* SPDX-License-Identifier: MIT */
/*
 * The clock of a VM, which its guest reads as kvmclock and its client by KVM_GET_CLOCK, and what its vCPUs' time
 * stamp counters have in common.
 *
 * The clock is a linear function of the host's TSC, fixed by one pair (base_tsc, base_ns). Everybody computes it from
 * that pair: the client's ioctls from the host's TSC, a guest from its own TSC and a page that kvm/vcpu/kvmclock.c
 * writes. So all of them read the same clock.
 */
#ifndef VMMU_KVM_CLOCK_H
#define VMMU_KVM_CLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct kvm;

/* From cycles to ns as the guest's pvclock ABI does it: shift left (or right, if negative), multiply, drop 32 bits. */
struct clock_scale {
	uint32_t mul;
	int8_t shift;
};

/*
 * Which vCPUs have the same TSC. KVM calls a set of matching writes a generation: a write that matches the one
 * before joins its generation, any other begins the next.
 */
struct tsc_sync {
	uint64_t written_at;     /* the host's TSC at the last write */
	uint64_t written;        /* what was written */
	uint64_t written_offset; /* and the offset that made */
	uint32_t written_khz;
	uint64_t offset;         /* of this generation */
	uint64_t generation;
	unsigned vcpus;          /* of the VM */
	unsigned matched;        /* of them, those that joined this generation, without the one that began it */
	bool by_client;          /* a client wrote the TSC of a vCPU */
};

struct vm_clock {
	pthread_mutex_t lock;    /* guards all below. Nothing else is taken under it */
	uint64_t base_tsc, base_ns;
	bool master;             /* all vCPUs have the same TSC, so one may use the page of another */
	bool old_msr;            /* the boot vCPU's guest uses MSR_KVM_SYSTEM_TIME, not MSR_KVM_SYSTEM_TIME_NEW */
	uint64_t wall_msr;       /* the value of MSR_KVM_WALL_CLOCK */
	struct tsc_sync sync;
};

/** Begin at 0 ns. */
void clock_init(struct vm_clock *clock);
void clock_fini(struct vm_clock *clock);

/** The scale for a TSC of `khz`, not 0. */
struct clock_scale clock_scale_for(uint32_t khz);
/** Returns: ns in `cycles`. */
uint64_t clock_scale_apply(struct clock_scale scale, uint64_t cycles);

/** Read the clock, in ns, at `tsc` of the host. Holds: clock->lock. */
uint64_t clock_at(const struct vm_clock *clock, uint64_t tsc);

/** Find out whether all vCPUs have the same TSC. Returns: has `master` changed? Holds: clock->lock. */
bool clock_master_update(struct vm_clock *clock);

/** CLOCK_REALTIME in ns. `tsc`: the host's TSC at that moment. */
uint64_t clock_realtime(uint64_t *tsc);

/**
 * Tell all vCPUs to write their pages again before they next run guest code. Those in the guest leave it.
 * Any thread.
 */
void clock_update_all(struct kvm *kvm);

/**
 * How a TSC of `khz` relates to the host's, as in cpu_state. Rates within 250 ppm of the host's are the host's.
 * Returns: false if the CPU cannot have that rate.
 */
bool clock_tsc_ratio(uint32_t khz, uint64_t *ratio);

#endif

/* SPDX-License-Identifier: MIT */
/* A vCPU of the machine's own KVM, which is given the state of a software CPU. */
#ifndef TEST_SHADOW_REALKVM_H
#define TEST_SHADOW_REALKVM_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu/cpu.h"

struct kvm_run;

struct realkvm {
	int kvm, vm, vcpu;
	struct kvm_run *run;
	uint8_t *ram;
	uint64_t bytes;
	bool smep, smap, pku, la57, gbpages; /* features that its guests may turn on */
	bool amd;                            /* what is reserved is as on AMD's processors */
};

/** Make the VM and its vCPU. Returns: false, after printing why, when there is no usable KVM. */
bool realkvm_open(struct realkvm *real, uint8_t *ram, uint64_t bytes);
void realkvm_close(struct realkvm *real);

/**
 * Run from `state` to a HLT. First everything that the MMU has cached is dropped, since the memory was written
 * without its knowledge. After: RIP, RSP and CR2 are set in `state`. Returns: false, after printing why, when it did
 * not end with a HLT.
 */
bool realkvm_run(struct realkvm *real, struct cpu_state *state);

#endif

/* SPDX-License-Identifier: MIT */
/* A vCPU of the machine's own KVM, given the state of a software one. */
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
	bool smep, smap, pku, la57, gbpages; /* what its guests may turn on */
};

/** Returns: false, after saying why, when there is none to be had. */
bool realkvm_open(struct realkvm *real, uint8_t *ram, uint64_t bytes);
void realkvm_close(struct realkvm *real);

/**
 * Run from `state` to a HLT, with nothing left of what the MMU knew: the memory was written behind its back. RIP, RSP and CR2 are set in `state`.
 * Returns: false, after saying why, when it ended otherwise.
 */
bool realkvm_run(struct realkvm *real, struct cpu_state *state);

#endif

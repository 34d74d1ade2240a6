/* SPDX-License-Identifier: MIT */
/* The break of a hosted program (kvm/process/hosted.h). The kernel's is the front end's, whose malloc moves it. */
#ifndef VMMU_KVM_BREAK_H
#define VMMU_KVM_BREAK_H

#include <stdint.h>

#include "port/posix/fork.h"

/** The program's break begins here. */
void break_init(uintptr_t start);

/** As brk(2). Returns: where the break is now. */
long break_set(uintptr_t wanted);

fork_fn break_fork;

#endif

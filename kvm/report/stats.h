/* SPDX-License-Identifier: MIT */
/* Statistics: the files of KVM_GET_STATS_FD, and the table that --stats prints at exit. */
#ifndef VMMU_KVM_STATS_H
#define VMMU_KVM_STATS_H

#include "port/posix/fork.h"

struct kvm;

/** If the descriptor is a statistics file, write the present numbers into it. Preserves errno. */
void stats_refresh(int descriptor);

fork_fn stats_fork;

/** Print what the environment asks for. Acts once. */
void stats_at_exit(void);

#endif

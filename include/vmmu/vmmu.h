/* SPDX-License-Identifier: MIT */
/* vmmu: everything an embedder includes. */
#ifndef VMMU_VMMU_H
#define VMMU_VMMU_H

#include <vmmu/dirty.h>
#include <vmmu/format.h>
#include <vmmu/host.h>
#include <vmmu/memory.h>
#include <vmmu/memslot.h>
#include <vmmu/mmu.h>
#include <vmmu/nested.h>
#include <vmmu/notifier.h>
#include <vmmu/pfn_cache.h>
#include <vmmu/posix.h>
#include <vmmu/types.h>
#include <vmmu/vcpu.h>
#include <vmmu/version.h>
#include <vmmu/vm.h>

#endif

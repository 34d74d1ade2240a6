/* SPDX-License-Identifier: MIT */
/* vmmu: everything an embedder includes. */
#ifndef VMMU_VMMU_H
#define VMMU_VMMU_H

#ifdef __cplusplus
extern "C" {
#endif

#include <vmmu/dirty.h>
#include <vmmu/format.h>
#include <vmmu/host.h>
#include <vmmu/memslot.h>
#include <vmmu/mmu.h>
#include <vmmu/notifier.h>
#include <vmmu/types.h>
#include <vmmu/vcpu.h>
#include <vmmu/vm.h>

#ifdef __cplusplus
}
#endif

#endif

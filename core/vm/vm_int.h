/* SPDX-License-Identifier: MIT */
/* What puts the parts of core together. */
#ifndef CORE_VM_VM_INT_H
#define CORE_VM_VM_INT_H

#include <vmmu/vmmu.h>

#include "core/fault/vcpu.h"
#include "core/memslot/slots.h"
#include "core/sync/vm.h"

/** What the tables do when a slot changes (region.c). */
extern const struct slots_hooks vm_slots_hooks;

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Two kinds of internal check. ASSERT is for preconditions, in debug builds. VM_BUG (core/sync/vm.h) is always on and marks one
 * VM dead: a library does not kill its host. Guest or client input is never asserted on.
 */
#ifndef CORE_BASE_ASSERT_H
#define CORE_BASE_ASSERT_H

#include "port/contract/port.h"

#ifdef VMMU_DEBUG
#define ASSERT(cond) ((cond) ? (void)0 : port_panic(__FILE__, __LINE__, #cond))
#else
#define ASSERT(cond) ((void)sizeof(!!(cond)))
#endif

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Two kinds of internal check. ASSERT checks a precondition, in debug builds only. VM_BUG (core/sync/vm.h) is always
 * on and marks one VM dead, because a library does not kill its host. What a guest or a client passes in is never
 * asserted on.
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

/* SPDX-License-Identifier: MIT */
/* The version of the library: of these headers, and of the library that a program is linked with. */
#ifndef VMMU_VERSION_H
#define VMMU_VERSION_H

#include <vmmu/types.h>

VMMU_BEGIN_DECLS

#define VMMU_VERSION_MAJOR 0
#define VMMU_VERSION_MINOR 1
#define VMMU_VERSION_PATCH 0

/* One number, for comparisons: 1.2.3 is 0x010203. */
#define VMMU_VERSION (VMMU_VERSION_MAJOR << 16 | VMMU_VERSION_MINOR << 8 | VMMU_VERSION_PATCH)

/**
 * The VMMU_VERSION that the library was built with. If it differs in the major number, or below 1.0 in the minor
 * number, it may not fit the headers that the program was compiled with.
 */
unsigned vmmu_version(void);

VMMU_END_DECLS

#endif

/* SPDX-License-Identifier: MIT */
/* Which bit of CPUID says that an instruction set is there. */
#ifndef VMMU_CPU_TEST_OPCODE_CPUID_H
#define VMMU_CPU_TEST_OPCODE_CPUID_H

#include <stdbool.h>

#include <Zydis/Zydis.h>

/* Is it a set that the sweep covers? Not among them: system instructions, and the integer core, which has rows. */
bool opcode_set_is_swept(ZydisISASet set);

bool opcode_set_on_host(ZydisISASet set);

/* Does the software CPU say that it has the set? */
bool opcode_set_offered(ZydisISASet set);

#endif

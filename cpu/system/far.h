/* SPDX-License-Identifier: MIT */
/* Far control transfers. */
#ifndef CPU_SYSTEM_FAR_H
#define CPU_SYSTEM_FAR_H

#include "cpu/base/types.h"

/** All of these set s.rip. `osize`: 2, 4, 8. */
void far_jump(struct cpu *cpu, uint16_t selector, uint64_t offset, unsigned osize);
/** `next_rip`: the return address to push. */
void far_call(struct cpu *cpu, uint16_t selector, uint64_t offset, uint64_t next_rip, unsigned osize);
void far_return(struct cpu *cpu, unsigned osize, unsigned pop_bytes);
void iret(struct cpu *cpu, unsigned osize);

#endif

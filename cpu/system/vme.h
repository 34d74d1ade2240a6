/* SPDX-License-Identifier: MIT */
/*
 * Virtual-8086 mode extensions (SDM vol. 3, 21.3 and 21.4):
 * with CR4.VME and IOPL below 3, 16-bit programs see RFLAGS.VIF as their IF, and INT n goes through their own vectors
 * where the TSS says so. With CR4.PVI, CLI and STI of any program at level 3 change VIF.
 */
#ifndef CPU_SYSTEM_VME_H
#define CPU_SYSTEM_VME_H

#include "cpu/base/private.h"

/** In virtual-8086 mode: FLAGS as PUSHF and INT n push them. Raises #GP where the program may not see them. */
uint64_t vme_flags(struct cpu *cpu, unsigned osize);
/** The same for FLAGS that POPF or IRET are about to load: raises #GP, or vme_flags_load is to follow. */
void vme_flags_check(struct cpu *cpu, uint64_t flags, unsigned osize);
/** `rf`: RFLAGS_RF for IRET, whose 32-bit form loads it. */
void vme_flags_load(struct cpu *cpu, uint64_t flags, unsigned osize, uint64_t rf);
/** CLI or STI above IOPL. Raises #GP, or changes VIF. */
void vme_interrupt_flag(struct cpu *cpu, bool set);
/**
 * INT n in virtual-8086 mode. Returns: true when the program's own handler is next; false when the event is to be
 * delivered through the IDT. Raises #GP.
 */
bool vme_int(struct cpu *cpu, unsigned vector, uint64_t next_rip);

#endif

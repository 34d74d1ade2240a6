/* SPDX-License-Identifier: MIT */
/* Delivery of exceptions and interrupts. Raising one is in base/types.h. */
#ifndef CPU_SYSTEM_EVENT_H
#define CPU_SYSTEM_EVENT_H

#include "cpu/base/types.h"

/** Tell of the event whose delivery did not come to its end: error.event, gpa and access of the exit. */
void event_undelivered(const struct cpu *cpu, struct cpu_exit_info *exit);
/** Deliver what events.* holds, if anything can be. In the guest. True when RIP changed. */
bool event_deliver_pending(struct cpu *cpu);
/** Anything in events.* to be delivered at once? */
bool event_is_pending(const struct cpu *cpu);
enum event_kind { EVENT_EXCEPTION, EVENT_EXTERNAL, EVENT_SOFT_INT, EVENT_SOFT_EXCEPTION /* INT3, INTO */ };
/** Through the IDT. On return s.rip is the handler's. `rip`: to push. */
void event_deliver(struct cpu *cpu, unsigned vector, enum event_kind kind, bool has_error, uint32_t error, uint64_t rip);

#endif

/* SPDX-License-Identifier: MIT */
/* Delivery of exceptions and interrupts. Raising one is in base/types.h. */
#ifndef CPU_SYSTEM_EVENT_H
#define CPU_SYSTEM_EVENT_H

#include "cpu/base/types.h"

/** Fill in error.event, gpa and access of an exit, for the event whose delivery failed. */
void event_undelivered(const struct cpu *cpu, struct cpu_exit_info *exit);
/** In the guest: deliver an event of s.events, if one can be. Returns: true when RIP changed. */
bool event_deliver_pending(struct cpu *cpu);
/** Is an event in s.events to be delivered at once? */
bool event_is_pending(const struct cpu *cpu);
/**
 * Has the guest raised an exception in this cpu_run that it was not yet given? It is, before any request is looked at.
 * Hardware shows no such exception, and clients are not made for one: QEMU moves a guest without its error code.
 */
bool event_is_raised(const struct cpu *cpu);
enum event_kind { EVENT_EXCEPTION, EVENT_EXTERNAL, EVENT_SOFT_INT, EVENT_SOFT_EXCEPTION /* INT3, INTO */ };
/** The event whose delivery is under way, as EXITINTINFO names it (APM vol. 2, 15.7.2); 0: none. */
uint64_t event_interrupted(const struct cpu *cpu);
/** Deliver through the IDT. `rip`: what to push. After: s.rip is the handler's. */
void event_deliver(struct cpu *cpu, unsigned vector, enum event_kind kind, bool has_error, uint32_t error,
                   uint64_t rip);

#endif

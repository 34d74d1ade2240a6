/* SPDX-License-Identifier: MIT */
/* The guest routines of guest.S; their registers are described there. */
#ifndef BENCH_ROUTINES_H
#define BENCH_ROUTINES_H

#include <stdint.h>

extern const uint8_t guest_touch[], guest_io[], guest_stores[], guest_sieve[], guest_calls[], guest_invlpg[],
	guest_cr3[], guest_space[], guest_fork[], guest_handler[], guest_answer_handler[], guest_timer_handler[],
	guest_apic_on[], guest_ping[], guest_pong[], guest_ping_spin[], guest_pong_spin[], guest_listen[],
	guest_listen_spin[], guest_late[], guest_late_spin[];

#endif

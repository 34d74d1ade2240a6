/* SPDX-License-Identifier: MIT */
/* What the groups of measurements share. A group is one function, which calls line() for each result. */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "bench/machine.h"
#include "bench/report.h"
#include "bench/routines.h"

/* Write one word to each of `pages` data pages, at CPL 3. */
static inline struct call touch(uint64_t first_page, uint64_t pages)
{
	return (struct call){ .routine = guest_touch, .rdi = DATA_GPA + first_page * PAGE, .rsi = pages, .cpl = 3 };
}

void bench_slot(void);     /* slots.c */
void bench_fault(void);    /* faults.c */
void bench_dirty(void);    /* dirty.c */
void bench_notifier(void); /* faults.c */
void bench_paging(void);   /* guest.c */
void bench_exit(void);     /* guest.c */
void bench_call(void);     /* calls.c */
void bench_mips(void);     /* guest.c */
void bench_irq(void);      /* irq.c */
void bench_memory(void);   /* memory.c */

/** Make one-page slots 2 .. 2 + count - 1, far from everything, all backed by `page`. */
void fill_slots(struct machine *m, unsigned count, const void *page);

#endif

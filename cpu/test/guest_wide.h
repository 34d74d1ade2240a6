/* SPDX-License-Identifier: MIT */
/* What tests of vector instructions share: AVX-512 enabled, registers in and out, and a page that ends memory. */
#ifndef VMMU_CPU_TEST_GUEST_WIDE_H
#define VMMU_CPU_TEST_GUEST_WIDE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "guest.h"
#include "guest_asm.h"

/* The page before it is in memory. What is behind it, vector_end_is says. */
#define VECTOR_END (GUEST_DATA + 0x1000u)

/** cmocka's setup: a machine in long mode that has enabled all vector state. Skips the test where the host has none. */
int vector_setup(void **state);

enum vector_end { END_ABSENT, END_READ_ONLY, END_DEVICE, END_MEMORY };
/** What is from VECTOR_END on, for a page. Drops translations. */
void vector_end_is(struct guest *g, enum vector_end what);

/** Bytes at, at + 1, ...: 1, 2, 3 ... (modulo 251), for the page before VECTOR_END and the one behind. */
void vector_fill_memory(struct guest *g);

/** Run the code from its start. Returns: as guest_run_to_hlt. */
#define VECTOR_RUN(g, name) (GUEST_LOAD((g), GUEST_CODE, name), vector_run(g))
int vector_run(struct guest *g);

/** Element n of `size` bytes of a register. */
uint64_t vector_get(struct guest *g, unsigned reg, unsigned n, unsigned size);
void vector_set(struct guest *g, unsigned reg, unsigned n, unsigned size, uint64_t value);

#endif

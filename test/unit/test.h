/* SPDX-License-Identifier: MIT */
/* Every unit test includes this first: cmocka, and a few things of our own. */
#ifndef TEST_UNIT_TEST_H
#define TEST_UNIT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "test/common/rng.h"

static inline struct rng rng_make(uint64_t seed)
{
	struct rng rng;

	rng_seed(&rng, seed);
	return rng;
}

/* For threads other than the test's, where cmocka's assertions must not be used: prints the place, and aborts. */
#define CHECK(cond) \
	((cond) ? (void)0 : (fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #cond), abort()))

#endif

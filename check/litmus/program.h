/* SPDX-License-Identifier: MIT */
/* Programs of axiom/parse.h as scenarios: an interpreter that is compiled for the checker. */
#ifndef CHECK_LITMUS_PROGRAM_H
#define CHECK_LITMUS_PROGRAM_H

#include "check/axiom/axiom.h"
#include "check/check.h"
#include "check/runtime/search.h"

/** The scenario that runs the program. Valid until the next call. */
const struct check_scenario *program_scenario(const struct ax_program *program);

/** The outcome of the execution that has ended, in the form of struct ax_outcomes. */
uint64_t program_outcome(void);

/** Collect all outcomes that a search finds. Returns: false if it failed (result->message says how). */
bool program_search(const struct check_scenario *scenario, enum check_strategy strategy, enum check_model model,
                    unsigned stale, uint64_t executions, struct ax_outcomes *outcomes, struct check_result *result);

/** "00 01 10" (one of four static buffers). */
const char *outcomes_text(const struct ax_outcomes *outcomes, unsigned results);

bool outcomes_equal(const struct ax_outcomes *a, const struct ax_outcomes *b);

#endif

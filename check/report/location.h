/* SPDX-License-Identifier: MIT */
/*
 * What an event of a trace is about, in the words of the source: which line to show, and the name of what was
 * accessed.
 */
#ifndef CHECK_REPORT_LOCATION_H
#define CHECK_REPORT_LOCATION_H

#include <stdbool.h>

#include "check/report/source.h"
#include "check/runtime/trace.h"

/**
 * The source of an event, outside the wrappers between code and checker. `place`: set to the frame to show. Returns:
 * never NULL; the depth may be 0.
 */
const struct source *location_source(const struct check_event *event, unsigned *place);

/** Find the innermost frame that is no wrapper. Returns: false when all are. */
bool location_frame(const struct source *source, unsigned *place);

/**
 * The name that the scenario gave, else what the source calls it, else a variable or block with an offset. The string
 * lives as long as the program.
 */
const char *location_name(const struct check_event *event, const struct source *source, unsigned place);

/** Is the code at this return address the tool's own part of a checked program (check/tool/)? */
bool location_is_shim(uint32_t pc);

/** What lies at an address that is a value: "&top" goes without the "&". NULL: the value is no such address. */
const char *location_of_value(uint64_t value);

#endif

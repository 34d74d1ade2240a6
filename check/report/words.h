/* SPDX-License-Identifier: MIT */
/*
 * The words of a picture for the events of a trace and for the runtime's messages. All strings
 * live as long as the program.
 */
#ifndef CHECK_REPORT_WORDS_H
#define CHECK_REPORT_WORDS_H

#include "check/report/picture.h"
#include "check/runtime/trace.h"

const char *words_format(const char *pattern, ...) __attribute__((format(printf, 1, 2)));

enum row_kind words_kind(const struct check_event *event);
const char *words_verb(const struct check_event *event);
const char *words_value(const struct check_event *event);

/** The text without a leading "../": the compiler was started in the build directory. */
const char *words_without_dots(const char *text);

/** A message of the runtime's in one line, with names for "thread 1" and "pc 0x4116ec". */
const char *words_message(const struct picture *picture, const char *message);

/** "first_root, at core/shadow/page.c:222" */
const char *words_party(const struct picture *picture, uint32_t pc, int thread);

#endif

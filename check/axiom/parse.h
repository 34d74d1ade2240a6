/* SPDX-License-Identifier: MIT */
/*
 * Programs as text, with '|' between threads:
 *
 *     x=1  store      x  load      x+1  fetch-and-add      x<1  exchange
 *     x?0:1  compare-and-swap from 0 to 1      F  fence
 *
 * A letter after an operation is its order: none relaxed, a acquire, r release, q both, s sequentially consistent.
 * Locations are w x y z, numbered as they first appear.
 */
#ifndef CHECK_AXIOM_PARSE_H
#define CHECK_AXIOM_PARSE_H

#include "check/axiom/axiom.h"

/** Returns: 0; -1 if the text is not a program. */
int ax_parse(const char *text, struct ax_program *program);

/** Write the program as such text, as much as fits. */
void ax_print(const struct ax_program *program, char *text, size_t bytes);

#endif

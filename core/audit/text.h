/* SPDX-License-Identifier: MIT */
/* Lines of text without a C library. */
#ifndef CORE_AUDIT_TEXT_H
#define CORE_AUDIT_TEXT_H

#include "core/audit/audit.h"

struct text {
	char line[AUDIT_LINE];
	unsigned used;
};

/* Each function appends to the line, and cuts off what does not fit. */
void text_str(struct text *text, const char *str);
void text_hex(struct text *text, const char *name, uint64_t value);
void text_dec(struct text *text, const char *name, uint64_t value);

/** Hand out the line, and begin a new one. */
void text_end(struct text *text, const struct audit_out *out);

#endif

/* SPDX-License-Identifier: MIT */
/* The four memory functions that every C implementation has, also a freestanding one. */
#ifndef CORE_BASE_STRING_H
#define CORE_BASE_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int byte, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);

#endif

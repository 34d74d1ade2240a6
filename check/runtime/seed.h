/* SPDX-License-Identifier: MIT */
/*
 * An execution as text, "SCENARIO:MODEL:CHOICES". The choices say which thread has its turn, and where it
 * matters what it does. A letter is a thread; a number after it is how many plain turns it has. ".N" after it
 * instead: the thread takes option N, which is how many newer stores a load passes over or a store goes before,
 * or what check_choose returns.
 */
#ifndef CHECK_RUNTIME_SEED_H
#define CHECK_RUNTIME_SEED_H

#include "check/runtime/rt.h"

void seed_write(char *to, size_t room);

/** Prepare for replay. Returns: NULL, or what is wrong. */
const char *seed_read(const char *seed);

/** Is the next choice given? Then *rank is `newest` less the option. */
bool replay_forced(unsigned *rank, unsigned newest);
bool replay_forced_choice(unsigned *value);

#endif

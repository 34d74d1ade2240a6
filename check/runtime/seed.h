/* SPDX-License-Identifier: MIT */
/*
 * An execution as text: "SCENARIO:MODEL:CHOICES". CHOICES say whose turn it is and, where it matters, what it does: a letter is a thread, a number after it how many turns
 * without anything special; ".N" instead: it takes option N (how many newer stores a load passes over or a store goes before; what check_choose returns).
 */
#ifndef CHECK_RUNTIME_SEED_H
#define CHECK_RUNTIME_SEED_H

#include "check/runtime/rt.h"

void seed_write(char *to, size_t room);

/** Sets up for replay. Returns: NULL, or what is wrong. */
const char *seed_read(const char *seed);

/** Is the next choice given? Sets *rank: `newest` less the option. */
bool replay_forced(unsigned *rank, unsigned newest);
bool replay_forced_choice(unsigned *value);

#endif

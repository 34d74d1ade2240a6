/* SPDX-License-Identifier: MIT */
#ifndef VMMU_KVM_INSTRUCTION_H
#define VMMU_KVM_INSTRUCTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * Is there a `syscall` instruction in this code of a program? The same bytes inside another instruction do not count.
 * Cost: of looking at each byte. No locks, no allocation.
 */
bool instruction_makes_calls(const uint8_t *code, size_t size);

#endif

/* SPDX-License-Identifier: MIT */
/* From a set of encodings to one case: random fields, operands that point into the data area, corner values. */
#ifndef VMMU_CPU_TEST_OPCODE_CASE_H
#define VMMU_CPU_TEST_OPCODE_CASE_H

#include "gen.h"
#include "opcode.h"

/*
 * Make case @number of @set. It depends on the seed, the set and the number alone. @modes: GEN_64, GEN_32, GEN_16.
 * @form: what it is a case of. Returns: false if no attempt gave a legal encoding.
 */
bool opcode_case(uint64_t seed, const struct opcode_list *list, const struct opcode_set *set, unsigned int number,
                 unsigned int modes, struct gen_case *out, const struct opcode_form **form);

/*
 * Make case @number of encodings that are no instruction: unused opcodes, operands that must not be there.
 * Returns: false if no attempt gave one.
 */
bool opcode_case_invalid(uint64_t seed, unsigned int number, unsigned int modes, struct gen_case *out);

#endif

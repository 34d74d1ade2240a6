/* SPDX-License-Identifier: MIT */
#ifndef CPU_STUB_GATHER_H
#define CPU_STUB_GATHER_H

#include "cpu/base/types.h"

/** The handler of a gather or a scatter. Returns: NULL for "not mine". */
op_fn *gather_select(const struct insn *insn, struct op *op);

#endif

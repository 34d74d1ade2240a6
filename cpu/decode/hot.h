/* SPDX-License-Identifier: MIT */
/*
 * The list of instruction forms that the loop of run/execute.c does itself, in 64-bit mode with flat addresses.
 * hot.c maps instructions to them.
 *
 * Names of forms: operand 0 and operand 1 (R register, M memory, I immediate), then the size in bytes. hot.c
 * computes with the order of forms and sizes within an instruction.
 */
#ifndef CPU_DECODE_HOT_H
#define CPU_DECODE_HOT_H

#include "cpu/base/types.h"

#define HOT_SIZES(X, N) X(N##1) X(N##4) X(N##8)
#define HOT_ALU(X, N) \
	HOT_SIZES(X, N##_RR) HOT_SIZES(X, N##_RI) HOT_SIZES(X, N##_RM) HOT_SIZES(X, N##_MR) HOT_SIZES(X, N##_MI)
#define HOT_UNARY(X, N) X(N##_R4) X(N##_R8) X(N##_M4) X(N##_M8)

#define HOT_LIST(X) \
	X(CALL_FN) X(END) X(CALL_FN_END) \
	HOT_ALU(X, MOV) HOT_ALU(X, ADD) HOT_ALU(X, SUB) HOT_ALU(X, AND) HOT_ALU(X, OR) HOT_ALU(X, XOR) HOT_ALU(X, CMP) \
	HOT_ALU(X, TEST) \
	X(MOV_RM2) X(MOV_MR2) X(MOV_MI2) \
	X(MOVZX_R1) X(MOVZX_R2) X(MOVZX_M1) X(MOVZX_M2) \
	X(MOVSX4_R1) X(MOVSX4_R2) X(MOVSX4_M1) X(MOVSX4_M2) \
	X(MOVSX8_R1) X(MOVSX8_R2) X(MOVSX8_R4) X(MOVSX8_M1) X(MOVSX8_M2) X(MOVSX8_M4) \
	X(LEA4) X(LEA8) \
	HOT_UNARY(X, INC) HOT_UNARY(X, DEC) X(NEG_R4) X(NEG_R8) X(NOT_R4) X(NOT_R8) \
	X(SHL_4) X(SHL_8) X(SHR_4) X(SHR_8) X(SAR_4) X(SAR_8) \
	X(IMUL_RR4) X(IMUL_RR8) X(IMUL_RM4) X(IMUL_RM8) X(IMUL_RRI4) X(IMUL_RRI8) \
	X(CMOV_RR4) X(CMOV_RR8) X(SETCC_R) X(SETCC_M) \
	X(PUSH_R8) X(PUSH_I8) X(POP_R8) X(LEAVE8) X(CDQ) X(CQO) X(CDQE) \
	X(CALL_REL) X(CALL_R) X(CALL_M) X(RET) X(JMP_REL) X(JMP_R) X(JMP_M) \
	X(JO) X(JNO) X(JB) X(JAE) X(JE) X(JNE) X(JBE) X(JA) X(JS) X(JNS) X(JP) X(JNP) X(JL) X(JGE) X(JLE) X(JG) \
	X(NOP) X(TRANSLATE) X(STOP)

enum hot {
#define HOT_ENUM(name) HOT_##name,
	HOT_LIST(HOT_ENUM)
#undef HOT_ENUM
	HOT_COUNT
};

/** Returns: the loop's own form for an op, for op_label_set; 0 (call op->fn) when it has none. */
unsigned hot_select(const struct insn *insn, struct op *op);

#endif

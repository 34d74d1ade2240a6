/* SPDX-License-Identifier: MIT */
/* What is tested: integer instructions. */
#include "gen.h"

#define M(name) ZYDIS_MNEMONIC_##name
#define LOCK ZYDIS_ATTRIB_HAS_LOCK
#define REP  ZYDIS_ATTRIB_HAS_REP
#define REPE ZYDIS_ATTRIB_HAS_REPE
#define REPNE ZYDIS_ATTRIB_HAS_REPNE
#define U_LOGIC GEN_AF
#define U_MUL (GEN_SF | GEN_ZF | GEN_AF | GEN_PF)
#define U_BIT (GEN_OF | GEN_SF | GEN_AF | GEN_PF)
#define U_COUNT (GEN_OF | GEN_SF | GEN_AF | GEN_PF)
#define U_BMI (GEN_AF | GEN_PF)
#define U_BEXTR (GEN_SF | GEN_AF | GEN_PF)
#define U_SCAN (GEN_CF | GEN_OF | GEN_SF | GEN_AF | GEN_PF)

#define ROW(name, form, sizes, kind, undefined) { M(name), form, sizes, kind, GEN_BOTH, undefined, 0 }
#define ROW64(name, form, sizes, kind, undefined) { M(name), form, sizes, kind, GEN_64, undefined, 0 }
#define ROW32(name, form, sizes, kind, undefined) { M(name), form, sizes, kind, GEN_32, undefined, 0 }
#define ROWP(name, form, sizes, kind, undefined, prefix) { M(name), form, sizes, kind, GEN_BOTH, undefined, prefix }

/* add or adc sbb and sub xor */
#define ALU(name, undefined)                                                                                  \
	ROW(name, "Ev,Rv", GEN_BWDQ, GEN_PLAIN, undefined), ROW(name, "Rv,Mv", GEN_BWDQ, GEN_PLAIN, undefined), \
		ROW(name, "Ev,Iv", GEN_BWDQ, GEN_PLAIN, undefined),                                           \
		ROW(name, "Av,Iv", GEN_BWDQ, GEN_PLAIN, undefined),                                           \
		ROWP(name, "Mv,Rv", GEN_BWDQ, GEN_PLAIN, undefined, LOCK),                                    \
		ROWP(name, "Mv,Iv", GEN_BWDQ, GEN_PLAIN, undefined, LOCK)

#define UNARY(name, undefined)                                                                                \
	ROW(name, "Ev", GEN_BWDQ, GEN_PLAIN, undefined), ROWP(name, "Mv", GEN_BWDQ, GEN_PLAIN, undefined, LOCK)

#define SHIFT(name, kind)                                                                                     \
	ROW(name, "Ev,1v", GEN_BWDQ, kind, 0), ROW(name, "Ev,Ib", GEN_BWDQ, kind, 0),                         \
		ROW(name, "Ev,Cv", GEN_BWDQ, kind, 0)

#define SHIFT2(name)                                                                                          \
	ROW(name, "Ev,Rv,Ib", GEN_WDQ, GEN_SHIFT2, 0), ROW(name, "Ev,Rv,Cv", GEN_WDQ, GEN_SHIFT2, 0)

#define BIT(name)                                                                                             \
	ROW(name, "Ev,Rv", GEN_WDQ, GEN_BIT, U_BIT), ROW(name, "Ev,Ib", GEN_WDQ, GEN_BIT, U_BIT)
#define BITL(name)                                                                                            \
	BIT(name), ROWP(name, "Mv,Rv", GEN_WDQ, GEN_BIT, U_BIT, LOCK), \
	ROWP(name, "Mv,Ib", GEN_WDQ, GEN_BIT, U_BIT, LOCK)

#define CONDITIONS(X) X(O) X(NO) X(B) X(NB) X(Z) X(NZ) X(BE) X(NBE) X(S) X(NS) X(P) X(NP) X(L) X(NL) X(LE) X(NLE)
#define SET(cc) ROW(SET##cc, "Eb", 0, GEN_PLAIN, 0),
#define CMOV(cc) ROW(CMOV##cc, "Rv,Ev", GEN_WDQ, GEN_PLAIN, 0),
#define JCC(cc) ROW(J##cc, "Jv", 0, GEN_BRANCH, 0),

/* One string instruction: sizes holds the element size, which the mnemonic fixes. */
#define STRING1(name, size, prefix) { M(name), "", size, GEN_STRING, GEN_BOTH, 0, prefix }
#define MOVE(name, size) STRING1(name, size, 0), STRING1(name, size, REP), STRING1(name, size, REP)
#define SCAN(name, size) STRING1(name, size, 0), STRING1(name, size, REPE), STRING1(name, size, REPNE)
#define MOVE64(name) { M(name), "", 8, GEN_STRING, GEN_64, 0, 0 }, { M(name), "", 8, GEN_STRING, GEN_64, 0, REP }
#define SCAN64(name) { M(name), "", 8, GEN_STRING, GEN_64, 0, REPE }, { M(name), "", 8, GEN_STRING, GEN_64, 0, REPNE }

static const struct gen_row rows[] = {
	ALU(ADD, 0), ALU(OR, U_LOGIC), ALU(ADC, 0), ALU(SBB, 0), ALU(AND, U_LOGIC), ALU(SUB, 0), ALU(XOR, U_LOGIC),
	ROW(CMP, "Ev,Rv", GEN_BWDQ, GEN_PLAIN, 0), ROW(CMP, "Rv,Mv", GEN_BWDQ, GEN_PLAIN, 0),
	ROW(CMP, "Ev,Iv", GEN_BWDQ, GEN_PLAIN, 0), ROW(CMP, "Av,Iv", GEN_BWDQ, GEN_PLAIN, 0),
	ROW(TEST, "Ev,Rv", GEN_BWDQ, GEN_PLAIN, U_LOGIC), ROW(TEST, "Ev,Iv", GEN_BWDQ, GEN_PLAIN, U_LOGIC),
	UNARY(INC, 0), UNARY(DEC, 0), UNARY(NEG, 0), UNARY(NOT, 0),

	ROW(MOV, "Ev,Rv", GEN_BWDQ, GEN_PLAIN, 0), ROW(MOV, "Rv,Mv", GEN_BWDQ, GEN_PLAIN, 0),
	ROW(MOV, "Ev,Iv", GEN_BWDQ, GEN_PLAIN, 0), ROW(MOV, "Av,Mv", GEN_BWDQ, GEN_PLAIN, 0),
	ROW(MOVZX, "Rv,Eb", GEN_WDQ, GEN_PLAIN, 0), ROW(MOVZX, "Rv,Ew", GEN_DQ, GEN_PLAIN, 0),
	ROW(MOVSX, "Rv,Eb", GEN_WDQ, GEN_PLAIN, 0), ROW(MOVSX, "Rv,Ew", GEN_DQ, GEN_PLAIN, 0),
	ROW64(MOVSXD, "Rv,Ed", GEN_DQ, GEN_PLAIN, 0),
	ROW(LEA, "Rv,Mv", GEN_WDQ, GEN_PLAIN, 0),
	ROW(XCHG, "Ev,Rv", GEN_BWDQ, GEN_PLAIN, 0), ROW(XCHG, "Av,Rv", GEN_WDQ, GEN_PLAIN, 0),
	ROW(XADD, "Ev,Rv", GEN_BWDQ, GEN_PLAIN, 0), ROWP(XADD, "Mv,Rv", GEN_BWDQ, GEN_PLAIN, 0, LOCK),
	ROW(CMPXCHG, "Ev,Rv", GEN_BWDQ, GEN_COMPARE, 0), ROWP(CMPXCHG, "Mv,Rv", GEN_BWDQ, GEN_COMPARE, 0, LOCK),
	ROW(CMPXCHG8B, "Mq", 0, GEN_COMPARE2, 0), ROWP(CMPXCHG8B, "Mq", 0, GEN_COMPARE2, 0, LOCK),
	ROW64(CMPXCHG16B, "Mo", 0, GEN_COMPARE2, 0),
	{ M(CMPXCHG16B), "Mo", 0, GEN_COMPARE2, GEN_64, 0, LOCK },
	ROW(BSWAP, "Rv", GEN_DQ, GEN_PLAIN, 0),
	CONDITIONS(SET) CONDITIONS(CMOV)
	ROW(CBW, "", 0, GEN_PLAIN, 0), ROW(CWDE, "", 0, GEN_PLAIN, 0), ROW64(CDQE, "", 0, GEN_PLAIN, 0),
	ROW(CWD, "", 0, GEN_PLAIN, 0), ROW(CDQ, "", 0, GEN_PLAIN, 0), ROW64(CQO, "", 0, GEN_PLAIN, 0),
	ROW(CLC, "", 0, GEN_PLAIN, 0), ROW(STC, "", 0, GEN_PLAIN, 0), ROW(CMC, "", 0, GEN_PLAIN, 0),
	ROW(CLD, "", 0, GEN_PLAIN, 0), ROW(STD, "", 0, GEN_PLAIN, 0),
	ROW(LAHF, "", 0, GEN_PLAIN, 0), ROW(SAHF, "", 0, GEN_PLAIN, 0),
	ROW(XLAT, "", 0, GEN_XLAT, 0),
	ROW(NOP, "", 0, GEN_PLAIN, 0), ROW(NOP, "Ev", GEN_WDQ, GEN_PLAIN, 0), ROW(PAUSE, "", 0, GEN_PLAIN, 0),
	ROW(LFENCE, "", 0, GEN_PLAIN, 0), ROW(MFENCE, "", 0, GEN_PLAIN, 0), ROW(SFENCE, "", 0, GEN_PLAIN, 0),
	ROW(UD2, "", 0, GEN_PLAIN, 0),

	SHIFT(SHL, GEN_SHIFT), SHIFT(SHR, GEN_SHIFT), SHIFT(SAR, GEN_SHIFT),
	SHIFT(ROL, GEN_ROTATE), SHIFT(ROR, GEN_ROTATE), SHIFT(RCL, GEN_ROTATE), SHIFT(RCR, GEN_ROTATE),
	SHIFT2(SHLD), SHIFT2(SHRD),
	BIT(BT), BITL(BTS), BITL(BTR), BITL(BTC),
	ROW(BSF, "Rv,Ev", GEN_WDQ, GEN_SCAN, U_SCAN), ROW(BSR, "Rv,Ev", GEN_WDQ, GEN_SCAN, U_SCAN),
	ROW(POPCNT, "Rv,Ev", GEN_WDQ, GEN_PLAIN, 0),
	ROW(LZCNT, "Rv,Ev", GEN_WDQ, GEN_PLAIN, U_COUNT),
	ROW(TZCNT, "Rv,Ev", GEN_WDQ, GEN_PLAIN, U_COUNT),
	ROW(ANDN, "Rv,Rv,Ev", GEN_DQ, GEN_PLAIN, U_BMI), ROW(BEXTR, "Rv,Ev,Rv", GEN_DQ, GEN_EXTRACT, U_BEXTR),
	ROW(BLSI, "Rv,Ev", GEN_DQ, GEN_PLAIN, U_BMI), ROW(BLSMSK, "Rv,Ev", GEN_DQ, GEN_PLAIN, U_BMI),
	ROW(BLSR, "Rv,Ev", GEN_DQ, GEN_PLAIN, U_BMI), ROW(BZHI, "Rv,Ev,Rv", GEN_DQ, GEN_EXTRACT, U_BMI),
	ROW(MULX, "Rv,Rv,Ev", GEN_DQ, GEN_PLAIN, 0), ROW(PDEP, "Rv,Rv,Ev", GEN_DQ, GEN_PLAIN, 0),
	ROW(PEXT, "Rv,Rv,Ev", GEN_DQ, GEN_PLAIN, 0), ROW(RORX, "Rv,Ev,Ib", GEN_DQ, GEN_PLAIN, 0),
	ROW(SARX, "Rv,Ev,Rv", GEN_DQ, GEN_PLAIN, 0), ROW(SHLX, "Rv,Ev,Rv", GEN_DQ, GEN_PLAIN, 0),
	ROW(SHRX, "Rv,Ev,Rv", GEN_DQ, GEN_PLAIN, 0),
	ROW(ADCX, "Rv,Ev", GEN_DQ, GEN_PLAIN, 0), ROW(ADOX, "Rv,Ev", GEN_DQ, GEN_PLAIN, 0),
	ROW(CRC32, "Rd,Eb", 0, GEN_PLAIN, 0), ROW(CRC32, "Rd,Ew", 0, GEN_PLAIN, 0),
	ROW(CRC32, "Rd,Ed", 0, GEN_PLAIN, 0),
	ROW64(CRC32, "Rq,Eb", 0, GEN_PLAIN, 0), ROW64(CRC32, "Rq,Eq", 0, GEN_PLAIN, 0),
	ROW(RDRAND, "Rv", GEN_WDQ, GEN_RANDOM, 0), ROW(RDSEED, "Rv", GEN_WDQ, GEN_RANDOM, GEN_CF),
	ROW(CLZERO, "Av", GEN_WDQ, GEN_LINE, 0),
	ROW(MOVDIRI, "Mv,Rv", GEN_DQ, GEN_PLAIN, 0),
	ROW(PREFETCHW, "Mb", 0, GEN_PLAIN, 0), ROW(PREFETCHWT1, "Mb", 0, GEN_PLAIN, 0),
	ROW(PREFETCH, "Mb", 0, GEN_PLAIN, 0), ROW(CLFLUSHOPT, "Mz", 0, GEN_PLAIN, 0),
	ROW(CLWB, "Mz", 0, GEN_PLAIN, 0), ROW(SERIALIZE, "", 0, GEN_PLAIN, 0),
	ROW(MOVBE, "Rv,Mv", GEN_WDQ, GEN_PLAIN, 0), ROW(MOVBE, "Mv,Rv", GEN_WDQ, GEN_PLAIN, 0),
	ROW(IMUL, "Rv,Ev", GEN_WDQ, GEN_PLAIN, U_MUL), ROW(IMUL, "Rv,Ev,Iv", GEN_WDQ, GEN_PLAIN, U_MUL),
	ROW(IMUL, "Ev", GEN_BWDQ, GEN_PLAIN, U_MUL), ROW(MUL, "Ev", GEN_BWDQ, GEN_PLAIN, U_MUL),
	ROW(DIV, "Ev", GEN_BWDQ, GEN_DIVIDE, GEN_STATUS), ROW(IDIV, "Ev", GEN_BWDQ, GEN_DIVIDE, GEN_STATUS),
	ROW32(AAA, "", 0, GEN_PLAIN, GEN_OF | GEN_SF | GEN_ZF | GEN_PF),
	ROW32(AAS, "", 0, GEN_PLAIN, GEN_OF | GEN_SF | GEN_ZF | GEN_PF),
	ROW32(DAA, "", 0, GEN_PLAIN, GEN_OF), ROW32(DAS, "", 0, GEN_PLAIN, GEN_OF),
	ROW32(AAM, "Ib", 0, GEN_PLAIN, GEN_OF | GEN_AF | GEN_CF),
	ROW32(AAD, "Ib", 0, GEN_PLAIN, GEN_OF | GEN_AF | GEN_CF),
	ROW32(SALC, "", 0, GEN_PLAIN, 0),
	ROW32(ARPL, "Ew,Rw", 0, GEN_PLAIN, 0),
	ROW32(BOUND, "Rd,Mq", 0, GEN_BOUND, 0), ROW32(BOUND, "Rw,Md", 0, GEN_BOUND, 0),

	ROW(PUSH, "Rv", GEN_WDQ, GEN_STACK, 0), ROW(PUSH, "Mv", GEN_WDQ, GEN_STACK, 0),
	ROW(PUSH, "Iv", GEN_WDQ, GEN_STACK, 0),
	ROW(POP, "Rv", GEN_WDQ, GEN_STACK, 0), ROW(POP, "Mv", GEN_WDQ, GEN_STACK, 0),
	ROW32(PUSHAD, "", 0, GEN_STACK, 0), ROW32(POPAD, "", 0, GEN_STACK, 0),
	ROW32(PUSHA, "", 0, GEN_STACK, 0), ROW32(POPA, "", 0, GEN_STACK, 0),
	ROW64(PUSHFQ, "", 0, GEN_STACK, 0), ROW32(PUSHFD, "", 0, GEN_STACK, 0), ROW(PUSHF, "", 0, GEN_STACK, 0),
	ROW64(POPFQ, "", 0, GEN_POPF, 0), ROW32(POPFD, "", 0, GEN_POPF, 0), ROW(POPF, "", 0, GEN_POPF, 0),
	ROW(ENTER, "Iw,Ib", 0, GEN_STACK, 0), ROW(LEAVE, "", 0, GEN_LEAVE, 0),

	CONDITIONS(JCC)
	ROW(JMP, "Jv", 0, GEN_BRANCH, 0), ROW(CALL, "Jv", 0, GEN_BRANCH, 0),
	ROW(LOOP, "Jv", 0, GEN_BRANCH, 0), ROW(LOOPE, "Jv", 0, GEN_BRANCH, 0), ROW(LOOPNE, "Jv", 0, GEN_BRANCH, 0),
	ROW64(JRCXZ, "Jv", 0, GEN_BRANCH, 0), ROW(JECXZ, "Jv", 0, GEN_BRANCH, 0),
	{ M(JCXZ), "Jv", 0, GEN_BRANCH, GEN_16, 0, 0 },
	ROW64(JMP, "Eq", GEN_Q, GEN_INDIRECT, 0), ROW32(JMP, "Ev", GEN_WD, GEN_INDIRECT, 0),
	ROW64(CALL, "Eq", GEN_Q, GEN_INDIRECT, 0), ROW32(CALL, "Ev", GEN_WD, GEN_INDIRECT, 0),
	ROW(RET, "", 0, GEN_RETURN, 0), ROW(RET, "Iw", 0, GEN_RETURN, 0),

	MOVE(MOVSB, 1), MOVE(MOVSW, 2), MOVE(MOVSD, 4), MOVE64(MOVSQ),
	MOVE(STOSB, 1), MOVE(STOSW, 2), MOVE(STOSD, 4), MOVE64(STOSQ),
	MOVE(LODSB, 1), MOVE(LODSW, 2), MOVE(LODSD, 4), MOVE64(LODSQ),
	SCAN(CMPSB, 1), SCAN(CMPSW, 2), SCAN(CMPSD, 4), SCAN64(CMPSQ),
	SCAN(SCASB, 1), SCAN(SCASW, 2), SCAN(SCASD, 4), SCAN64(SCASQ),
};

const struct gen_table gen_table_int = { rows, sizeof(rows) / sizeof(rows[0]) };

/* SPDX-License-Identifier: MIT */
/* What is tested: SSE, SSE2 and SSE3; MMX. */
#include "gen.h"

#define M(name) ZYDIS_MNEMONIC_##name
#define ROW(name, form, sizes) { M(name), form, sizes, GEN_PLAIN, GEN_BOTH, 0, 0 }
#define ROW64(name, form, sizes) { M(name), form, sizes, GEN_PLAIN, GEN_64, 0, 0 }
#define FP(name, form, sizes) { M(name), form, sizes, GEN_FLOAT, GEN_BOTH, 0, 0 }
#define FP64(name, form, sizes) { M(name), form, sizes, GEN_FLOAT, GEN_64, 0, 0 }

/* The same operation on packed and scalar singles and doubles. */
#define FP4(name) \
	FP(name##PS, "Xo,Wo", 0), FP(name##PD, "Xo,Wo", 0), FP(name##SS, "Xo,Wd", 0), FP(name##SD, "Xo,Wq", 0)
#define INT(name) ROW(name, "Xo,Wo", 0)
#define SHIFT(name) ROW(name, "Xo,Wo", 0), ROW(name, "Xo,Ib", 0)

static const struct gen_row rows[] = {
	/* moves */
	ROW(MOVUPS, "Wo,Xo", 0), ROW(MOVUPS, "Xo,Mo", 0), ROW(MOVAPS, "Wo,Xo", 0), ROW(MOVAPS, "Xo,Mo", 0),
	ROW(MOVUPD, "Wo,Xo", 0), ROW(MOVUPD, "Xo,Mo", 0), ROW(MOVAPD, "Wo,Xo", 0), ROW(MOVAPD, "Xo,Mo", 0),
	ROW(MOVDQU, "Wo,Xo", 0), ROW(MOVDQU, "Xo,Mo", 0), ROW(MOVDQA, "Wo,Xo", 0), ROW(MOVDQA, "Xo,Mo", 0),
	ROW(MOVQ, "Xo,Wq", 0), ROW(MOVQ, "Mq,Xo", 0), ROW64(MOVQ, "Xo,Rq", 0), ROW64(MOVQ, "Rq,Xo", 0),
	ROW(MOVD, "Xo,Ed", 0), ROW(MOVD, "Ed,Xo", 0),
	ROW(MOVSS, "Xo,Wd", 0), ROW(MOVSS, "Md,Xo", 0), ROW(MOVSD, "Xo,Wq", 0), ROW(MOVSD, "Mq,Xo", 0),
	ROW(MOVHPS, "Xo,Mq", 0), ROW(MOVHPS, "Mq,Xo", 0), ROW(MOVLPS, "Xo,Mq", 0), ROW(MOVLPS, "Mq,Xo", 0),
	ROW(MOVHPD, "Xo,Mq", 0), ROW(MOVHPD, "Mq,Xo", 0), ROW(MOVLPD, "Xo,Mq", 0), ROW(MOVLPD, "Mq,Xo", 0),
	ROW(MOVHLPS, "Xo,Xo", 0), ROW(MOVLHPS, "Xo,Xo", 0),
	ROW(MOVNTI, "Mv,Rv", GEN_DQ), ROW(MOVNTDQ, "Mo,Xo", 0), ROW(MOVNTPS, "Mo,Xo", 0), ROW(MOVNTPD, "Mo,Xo", 0),
	{ M(MASKMOVDQU), "Xo,Xo", 0, GEN_MASKMOV, GEN_BOTH, 0, 0 },
	ROW(MOVMSKPS, "Rd,Xo", 0), ROW(MOVMSKPD, "Rd,Xo", 0), ROW(PMOVMSKB, "Rd,Xo", 0),

	/* integers */
	INT(PADDB), INT(PADDW), INT(PADDD), INT(PADDQ), INT(PADDSB), INT(PADDSW), INT(PADDUSB), INT(PADDUSW),
	INT(PSUBB), INT(PSUBW), INT(PSUBD), INT(PSUBQ), INT(PSUBSB), INT(PSUBSW), INT(PSUBUSB), INT(PSUBUSW),
	INT(PMULLW), INT(PMULHW), INT(PMULHUW), INT(PMULUDQ), INT(PMADDWD), INT(PSADBW), INT(PAVGB), INT(PAVGW),
	INT(PMINUB), INT(PMINSW), INT(PMAXUB), INT(PMAXSW),
	INT(PCMPEQB), INT(PCMPEQW), INT(PCMPEQD), INT(PCMPGTB), INT(PCMPGTW), INT(PCMPGTD),
	INT(PAND), INT(PANDN), INT(POR), INT(PXOR),
	INT(PACKSSWB), INT(PACKSSDW), INT(PACKUSWB),
	INT(PUNPCKLBW), INT(PUNPCKLWD), INT(PUNPCKLDQ), INT(PUNPCKLQDQ),
	INT(PUNPCKHBW), INT(PUNPCKHWD), INT(PUNPCKHDQ), INT(PUNPCKHQDQ),
	SHIFT(PSLLW), SHIFT(PSLLD), SHIFT(PSLLQ), SHIFT(PSRLW), SHIFT(PSRLD), SHIFT(PSRLQ), SHIFT(PSRAW), SHIFT(PSRAD),
	ROW(PSLLDQ, "Xo,Ib", 0), ROW(PSRLDQ, "Xo,Ib", 0),
	ROW(PSHUFD, "Xo,Wo,Ib", 0), ROW(PSHUFLW, "Xo,Wo,Ib", 0), ROW(PSHUFHW, "Xo,Wo,Ib", 0),
	ROW(PINSRW, "Xo,Rd,Ib", 0), ROW(PINSRW, "Xo,Mw,Ib", 0), ROW(PEXTRW, "Rd,Xo,Ib", 0),

	/* floating point */
	INT(ANDPS), INT(ANDPD), INT(ANDNPS), INT(ANDNPD), INT(ORPS), INT(ORPD), INT(XORPS), INT(XORPD),
	INT(UNPCKLPS), INT(UNPCKLPD), INT(UNPCKHPS), INT(UNPCKHPD),
	ROW(SHUFPS, "Xo,Wo,Ib", 0), ROW(SHUFPD, "Xo,Wo,Ib", 0),
	FP4(ADD), FP4(SUB), FP4(MUL), FP4(DIV), FP4(MIN), FP4(MAX), FP4(SQRT),
	FP(RCPPS, "Xo,Wo", 0), FP(RCPSS, "Xo,Wd", 0), FP(RSQRTPS, "Xo,Wo", 0), FP(RSQRTSS, "Xo,Wd", 0),
	FP(CMPPS, "Xo,Wo,Ib", 0), FP(CMPPD, "Xo,Wo,Ib", 0), FP(CMPSS, "Xo,Wd,Ib", 0), FP(CMPSD, "Xo,Wq,Ib", 0),
	FP(COMISS, "Xo,Wd", 0), FP(COMISD, "Xo,Wq", 0), FP(UCOMISS, "Xo,Wd", 0), FP(UCOMISD, "Xo,Wq", 0),
	FP(CVTDQ2PS, "Xo,Wo", 0), FP(CVTPS2DQ, "Xo,Wo", 0), FP(CVTTPS2DQ, "Xo,Wo", 0),
	FP(CVTDQ2PD, "Xo,Wq", 0), FP(CVTPD2DQ, "Xo,Wo", 0), FP(CVTTPD2DQ, "Xo,Wo", 0),
	FP(CVTPS2PD, "Xo,Wq", 0), FP(CVTPD2PS, "Xo,Wo", 0), FP(CVTSS2SD, "Xo,Wd", 0), FP(CVTSD2SS, "Xo,Wq", 0),
	FP(CVTPI2PS, "Xo,Qq", 0), FP(CVTPI2PD, "Xo,Qq", 0), FP(CVTPS2PI, "Pq,Wq", 0), FP(CVTTPS2PI, "Pq,Wq", 0),
	FP(CVTPD2PI, "Pq,Wo", 0), FP(CVTTPD2PI, "Pq,Wo", 0),
	FP(CVTSI2SS, "Xo,Ed", 0), FP(CVTSI2SD, "Xo,Ed", 0), FP64(CVTSI2SS, "Xo,Eq", 0), FP64(CVTSI2SD, "Xo,Eq", 0),
	FP(CVTSS2SI, "Rv,Wd", GEN_DQ), FP(CVTTSS2SI, "Rv,Wd", GEN_DQ),
	FP(CVTSD2SI, "Rv,Wq", GEN_DQ), FP(CVTTSD2SI, "Rv,Wq", GEN_DQ),
	FP(ADDSUBPS, "Xo,Wo", 0), FP(ADDSUBPD, "Xo,Wo", 0), FP(HADDPS, "Xo,Wo", 0), FP(HADDPD, "Xo,Wo", 0),
	FP(HSUBPS, "Xo,Wo", 0), FP(HSUBPD, "Xo,Wo", 0),
	ROW(MOVDDUP, "Xo,Wq", 0), ROW(MOVSLDUP, "Xo,Wo", 0), ROW(MOVSHDUP, "Xo,Wo", 0), ROW(LDDQU, "Xo,Mo", 0),
	FP(LDMXCSR, "Md", 0), FP(STMXCSR, "Md", 0),
};

const struct gen_table gen_table_sse = { rows, sizeof(rows) / sizeof(rows[0]) };

#define MMX(name, form) { M(name), form, 0, GEN_MMX, GEN_BOTH, 0, 0 }
#define MMX64(name, form) { M(name), form, 0, GEN_MMX, GEN_64, 0, 0 }
#define MMX2(name) MMX(name, "Pq,Qq")
#define MMXSHIFT(name) MMX(name, "Pq,Qq"), MMX(name, "Pq,Ib")

static const struct gen_row mmx_rows[] = {
	MMX(MOVD, "Pq,Ed"), MMX(MOVD, "Ed,Pq"), MMX(MOVQ, "Pq,Qq"), MMX(MOVQ, "Mq,Pq"), MMX64(MOVQ, "Pq,Rq"),
	MMX64(MOVQ, "Rq,Pq"), MMX(MOVNTQ, "Mq,Pq"), MMX(MOVQ2DQ, "Xo,Pq"), MMX(MOVDQ2Q, "Pq,Xo"),
	MMX(PMOVMSKB, "Rd,Pq"), MMX(PINSRW, "Pq,Rd,Ib"), MMX(PINSRW, "Pq,Mw,Ib"), MMX(PEXTRW, "Rd,Pq,Ib"),
	MMX(PSHUFW, "Pq,Qq,Ib"), { M(MASKMOVQ), "Pq,Pq", 0, GEN_MASKMOV, GEN_BOTH, 0, 0 },
	MMX2(PADDB), MMX2(PADDW), MMX2(PADDD), MMX2(PADDQ), MMX2(PADDSB), MMX2(PADDSW), MMX2(PADDUSB), MMX2(PADDUSW),
	MMX2(PSUBB), MMX2(PSUBW), MMX2(PSUBD), MMX2(PSUBQ), MMX2(PSUBSB), MMX2(PSUBSW), MMX2(PSUBUSB), MMX2(PSUBUSW),
	MMX2(PMULLW), MMX2(PMULHW), MMX2(PMULHUW), MMX2(PMULUDQ), MMX2(PMADDWD), MMX2(PSADBW), MMX2(PAVGB),
	MMX2(PAVGW), MMX2(PMINUB), MMX2(PMINSW), MMX2(PMAXUB), MMX2(PMAXSW), MMX2(PCMPEQB), MMX2(PCMPEQW),
	MMX2(PCMPEQD), MMX2(PCMPGTB), MMX2(PCMPGTW), MMX2(PCMPGTD), MMX2(PAND), MMX2(PANDN), MMX2(POR), MMX2(PXOR),
	MMX2(PACKSSWB), MMX2(PACKSSDW), MMX2(PACKUSWB), MMX(PUNPCKLBW, "Pq,Qd"), MMX(PUNPCKLWD, "Pq,Qd"),
	MMX(PUNPCKLDQ, "Pq,Qd"), MMX2(PUNPCKHBW), MMX2(PUNPCKHWD), MMX2(PUNPCKHDQ),
	MMXSHIFT(PSLLW), MMXSHIFT(PSLLD), MMXSHIFT(PSLLQ), MMXSHIFT(PSRLW), MMXSHIFT(PSRLD), MMXSHIFT(PSRLQ),
	MMXSHIFT(PSRAW), MMXSHIFT(PSRAD), MMX(EMMS, ""),
};

const struct gen_table gen_table_mmx = { mmx_rows, sizeof(mmx_rows) / sizeof(mmx_rows[0]) };

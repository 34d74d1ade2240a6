/* SPDX-License-Identifier: MIT */
/* What is tested: x87. */
#include "gen.h"

#define ROW(name, form) { ZYDIS_MNEMONIC_##name, form, 0, GEN_X87, GEN_BOTH, 0, 0 }
#define ROW64(name, form) { ZYDIS_MNEMONIC_##name, form, 0, GEN_X87, GEN_64, 0, 0 }
#define ARITHMETIC(name) \
	ROW(F##name, "Md"), ROW(F##name, "Mq"), ROW(F##name, "Tt,St"), ROW(F##name, "St,Tt"), \
	ROW(F##name##P, "St,Tt"), \
		ROW(FI##name, "Md"), ROW(FI##name, "Mw")
#define COMPARE(name) ROW(name, "Md"), ROW(name, "Mq"), ROW(name, "St")

static const struct gen_row rows[] = {
	ARITHMETIC(ADD), ARITHMETIC(SUB), ARITHMETIC(SUBR), ARITHMETIC(MUL), ARITHMETIC(DIV), ARITHMETIC(DIVR),
	ROW(FLD, "Md"), ROW(FLD, "Mq"), ROW(FLD, "Mt"), ROW(FLD, "St"), ROW(FST, "Md"), ROW(FST, "Mq"), ROW(FST, "St"),
	ROW(FSTP, "Md"), ROW(FSTP, "Mq"), ROW(FSTP, "Mt"), ROW(FSTP, "St"), ROW(FILD, "Mw"), ROW(FILD, "Md"),
	ROW(FILD, "Mq"), ROW(FIST, "Mw"), ROW(FIST, "Md"), ROW(FISTP, "Mw"), ROW(FISTP, "Md"), ROW(FISTP, "Mq"),
	ROW(FISTTP, "Mw"), ROW(FISTTP, "Md"), ROW(FISTTP, "Mq"), ROW(FBLD, "Mt"), ROW(FBSTP, "Mt"), ROW(FXCH, "St"),
	ROW(FFREE, "St"),
	COMPARE(FCOM), COMPARE(FCOMP), ROW(FUCOM, "St"), ROW(FUCOMP, "Tt,St"), ROW(FCOMPP, ""), ROW(FUCOMPP, ""),
	ROW(FICOM, "Mw"), ROW(FICOM, "Md"), ROW(FICOMP, "Mw"), ROW(FICOMP, "Md"), ROW(FTST, ""), ROW(FXAM, ""),
	ROW(FCOMI, "Tt,St"), ROW(FCOMIP, "Tt,St"), ROW(FUCOMI, "Tt,St"), ROW(FUCOMIP, "Tt,St"),
	ROW(FCMOVB, "Tt,St"), ROW(FCMOVE, "Tt,St"), ROW(FCMOVBE, "Tt,St"), ROW(FCMOVU, "Tt,St"),
	ROW(FCMOVNB, "Tt,St"), ROW(FCMOVNE, "Tt,St"), ROW(FCMOVNBE, "Tt,St"), ROW(FCMOVNU, "Tt,St"),
	ROW(FABS, ""), ROW(FCHS, ""), ROW(FRNDINT, ""), ROW(FSCALE, ""), ROW(FSQRT, ""), ROW(FXTRACT, ""),
	ROW(FPREM, ""), ROW(FPREM1, ""), ROW(FLD1, ""), ROW(FLDZ, ""), ROW(FLDPI, ""), ROW(FLDL2E, ""), ROW(FLDL2T, ""),
	ROW(FLDLG2, ""), ROW(FLDLN2, ""), ROW(F2XM1, ""), ROW(FYL2X, ""), ROW(FYL2XP1, ""), ROW(FPATAN, ""),
	ROW(FPTAN, ""), ROW(FSIN, ""), ROW(FCOS, ""), ROW(FSINCOS, ""), ROW(FINCSTP, ""), ROW(FDECSTP, ""),
	ROW(FNOP, ""), ROW(FNINIT, ""), ROW(FNCLEX, ""), ROW(FLDCW, "Mw"), ROW(FLDENV, "Me"), ROW(FLDENV, "Mf"),
	ROW(FRSTOR, "Ms"), ROW(FRSTOR, "Mr"), ROW(FNSTENV, "Me"), ROW(FNSTENV, "Mf"), ROW(FNSAVE, "Ms"),
	ROW(FNSAVE, "Mr"), ROW(FNSTCW, "Mw"), ROW(FNSTSW, "Mw"), ROW(FNSTSW, "Aw"),
	ROW(FWAIT, ""), ROW(FXSAVE, "Mx"), ROW(FXRSTOR, "Mx"), ROW64(FXSAVE64, "Mx"), ROW64(FXRSTOR64, "Mx"),
};

const struct gen_table gen_table_x87 = { rows, sizeof(rows) / sizeof(rows[0]) };

/* SPDX-License-Identifier: MIT */
/* The models that --cpu-model takes, and whether this machine can be one. */
#include "cli/cli.h"
#include <string.h>

bool model_exists(const char *name)
{
	return strcmp(name, "host") == 0 || (name[0] == 'v' && name[1] >= '1' && name[1] <= '4' && !name[2]);
}

/* What the software CPU takes from the processor; the rest of a level it does by itself. */
static const char *missing(char level)
{
	if (level >= '2' && !__builtin_cpu_supports("ssse3"))
		return "SSSE3";
	if (level >= '2' && !__builtin_cpu_supports("sse4.2"))
		return "SSE4.2";
	if (level >= '3' && !__builtin_cpu_supports("avx2"))
		return "AVX2";
	if (level >= '3' && !__builtin_cpu_supports("fma"))
		return "FMA";
	if (level >= '3' && !(__builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2")))
		return "BMI1 or BMI2";
	if (level >= '4' && !(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	                      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
	                      __builtin_cpu_supports("avx512vl")))
		return "AVX-512";
	return NULL;
}

const char *model_missing(const char *name)
{
	return name && name[0] == 'v' ? missing(name[1]) : NULL;
}

/* SPDX-License-Identifier: MIT */
/*
 * The engine of a test's CPUs, from the environment, so that each test is one of every engine:
 *
 *     VMMU_CPU_ENGINE=interpret|translate|check
 *     VMMU_CPU_TUNING=[r][m][e]  with translate and check. r: code is translated when it runs for the first time; m: no
 *                                access finds its page in the TLB; e: all flags live everywhere
 */
#ifndef VMMU_CPU_TEST_ENGINE_H
#define VMMU_CPU_TEST_ENGINE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"

static inline void engine_from_environment(void)
{
	const char *name = getenv("VMMU_CPU_ENGINE"), *tuning = getenv("VMMU_CPU_TUNING");
	enum cpu_engine engine = CPU_ENGINE_INTERPRET;

	if (name != NULL && strcmp(name, "translate") == 0)
		engine = CPU_ENGINE_TRANSLATE;
	else if (name != NULL && strcmp(name, "check") == 0)
		engine = CPU_ENGINE_CHECK;
	if (!cpu_engine_set(engine)) {
		fprintf(stderr, "no code can be made here\n");
		exit(77);
	}
	if (tuning != NULL)
		cpu_translate_tune(&(struct cpu_translate_tuning){
			.runs = strchr(tuning, 'r') != NULL ? 1 : 4, .miss = strchr(tuning, 'm') != NULL,
			.exact = strchr(tuning, 'e') != NULL,
		});
}

#endif

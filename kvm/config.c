/* SPDX-License-Identifier: MIT */
#include "kvm/config.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

bool config_stats(void)
{
	const char *value = getenv(CONFIG_ENV_STATS);

	return value && strcmp(value, "1") == 0;
}

const char *config_trace(void)
{
	const char *value = getenv(CONFIG_ENV_TRACE);

	return value && *value ? value : NULL;
}

enum vmmu_format config_format(void)
{
	static const struct {
		const char *name;
		enum vmmu_format format;
	} formats[] = {
		{ "npt4", VMMU_FORMAT_NPT4 },
		{ "npt5", VMMU_FORMAT_NPT5 },
		{ "ept4", VMMU_FORMAT_EPT4 },
		{ "ept5", VMMU_FORMAT_EPT5 },
	};
	const char *value = getenv(CONFIG_ENV_FORMAT);

	for (unsigned i = 0; value && i < sizeof(formats) / sizeof(*formats); i++)
		if (strcmp(value, formats[i].name) == 0)
			return formats[i].format;
	return VMMU_FORMAT_NPT4;
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

uint32_t config_tsc_khz(void)
{
	static uint32_t khz;
	int64_t begin, end;
	uint64_t tsc;

	if (__atomic_load_n(&khz, __ATOMIC_RELAXED))
		return khz;
	begin = now_ns();
	tsc = __rdtsc();
	do
		end = now_ns();
	while (end - begin < 2000000);
	tsc = __rdtsc() - tsc;
	__atomic_store_n(&khz, (uint32_t)(tsc * 1000000 / (uint64_t)(end - begin)), __ATOMIC_RELAXED);
	return khz;
}

bool config_tsc_khz_close(uint32_t khz)
{
	uint64_t host = config_tsc_khz(), slack = host * 250 / 1000000;

	return khz + slack >= host && khz <= host + slack;
}

/* SPDX-License-Identifier: MIT */
#include "cpu/cpu.h"
#include "kvm/process/config.h"
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

static const char *const variables[] = {
	CONFIG_ENV_STATS, CONFIG_ENV_TRACE, CONFIG_ENV_MMU, CONFIG_ENV_FORMAT, CONFIG_ENV_NESTED,
	CONFIG_ENV_CPU_MODEL, CONFIG_ENV_CPU_ENGINE, CONFIG_ENV_HOST_MEMORY, CONFIG_ENV_HOST_SWAP,
	CONFIG_ENV_HOST_SWAP_SIZE, CONFIG_ENV_WATCH, CONFIG_ENV_HOST_KVM, CONFIG_ENV_RAW,
};
#define TSC_MEASURE_NS 5000000u /* reading errors of some 20 ns are then 4 ppm */
#define VARIABLES (sizeof(variables) / sizeof(*variables))

_Static_assert(VARIABLES <= CONFIG_KEPT, "room for all");

static const char *kept[VARIABLES + 1]; /* "NAME=value" */
static const char *library;

/* The value in "NAME=value". Returns: NULL when the entry has another name. */
static const char *value_in(const char *entry, const char *name)
{
	size_t length = strlen(name);

	return strncmp(entry, name, length) == 0 && entry[length] == '=' ? entry + length + 1 : NULL;
}

/* One moment by the host's clock and by its TSC. */
struct moment {
	uint64_t ns, tsc, error; /* `error`: how many cycles the reading took */
};

static struct moment first;

static struct moment moment_read(void)
{
	struct moment best = { .error = UINT64_MAX };

	/* The shortest of some readings is the one that nothing interrupted. */
	for (int i = 0; i < 5; i++) {
		struct timespec t;
		uint64_t before = __rdtsc(), cycles;

		clock_gettime(CLOCK_MONOTONIC_RAW, &t);
		cycles = __rdtsc() - before;
		if (cycles < best.error)
			best = (struct moment){ (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec,
				before + cycles / 2, cycles };
	}
	return best;
}

static const char *config_get(const char *name)
{
	for (const char **entry = kept; *entry; entry++) {
		const char *value = value_in(*entry, name);

		if (value)
			return *value ? value : NULL;
	}
	return NULL;
}

static enum cpu_model config_cpu_model(void)
{
	const char *value = config_get(CONFIG_ENV_CPU_MODEL);

	if (!value || value[0] != 'v' || value[1] < '1' || value[1] > '4' || value[2])
		return CPU_MODEL_HOST;
	return CPU_MODEL_V1 + (enum cpu_model)(value[1] - '1');
}

static enum cpu_engine config_cpu_engine(void)
{
	const char *value = config_get(CONFIG_ENV_CPU_ENGINE);

	if (value && strcmp(value, "translate") == 0)
		return CPU_ENGINE_TRANSLATE;
	return value && strcmp(value, "check") == 0 ? CPU_ENGINE_CHECK : CPU_ENGINE_INTERPRET;
}

void config_init(void)
{
	size_t count = 0;
	Dl_info info;

	/* Do not call getenv: a shell defines its own, which does not work yet when constructors run. */
	for (char **entry = environ; entry && *entry; entry++)
		for (size_t i = 0; i < VARIABLES; i++)
			if (count < VARIABLES && value_in(*entry, variables[i]))
				kept[count++] = strdup(*entry);
	cpu_model_set(config_cpu_model());
	(void)cpu_engine_set(config_cpu_engine()); /* where it cannot be, guests are interpreted */
	first = moment_read();
	if (dladdr(variables, &info) && info.dli_fname)
		library = strdup(info.dli_fname);
}

const char *config_library(void)
{
	return library;
}

const char *const *config_kept(void)
{
	return kept;
}

const char *config_watch(void)
{
	return config_get(CONFIG_ENV_WATCH);
}

bool config_stats(void)
{
	const char *value = config_get(CONFIG_ENV_STATS);

	return value && strcmp(value, "1") == 0;
}

bool config_host_kvm(void)
{
	return config_get(CONFIG_ENV_HOST_KVM);
}

enum config_raw config_raw(void)
{
	const char *value = config_get(CONFIG_ENV_RAW);

	return value && strcmp(value, "on") == 0 ? RAW_ON : value && strcmp(value, "off") == 0 ? RAW_OFF : RAW_AUTO;
}

const char *config_trace(void)
{
	return config_get(CONFIG_ENV_TRACE);
}

static uint64_t bytes_of(const char *name)
{
	const char *value = config_get(name);

	return value ? strtoull(value, NULL, 10) : 0;
}

bool config_host_memory(uint64_t *budget, const char **swap_path, uint64_t *swap_bytes)
{
	const char *path = config_get(CONFIG_ENV_HOST_SWAP);

	*budget = bytes_of(CONFIG_ENV_HOST_MEMORY);
	*swap_path = path;
	*swap_bytes = bytes_of(CONFIG_ENV_HOST_SWAP_SIZE);
	if (!*swap_bytes)
		*swap_bytes = *budget * 4;
	return *budget != 0;
}

enum vmmu_mmu config_mmu(void)
{
	const char *value = config_get(CONFIG_ENV_MMU);

	return value && strcmp(value, "shadow") == 0 ? VMMU_MMU_SHADOW : VMMU_MMU_TDP;
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
		{ "ept4-no-ad", VMMU_FORMAT_EPT4_NO_AD },
		{ "ept5-no-ad", VMMU_FORMAT_EPT5_NO_AD },
	};
	const char *value = config_get(CONFIG_ENV_FORMAT);

	for (unsigned i = 0; value && config_mmu() == VMMU_MMU_TDP && i < sizeof(formats) / sizeof(*formats); i++)
		if (strcmp(value, formats[i].name) == 0)
			return formats[i].format;
	return VMMU_FORMAT_NPT4;
}

bool config_nested(void)
{
	const char *value = config_get(CONFIG_ENV_NESTED);

	return !value || strcmp(value, "0") != 0;
}

/* Not on shadow paging, as KVM with npt=0, nor beside tables of another processor's format. */
bool config_nested_paging(void)
{
	return config_nested() && config_mmu() == VMMU_MMU_TDP && config_format() == VMMU_FORMAT_NPT4;
}

uint32_t config_tsc_khz(void)
{
	static uint32_t khz;
	struct moment now;

	if (__atomic_load_n(&khz, __ATOMIC_RELAXED))
		return khz;
	do
		now = moment_read();
	while (now.ns - first.ns < TSC_MEASURE_NS);
	__atomic_store_n(&khz, (uint32_t)((unsigned __int128)(now.tsc - first.tsc) * 1000000 / (now.ns - first.ns)),
	                 __ATOMIC_RELAXED);
	return __atomic_load_n(&khz, __ATOMIC_RELAXED);
}

bool config_tsc_khz_close(uint32_t khz)
{
	uint64_t host = config_tsc_khz(), slack = host * 250 / 1000000;

	return khz + slack >= host && khz <= host + slack;
}

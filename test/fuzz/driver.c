/* SPDX-License-Identifier: MIT */
/*
 * The fuzz target without libFuzzer: runs random programs for some seconds, or the files that are named.
 *
 *     fuzz-api [--seconds N] [--seed N] [FILE...]     also VMMU_TEST_SECONDS, VMMU_TEST_SEED
 *
 * Each input is written to fuzz-failed.bin before it runs. The file is removed when all went well.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "test/common/rng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT 65536
#define SAVED "fuzz-failed.bin"

static uint8_t input[INPUT];

static void file_run(const char *path, bool write, size_t size)
{
	FILE *file = fopen(path, write ? "wb" : "rb");

	if (!file || (write && fwrite(input, 1, size, file) != size)) {
		perror(path);
		exit(2);
	}
	if (!write)
		size = fread(input, 1, INPUT, file);
	fclose(file);
	LLVMFuzzerTestOneInput(input, size);
}

int main(int argc, char **argv)
{
	const char *seconds = getenv("VMMU_TEST_SECONDS"), *seed = getenv("VMMU_TEST_SEED");
	unsigned long files = 0, inputs = 0;
	struct rng rng;
	time_t end;

	for (int i = 1; i < argc; i++) {
		if (i + 1 < argc && !strcmp(argv[i], "--seconds")) {
			seconds = argv[++i];
		} else if (i + 1 < argc && !strcmp(argv[i], "--seed")) {
			seed = argv[++i];
		} else {
			file_run(argv[i], false, 0);
			files++;
		}
	}
	if (files)
		return 0;
	rng_seed(&rng, seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL));
	end = time(NULL) + (seconds ? atol(seconds) : 10);
	for (; time(NULL) < end; inputs++) {
		size_t size = 1 + rng_below(&rng, rng_one_in(&rng, 4) ? INPUT : 8192);

		for (size_t i = 0; i < size; i++)
			input[i] = rng_next(&rng) >> 56;
		file_run(SAVED, true, size);
	}
	unlink(SAVED);
	printf("%lu random programs\n", inputs);
	return 0;
}

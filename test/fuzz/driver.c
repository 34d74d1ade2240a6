/* SPDX-License-Identifier: MIT */
/*
 * The fuzz target without libFuzzer: runs random programs for some seconds, or the files that are named.
 *
 *     fuzz-api [--seconds N] [--seed N] [FILE...]     also VMMU_TEST_SECONDS, VMMU_TEST_SEED
 *
 * There are several processes; with a seed, one. Process N writes each input to fuzz-failed-N.bin before it runs, and
 * removes the file when all went well.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "test/common/rng.h"
#include "test/common/side.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT     65536
#define PROCESSES 6

static uint8_t input[INPUT];
static uint64_t seed;
static unsigned long seconds;

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

static int process_run(unsigned index)
{
	time_t end = time(NULL) + seconds;
	unsigned long inputs = 0;
	struct rng rng;
	char saved[32];

	snprintf(saved, sizeof(saved), "fuzz-failed-%u.bin", index);
	rng_seed(&rng, seed + index);
	for (; time(NULL) < end; inputs++) {
		size_t size = 1 + rng_below(&rng, rng_one_in(&rng, 4) ? INPUT : 8192);

		for (size_t i = 0; i < size; i++)
			input[i] = rng_next(&rng) >> 56;
		file_run(saved, true, size);
	}
	unlink(saved);
	printf("%lu random programs\n", inputs);
	return 0;
}

int main(int argc, char **argv)
{
	const char *how_long = getenv("VMMU_TEST_SECONDS"), *given = getenv("VMMU_TEST_SEED");
	unsigned long files = 0;

	for (int i = 1; i < argc; i++) {
		if (i + 1 < argc && !strcmp(argv[i], "--seconds")) {
			how_long = argv[++i];
		} else if (i + 1 < argc && !strcmp(argv[i], "--seed")) {
			given = argv[++i];
		} else {
			file_run(argv[i], false, 0);
			files++;
		}
	}
	if (files)
		return 0;
	seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 1000;
	seconds = how_long ? strtoul(how_long, NULL, 0) : 4;
	return !side_by_side(given ? 1 : PROCESSES, process_run);
}

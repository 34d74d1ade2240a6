/* SPDX-License-Identifier: MIT */
/* vmmu run: preload the front end and become the program. */
#include "cli/cli.h"
#include "kvm/process/config.h"
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
	"Usage: vmmu run [OPTIONS] [--] PROGRAM [ARGUMENTS]\n"
	"\n"
	"Run PROGRAM with /dev/kvm answered inside its own process.\n"
	"\n"
	"Options:\n"
	"  --mmu tdp|shadow   how guest memory is translated (default: tdp)\n"
	"  --format FORMAT    the second-stage tables: npt4 (default), npt5, ept4, ept5, and ept4-no-ad, ept5-no-ad:\n"
	"                     of hardware that sets no accessed and dirty bits\n"
	"  --cpu-model MODEL  the guest's CPU: host (default), all that works on this machine; or a level of the\n"
	"                     x86-64 psABI, v1 to v4: the same on every machine, for a guest that migrates\n"
	"  --cpu-engine ENGINE\n"
	"                     how guest code is run: interpret (default); translate, which makes 64-bit code into\n"
	"                     this machine's; or check, which does both and ends the program where they differ\n"
	"  --no-nested        hide SVM, so that guests cannot run guests of their own\n"
	"  --host-memory SIZE keep guest memory within SIZE (K, M or G): what is cold is compressed, and brought\n"
	"                     back when it is used\n"
	"  --host-swap FILE[:SIZE]\n"
	"                     a swap file behind the compressed pages (default SIZE: four times --host-memory)\n"
	"  --host-kvm         run programs that cannot have this /dev/kvm (setuid, another machine's) without it:\n"
	"                     they reach the machine's own, if there is one\n"
	"  --stats            print counters to stderr when the program ends\n"
	"  --quiet            do not say at the end that nothing asked for /dev/kvm\n"
	"  --help, -h         this text\n"
	"\n"
	"Exit status: the program's own; 2 for a wrong command line; 125 when vmmu fails;\n"
	"126 when PROGRAM cannot be run (static, musl's, setuid, not executable); 127 when it is not found.\n";

/* An empty variable counts as unset. It is not unset, so that the value of an outer `vmmu run` does not come back. */
static bool set_or_clear(const char *name, const char *value)
{
	return (value || getenv(name) ? setenv(name, value ? value : "", 1) : 0) == 0;
}

/* Turn "256M" into bytes, as decimal digits in `text`. Returns: false when it is no size, or less than a mebibyte. */
static bool size_parse(const char *word, char text[24])
{
	static const char units[] = "KMG";
	char *end;
	unsigned long long bytes = strtoull(word, &end, 10);
	const char *unit = *end ? strchr(units, *end) : NULL;
	unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;

	if (end == word || *word == '-' || (*end && (!unit || end[1])) || bytes > UINT64_MAX >> 20 >> shift)
		return false;
	snprintf(text, 24, "%llu", bytes << shift);
	return bytes << shift >= 1 << 20;
}

static bool swap_parse(char *word, struct run_options *run, char size[24])
{
	char *colon = strrchr(word, ':');

	if (colon) {
		*colon = 0;
		if (!size_parse(colon + 1, size))
			return false;
		run->host_swap_size = size;
	}
	run->host_swap = word;
	return *word;
}

/*
 * The value for LD_PRELOAD. A sanitizer's runtime must come first. Our library comes last, behind the user's own
 * value.
 * Returns: false when it is too long.
 */
static bool preload_make(char *preload, size_t size, const char *runtime, const char *library)
{
	const char *before = getenv("LD_PRELOAD");
	bool first = *runtime && !(before && strstr(before, runtime)), some = before && *before;

	return snprintf(preload, size, "%s%s%s%s%s", first ? runtime : "", first ? ":" : "", some ? before : "",
	                some ? ":" : "", library) < (int)size;
}

int run_exec(const struct run_options *options, char **argv)
{
	char program[PATH_MAX], library[PATH_MAX], preload[2 * PATH_MAX];
	struct program_file file;
	const char *obstacle;
	int error = program_find(argv[0], program, sizeof(program));

	if (model_missing(options->cpu_model)) {
		complain("--cpu-model %s: this machine lacks %s", options->cpu_model,
		         model_missing(options->cpu_model));
		return EXIT_FAILED;
	}
	if (error) {
		complain("%s: %s", argv[0], strerror(error));
		return error == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
	}
	obstacle = program_obstacle(program_examine(program, &file));
	if (obstacle && !options->host_kvm) {
		complain("%s: %s; or let it have the machine's own /dev/kvm, if there is one: --host-kvm", program,
		         obstacle);
		return EXIT_CANNOT_RUN;
	}
	if (!preload_find(library, sizeof(library)))
		return EXIT_FAILED;
	if (!preload_make(preload, sizeof(preload), file.runtime, library)) {
		complain("LD_PRELOAD is too long");
		return EXIT_FAILED;
	}
	if ((!obstacle && setenv("LD_PRELOAD", preload, 1) != 0) ||
	    !set_or_clear(CONFIG_ENV_HOST_KVM, options->host_kvm ? "1" : NULL) ||
	    !set_or_clear(CONFIG_ENV_STATS, options->stats ? "1" : NULL) ||
	    !set_or_clear(CONFIG_ENV_TRACE, options->trace) || !set_or_clear(CONFIG_ENV_WATCH, NULL) ||
	    !set_or_clear(CONFIG_ENV_NESTED, options->no_nested ? "0" : NULL) ||
	    !set_or_clear(CONFIG_ENV_CPU_MODEL, options->cpu_model) ||
	    !set_or_clear(CONFIG_ENV_CPU_ENGINE, options->cpu_engine) ||
	    !set_or_clear(CONFIG_ENV_HOST_MEMORY, options->host_memory) ||
	    !set_or_clear(CONFIG_ENV_HOST_SWAP, options->host_swap) ||
	    !set_or_clear(CONFIG_ENV_HOST_SWAP_SIZE, options->host_swap_size) ||
	    (options->mmu && setenv(CONFIG_ENV_MMU, options->mmu, 1) != 0) ||
	    (options->format && setenv(CONFIG_ENV_FORMAT, options->format, 1) != 0)) {
		complain("cannot set the environment: %s", strerror(errno));
		return EXIT_FAILED;
	}
	if (!options->quiet && !obstacle)
		watch_start();
	execv(program, argv);
	error = errno;
	watch_stop();
	complain("%s: %s", program, strerror(error));
	return error == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
}

static bool is_format(const char *name)
{
	return strcmp(name, "npt4") == 0 || strcmp(name, "npt5") == 0 || strcmp(name, "ept4") == 0 ||
	       strcmp(name, "ept5") == 0 || strcmp(name, "ept4-no-ad") == 0 || strcmp(name, "ept5-no-ad") == 0;
}

static bool is_engine(const char *name)
{
	return strcmp(name, "interpret") == 0 || strcmp(name, "translate") == 0 || strcmp(name, "check") == 0;
}

/* An option that takes one of a few words. Returns: false, after a message, for another word. */
static bool word_option(int option, const char *word, struct run_options *run)
{
	const char **to = option == 'm' ? &run->mmu : option == 'f' ? &run->format :
	                  option == 'c' ? &run->cpu_model : &run->cpu_engine;
	bool known;

	*to = word;
	if (option == 'm') {
		known = strcmp(word, "tdp") == 0 || strcmp(word, "shadow") == 0;
		if (!known)
			complain("--mmu takes tdp or shadow, not '%s'", word);
	} else if (option == 'f') {
		known = is_format(word);
		if (!known)
			complain("--format takes npt4, npt5, ept4, ept5, ept4-no-ad or ept5-no-ad, not '%s'", word);
	} else if (option == 'c') {
		known = model_exists(word);
		if (!known)
			complain("--cpu-model takes host, v1, v2, v3 or v4, not '%s'", word);
	} else {
		known = is_engine(word);
		if (!known)
			complain("--cpu-engine takes interpret, translate or check, not '%s'", word);
	}
	return known;
}

static bool options_agree(const struct run_options *run)
{
	if (run->format && run->mmu && strcmp(run->mmu, "shadow") == 0)
		complain("--format is the second stage's; --mmu shadow has none");
	else if (run->host_swap && !run->host_memory)
		complain("--host-swap is for use with --host-memory");
	else
		return true;
	return false;
}

/* An option without an argument. Returns: false when it is none. */
static bool flag_set(int option, struct run_options *run)
{
	bool *flag = option == 'k' ? &run->host_kvm : option == 'n' ? &run->no_nested : option == 's' ? &run->stats :
	             option == 'q' ? &run->quiet : NULL;

	if (flag)
		*flag = true;
	return flag;
}

static const struct option known[] = {
	{ "mmu", required_argument, NULL, 'm' },
	{ "format", required_argument, NULL, 'f' },
	{ "cpu-model", required_argument, NULL, 'c' },
	{ "host-kvm", no_argument, NULL, 'k' },
	{ "cpu-engine", required_argument, NULL, 'e' },
	{ "no-nested", no_argument, NULL, 'n' },
	{ "host-memory", required_argument, NULL, 'b' },
	{ "host-swap", required_argument, NULL, 'w' },
	{ "stats", no_argument, NULL, 's' },
	{ "quiet", no_argument, NULL, 'q' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

int command_run(int argc, char **argv)
{
	struct run_options run = { 0 };
	char memory[24], swap[24];
	int option;

	/* "+": stop at the first word that is no option, since what follows the program is for the program. */
	opterr = 0;
	while ((option = getopt_long(argc, argv, "+h", known, NULL)) != -1) {
		switch (option) {
		case 'm':
		case 'f':
		case 'c':
		case 'e':
			if (!word_option(option, optarg, &run))
				return EXIT_USAGE;
			break;
		case 'b':
			if (!size_parse(optarg, memory)) {
				complain("--host-memory takes a size of 1M or more, such as 256M, not '%s'", optarg);
				return EXIT_USAGE;
			}
			run.host_memory = memory;
			break;
		case 'w':
			if (!swap_parse(optarg, &run, swap)) {
				complain("--host-swap takes FILE or FILE:SIZE, not '%s'", optarg);
				return EXIT_USAGE;
			}
			break;
		case 'h':
			fputs(help, stdout);
			return 0;
		default:
			if (flag_set(option, &run))
				break;
			complain("run: unknown or incomplete option '%s'; try 'vmmu run --help'", argv[optind - 1]);
			return EXIT_USAGE;
		}
	}
	if (!options_agree(&run))
		return EXIT_USAGE;
	if (optind == argc) {
		complain("run: which program? Try 'vmmu run --help'");
		return EXIT_USAGE;
	}
	return run_exec(&run, argv + optind);
}

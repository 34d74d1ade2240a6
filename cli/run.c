/* SPDX-License-Identifier: MIT */
/* vmmu run: preload the front end and become the program. */
#include "cli/cli.h"
#include "kvm/process/config.h"
#include <alloca.h>
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
	"  --raw auto|on|off  host programs whose system calls a preloaded library does not see: static ones, musl's,\n"
	"                     and those that name /dev/kvm and have system call instructions of their own, as Go's\n"
	"                     (auto, the default); all programs; or none: static ones and musl's are refused\n"
	"  --host-kvm         run programs that cannot have this /dev/kvm (setuid, another machine's) without it:\n"
	"                     they reach the machine's own, if there is one\n"
	"  --stats            print counters to stderr when the program ends\n"
	"  --quiet            do not say at the end that nothing asked for /dev/kvm\n"
	"  --help, -h         this text\n"
	"\n"
	"Exit status: the program's own; 2 for a wrong command line; 125 when vmmu fails;\n"
	"126 when PROGRAM cannot be run (setuid, for another machine, not executable); 127 when it is not found.\n";

/* An empty variable counts as unset. It is not unset, so that the value of an outer `vmmu run` does not come back. */
static bool set_or_clear(const char *name, const char *value)
{
	return (value || getenv(name) ? setenv(name, value ? value : "", 1) : 0) == 0;
}

static enum config_raw raw_parse(const char *word)
{
	return word && strcmp(word, "on") == 0 ? RAW_ON : word && strcmp(word, "off") == 0 ? RAW_OFF : RAW_AUTO;
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

/* Hand the options on to the front end. Returns: false when there is no memory. */
static bool environment_set(const struct run_options *options)
{
	return set_or_clear(CONFIG_ENV_HOST_KVM, options->host_kvm ? "1" : NULL) &&
	       set_or_clear(CONFIG_ENV_RAW, options->raw) &&
	       set_or_clear(CONFIG_ENV_STATS, options->stats ? "1" : NULL) &&
	       set_or_clear(CONFIG_ENV_TRACE, options->trace) && set_or_clear(CONFIG_ENV_WATCH, NULL) &&
	       set_or_clear(CONFIG_ENV_NESTED, options->no_nested ? "0" : NULL) &&
	       set_or_clear(CONFIG_ENV_CPU_MODEL, options->cpu_model) &&
	       set_or_clear(CONFIG_ENV_HOST_MEMORY, options->host_memory) &&
	       set_or_clear(CONFIG_ENV_HOST_SWAP, options->host_swap) &&
	       set_or_clear(CONFIG_ENV_HOST_SWAP_SIZE, options->host_swap_size) &&
	       (!options->cpu_engine || setenv(CONFIG_ENV_CPU_ENGINE, options->cpu_engine, 1) == 0) &&
	       (!options->mmu || setenv(CONFIG_ENV_MMU, options->mmu, 1) == 0) &&
	       (!options->format || setenv(CONFIG_ENV_FORMAT, options->format, 1) == 0);
}

/* A program and how it is started. */
struct chosen {
	char path[PATH_MAX];
	struct program_file file;
	struct program_scripts scripts;
	enum program_way way;
	const char *obstacle; /* why it has no front end */
};

static int choose(const struct run_options *options, const char *name, struct chosen *out)
{
	enum config_raw raw;
	int error = program_find(name, out->path, sizeof(out->path));

	if (error) {
		complain("%s: %s", name, strerror(error));
		return error == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
	}
	raw = raw_parse(options->raw);
	out->way = program_way(program_examine(out->path, &out->file, &out->scripts), raw, &out->obstacle);
	if (out->obstacle && !options->host_kvm) {
		complain("%s: %s; or let it have the machine's own /dev/kvm, if there is one: --host-kvm", out->path,
		         out->obstacle);
		return EXIT_CANNOT_RUN;
	}
	return 0;
}

/* Become the program. After: it failed, and errno says why. */
static void become(const struct chosen *chosen, const char *library, char **argv)
{
	const char *program = chosen->scripts.count ? chosen->scripts.level[chosen->scripts.count - 1].interpreter :
	                      chosen->path;
	char host[PATH_MAX];
	size_t count = 0;

	if (chosen->way != WAY_HOST) {
		execv(chosen->path, argv);
		return;
	}
	while (argv[count])
		count++;
	if (!program_host(library, host, sizeof(host)) || setenv(CONFIG_ENV_PROGRAM, program, 1) != 0) {
		errno = ENOMEM;
		return;
	}
	execv(host, program_arguments(alloca(PROGRAM_WORDS(count) * sizeof(*argv)), &chosen->scripts, chosen->path,
	                              argv));
}

int run_exec(const struct run_options *options, char **argv)
{
	static struct chosen chosen;
	char library[PATH_MAX], preload[2 * PATH_MAX];
	int error;

	if (model_missing(options->cpu_model)) {
		complain("--cpu-model %s: this machine lacks %s", options->cpu_model,
		         model_missing(options->cpu_model));
		return EXIT_FAILED;
	}
	error = choose(options, argv[0], &chosen);
	if (error)
		return error;
	if (!preload_find(library, sizeof(library)))
		return EXIT_FAILED;
	if (!preload_make(preload, sizeof(preload), chosen.file.runtime, library)) {
		complain("LD_PRELOAD is too long");
		return EXIT_FAILED;
	}
	if ((!chosen.obstacle && setenv("LD_PRELOAD", preload, 1) != 0) || !environment_set(options)) {
		complain("cannot set the environment: %s", strerror(errno));
		return EXIT_FAILED;
	}
	if (!options->quiet && !chosen.obstacle)
		watch_start();
	become(&chosen, library, argv);
	error = errno;
	watch_stop();
	complain("%s: %s", chosen.path, strerror(error));
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
	                  option == 'c' ? &run->cpu_model : option == 'r' ? &run->raw : &run->cpu_engine;
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
	} else if (option == 'r') {
		known = strcmp(word, "auto") == 0 || strcmp(word, "on") == 0 || strcmp(word, "off") == 0;
		if (!known)
			complain("--raw takes auto, on or off, not '%s'", word);
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
	{ "raw", required_argument, NULL, 'r' },
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
		case 'r':
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

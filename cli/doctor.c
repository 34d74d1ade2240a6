/* SPDX-License-Identifier: MIT */
/* vmmu doctor: says which requests of a program vmmu refuses, before the program fails. */
#include "cli/cli.h"
#include "cli/scan.h"
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define DOCTOR_UNKNOWN 3 /* the exit status when the file names /dev/kvm and no request was found in it */

static const char help[] =
	"Usage: vmmu doctor [--all] PROGRAM\n"
	"       vmmu doctor --trace [--] PROGRAM [ARGUMENTS]\n"
	"\n"
	"Say which KVM ioctls and capabilities PROGRAM would ask for and not get.\n"
	"\n"
	"Without --trace the program is not run: its file is searched for KVM's request numbers, and for\n"
	"the capability numbers in calls of the function that asks. What a program computes, or does in\n"
	"a library, is not seen; what is found may be in code that never runs.\n"
	"With --trace it is run, and what it really asked for in vain is listed.\n"
	"\n"
	"Options:\n"
	"  --all        list also what is answered\n"
	"  --trace      run the program\n"
	"  --help, -h   this text\n"
	"\n"
	"Exit status: 0 nothing is missing, 1 something is, 3 it cannot be told (without --trace);\n"
	"with --trace the program's own; 2, 125, 126 and 127 as for 'vmmu run'.\n";

static void print_status(enum surface_status status)
{
	static const char *const names[] = { "done   ", "partial", "refused" };
	static const char *const colours[] = { "32", "33", "31" };

	fputs("  ", stdout);
	print_coloured(stdout, colours[status], names[status]);
}

static void print_item(enum surface_status status, const char *name, const char *note)
{
	print_status(status);
	printf("  %s%s%s\n", name, note ? ": " : "", note ? note : "");
}

/* Returns: how many of them are refused. */
static unsigned print_ioctls(const struct scan *scan, bool all)
{
	unsigned refused = 0, shown = 0;

	printf("ioctls found: %zu\n", scan->ioctl_count);
	for (size_t i = 0; i < scan->ioctl_count; i++) {
		const struct surface_ioctl *s = surface_ioctl_find(scan->ioctls[i]);

		refused += s->status == SURFACE_REFUSED;
		if (all || s->status != SURFACE_DONE) {
			print_item(s->status, s->name, s->note);
			shown++;
		}
	}
	if (scan->ioctl_count && !shown)
		printf("  all are answered\n");
	return refused;
}

static unsigned print_caps(const struct scan *scan, bool all)
{
	unsigned refused = 0, shown = 0;

	printf("capabilities found: %zu\n", scan->cap_count);
	for (size_t i = 0; i < scan->cap_count; i++) {
		const struct surface_cap *s = surface_cap_find(scan->caps[i]);

		refused += s->status == SURFACE_REFUSED;
		if (all || s->status != SURFACE_DONE) {
			print_item(s->status, s->name, s->note);
			shown++;
		}
	}
	if (scan->cap_count && !shown)
		printf("  all are there\n");
	return refused;
}

/* How the front end comes to the program, and what that costs. */
static void print_way(enum program_kind kind, bool raw)
{
	static const char hosted[] = "it will be hosted ('--raw auto'), and all its system calls seen; each\n"
	                             "KVM call, and so each exit, costs some 3 us more than in a program with a "
	                             "preloaded library";

	switch (kind) {
	case PROGRAM_LIBRARY:
		printf("a shared object: part of what a program that loads it would ask for\n");
		break;
	case PROGRAM_STATIC:
		printf("statically linked: %s\n", hosted);
		break;
	case PROGRAM_MUSL:
		printf("linked with musl: %s\n", hosted);
		break;
	case PROGRAM_RAW:
		printf("dynamically linked, with system calls of its own: %s\n", hosted);
		break;
	default:
		printf("dynamically linked, a library can be preloaded: a KVM call costs no system call\n");
		if (raw)
			printf("The code has system call instructions of its own, which 'vmmu run' does not host it "
			       "for: should it\n"
			       "reach KVM that way, say '--raw on'.\n");
		break;
	}
}

static int examine(const char *name, bool all)
{
	char path[PATH_MAX];
	struct program_file file;
	struct program_scripts scripts;
	enum program_kind kind = PROGRAM_OTHER;
	const char *obstacle;
	struct scan scan;
	unsigned refused;
	int error = program_find(name, path, sizeof(path));

	if (!error) {
		kind = program_examine(path, &file, &scripts);
		program_way(kind, RAW_AUTO, &obstacle);
		if (obstacle && kind != PROGRAM_LIBRARY) {
			complain("%s: %s", path, obstacle);
			return EXIT_CANNOT_RUN;
		}
		if (!program_look(path, &file) || file.form == FORM_SCRIPT || file.form == FORM_OTHER) {
			complain("%s is not an ELF program; name the program that it starts", path);
			return EXIT_CANNOT_RUN;
		}
		error = scan_program(path, &scan);
	}
	if (error) {
		complain("%s: %s", name, strerror(error));
		return error == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
	}

	printf("%s: ", path);
	print_way(kind, scan.raw_syscalls);
	if (!scan.names_kvm && !scan.ioctl_count) {
		printf("Neither /dev/kvm nor a KVM request is in this file; its libraries were not searched.\n");
		return 0;
	}
	if (!scan.ioctl_count) {
		printf("/dev/kvm is in this file and none of KVM's requests is: it makes them up when it runs, as "
		       "Rust's debug builds\n"
		       "do, or has them in a library. Nothing can be said without running it: 'vmmu doctor "
		       "--trace'.\n");
		return DOCTOR_UNKNOWN;
	}
	refused = print_ioctls(&scan, all);
	refused += print_caps(&scan, all);
	printf("Found by searching the file; see 'vmmu doctor --help' for what that misses. %s\n",
	       refused ? "Refused ioctls answer ENOTTY, refused capabilities 0: the program may do without them."
	               : "Nothing that was found is refused.");
	return refused ? 1 : 0;
}

static void print_trace(const char *file)
{
	FILE *in = fopen(file, "re");
	char line[256];
	unsigned lines = 0;

	fprintf(stderr, "\nvmmu doctor: asked for and not there (name, number, calls):\n");
	while (in && fgets(line, sizeof(line), in)) {
		fprintf(stderr, "  %s", line);
		lines++;
	}
	if (!lines)
		fprintf(stderr, "  nothing\n");
	if (in)
		fclose(in);
}

static int trace(char **argv)
{
	char file[] = "/tmp/vmmu-trace-XXXXXX";
	struct run_options options = { .trace = file, .quiet = true };
	int fd = mkstemp(file), status = 0;
	pid_t child;

	if (fd < 0) {
		complain("%s: %s", file, strerror(errno));
		return EXIT_FAILED;
	}
	close(fd);
	child = fork();
	if (child == 0)
		_exit(run_exec(&options, argv));
	if (child < 0 || waitpid(child, &status, 0) != child) {
		complain("cannot run: %s", strerror(errno));
		unlink(file);
		return EXIT_FAILED;
	}
	if (WIFSIGNALED(status))
		fprintf(stderr, "\nvmmu doctor: the program was ended by signal %d: what it asked for is not known\n",
		        WTERMSIG(status));
	else if (WEXITSTATUS(status) < EXIT_FAILED)
		print_trace(file);
	unlink(file);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int command_doctor(int argc, char **argv)
{
	static const struct option options[] = {
		{ "all", no_argument, NULL, 'a' },
		{ "trace", no_argument, NULL, 't' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	bool all = false, run = false;
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "+h", options, NULL)) != -1) {
		switch (option) {
		case 'a':
			all = true;
			break;
		case 't':
			run = true;
			break;
		case 'h':
			fputs(help, stdout);
			return 0;
		default:
			complain("doctor: unknown option '%s'; try 'vmmu doctor --help'", argv[optind - 1]);
			return EXIT_USAGE;
		}
	}
	if (optind == argc) {
		complain("doctor: which program? Try 'vmmu doctor --help'");
		return EXIT_USAGE;
	}
	return run ? trace(argv + optind) : examine(argv[optind], all);
}

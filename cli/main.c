/* SPDX-License-Identifier: MIT */
/* vmmu: run programs written for /dev/kvm where there is none. */
#include "cli/cli.h"
#include <string.h>

static const char help[] =
	"Usage: vmmu COMMAND [ARGUMENTS]\n"
	"\n"
	"Run programs written for Linux KVM where there is no /dev/kvm.\n"
	"\n"
	"Commands:\n"
	"  run [OPTIONS] [--] PROGRAM [ARGUMENTS]   run a program with a /dev/kvm of its own\n"
	"  doctor [OPTIONS] PROGRAM [ARGUMENTS]     say which ioctls and capabilities it would miss\n"
	"\n"
	"  --help, -h                               this text; after a command, that command's\n"
	"  --version                                the version\n"
	"\n"
	"Example:\n"
	"  vmmu run --stats -- qemu-system-x86_64 -accel kvm -cpu max -smp 2\n";

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";

	if (argc < 2) {
		fputs(help, stderr);
		return EXIT_USAGE;
	}
	if (strcmp(command, "run") == 0)
		return command_run(argc - 1, argv + 1);
	if (strcmp(command, "doctor") == 0)
		return command_doctor(argc - 1, argv + 1);
	if (strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0 || strcmp(command, "help") == 0) {
		fputs(help, stdout);
		return 0;
	}
	if (strcmp(command, "--version") == 0) {
		printf("vmmu %s\n", VMMU_VERSION);
		return 0;
	}
	complain("unknown command '%s'; try 'vmmu --help'", command);
	return EXIT_USAGE;
}

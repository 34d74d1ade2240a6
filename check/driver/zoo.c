/* SPDX-License-Identifier: MIT */
#include "check/driver/zoo.h"

#include <stdio.h>
#include <unistd.h>

#include "check/driver/files.h"

int command_zoo(const struct options *options)
{
	static const char tool[] = CHECK_SOURCE_ROOT "/tool/run-zoo";
	const char *argument[OPTIONS_WORDS + 4] = { tool, "--build", files_program() };
	unsigned count = 3;

	for (unsigned i = 0; i < options->words; i++)
		argument[count++] = options->word[i];
	argument[count] = NULL;
	fflush(NULL);
	execv(tool, (char *const *)argument);
	perror(tool);
	return 3;
}

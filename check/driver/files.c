/* SPDX-License-Identifier: MIT */
#include "check/driver/files.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *files_program(void)
{
	static char path[4096];
	ssize_t length;
	char *slash;

	if (path[0])
		return path;
	length = readlink("/proc/self/exe", path, sizeof(path) - 1);
	path[length > 0 ? length : 0] = '\0';
	slash = strrchr(path, '/');
	if (slash)
		*slash = '\0';
	else
		snprintf(path, sizeof(path), ".");
	return path;
}

const char *files_folder(const char *wanted)
{
	static char path[4200];

	if (wanted)
		return wanted;
	snprintf(path, sizeof(path), "%s/check-report", files_program());
	return path;
}

bool files_make(const char *wanted)
{
	if (mkdir(files_folder(wanted), 0777) == 0 || errno == EEXIST)
		return true;
	fprintf(stderr, "vmmu-check: the folder %s cannot be made (%s); name another with --html DIR\n",
	        files_folder(wanted), strerror(errno));
	return false;
}

void files_path(char *path, size_t size, const char *wanted, const char *name, const char *extension)
{
	snprintf(path, size, "%s/%s.%s", files_folder(wanted), name, extension);
}

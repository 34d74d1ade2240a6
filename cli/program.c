/* SPDX-License-Identifier: MIT */
/* Finds the program's file, whether a library can be preloaded into it, and where that library is. */
#include "cli/cli.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIBRARY "libvmmu-kvm.so"

static int check(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return errno;
	if (S_ISDIR(st.st_mode))
		return EISDIR;
	return access(path, X_OK) == 0 ? 0 : errno;
}

int program_find(const char *name, char *path, size_t size)
{
	const char *list = getenv("PATH"), *end;
	int result = ENOENT;

	if (strchr(name, '/')) {
		if (snprintf(path, size, "%s", name) >= (int)size)
			return ENAMETOOLONG;
		return check(path);
	}
	if (!*name)
		return ENOENT;
	for (const char *dir = list ? list : "/bin:/usr/bin"; ; dir = end + 1) {
		int error;

		end = strchrnul(dir, ':');
		if (snprintf(path, size, "%.*s%s%s", (int)(end - dir), dir, end > dir ? "/" : "./", name) < (int)size) {
			error = check(path);
			if (error == 0)
				return 0;
			if (error == EACCES)
				result = EACCES; /* a file that cannot run; a later folder may have another */
		}
		if (!*end)
			return result;
	}
}

bool preload_find(char *path, size_t size)
{
	const char *named = getenv("VMMU_PRELOAD");
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (named && *named) {
		if (snprintf(path, size, "%s", named) < (int)size && access(path, R_OK) == 0)
			return true;
		complain("VMMU_PRELOAD=%s: %s", named, strerror(errno));
		return false;
	}
	/* In the build directory the library lies beside the command. */
	if (length > 0) {
		self[length] = '\0';
		slash = strrchr(self, '/');
		if (slash) {
			*slash = '\0';
			if (snprintf(path, size, "%s/" LIBRARY, self) < (int)size && access(path, R_OK) == 0)
				return true;
		}
	}
	if (snprintf(path, size, "%s/" LIBRARY, VMMU_LIBDIR) < (int)size && access(path, R_OK) == 0)
		return true;
	complain("%s is neither beside this command nor in %s", LIBRARY, VMMU_LIBDIR);
	return false;
}

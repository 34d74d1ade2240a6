/* SPDX-License-Identifier: MIT */
/* Which file a name means, whether a library can be preloaded into it, and where that library is. */
#include "cli/cli.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
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
				result = EACCES; /* found, perhaps a better one follows */
		}
		if (!*end)
			return result;
	}
}

/* Without an interpreter there is no dynamic loader to preload anything. */
static bool has_interpreter(int fd, const Elf64_Ehdr *header)
{
	for (unsigned i = 0; i < header->e_phnum; i++) {
		Elf64_Phdr segment;

		if (pread(fd, &segment, sizeof(segment), (off_t)(header->e_phoff + (Elf64_Off)i * header->e_phentsize)) !=
		    sizeof(segment))
			return false;
		if (segment.p_type == PT_INTERP)
			return true;
	}
	return false;
}

static bool is_privileged(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0) {
		if (st.st_mode & S_ISUID && st.st_uid != geteuid())
			return true;
		if (st.st_mode & S_ISGID && st.st_gid != getegid())
			return true;
	}
	return geteuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0;
}

static enum program_kind examine(int fd)
{
	Elf64_Ehdr header;
	ssize_t got = pread(fd, &header, sizeof(header), 0);

	if (got < 4)
		return PROGRAM_OTHER;
	if (memcmp(&header, "#!", 2) == 0)
		return PROGRAM_SCRIPT;
	if (got < (ssize_t)sizeof(header) || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
		return PROGRAM_OTHER;
	if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64)
		return PROGRAM_FOREIGN;
	if (!has_interpreter(fd, &header))
		return PROGRAM_STATIC;
	return is_privileged(fd) ? PROGRAM_SETUID : PROGRAM_DYNAMIC;
}

enum program_kind program_examine(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	enum program_kind kind;

	if (fd < 0)
		return PROGRAM_UNREADABLE;
	kind = examine(fd);
	close(fd);
	return kind;
}

const char *program_obstacle(enum program_kind kind)
{
	switch (kind) {
	case PROGRAM_STATIC:
		return "statically linked: vmmu works by preloading a library, which needs a dynamically linked program "
		       "(rebuild it without -static)";
	case PROGRAM_SETUID:
		return "setuid, setgid or with file capabilities: the loader ignores LD_PRELOAD for it "
		       "(run a copy without those bits)";
	case PROGRAM_FOREIGN:
		return "not an x86-64 program";
	default:
		return NULL;
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
	/* In the build directory it lies beside the command. */
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

/* SPDX-License-Identifier: MIT */
/*
 * Programs that the client starts keep the front end, whatever environment the client gives them. Where the
 * client took them away, the library goes back into LD_PRELOAD, and the variables of `vmmu run` go back beside
 * it. A variable that the client set is left as it is. A program that cannot have the front end does not start,
 * unless `vmmu run --host-kvm` allows it: the error is EACCES, from which a shell makes its status 126.
 *
 * May run in a vfork child or in a signal handler, so the new environment is built on the stack.
 */
#include "kvm/process/config.h"
#include "kvm/interpose/interpose.h"
#include "kvm/interpose/program.h"
#include "kvm/process/sys.h"
#include <alloca.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PRELOAD "LD_PRELOAD="

/* How a failure is told. */
enum tell {
	BY_ERRNO, /* -1, and errno */
	BY_VALUE, /* an errno value */
	NEGATIVE, /* a negated errno value */
};

/* How to start a program once its environment is complete. */
struct start {
	enum tell tell;
	bool search;                              /* `path` without a slash is looked for in PATH */
	long (*call)(const struct start *start, char *const *environment);
	bool by_directory;                        /* `path` may begin at `fd` */
	int fd, flags;                            /* fexecve, execveat */
	const char *path;
	char *const *arguments;
	pid_t *pid;                               /* posix_spawn */
	const posix_spawn_file_actions_t *actions;
	const posix_spawnattr_t *attributes;
};

static bool names(const char *entry, const char *kept)
{
	size_t length = (size_t)(strchr(kept, '=') - kept) + 1;

	return strncmp(entry, kept, length) == 0;
}

static const char *environment_find(char *const *environment, const char *kept)
{
	for (; environment && *environment; environment++)
		if (names(*environment, kept))
			return *environment;
	return NULL;
}

/* Does this LD_PRELOAD name the library? The loader allows blanks and colons between names. */
static bool preloads(const char *value, const char *library)
{
	size_t length = strlen(library);

	for (const char *at = strstr(value, library); at; at = strstr(at + 1, library))
		if ((at == value || strchr(": ", at[-1])) && strchr(": ", at[length]))
			return true;
	return false;
}

/* The first program of this name in PATH. Where there is none, `name` itself: then exec fails. */
static void search(const char *name, char path[static PATH_MAX])
{
	const char *list = environment_find(environ, "PATH="), *end;

	for (const char *dir = list ? list + 5 : "/bin:/usr/bin"; ; dir = end + 1) {
		end = strchrnul(dir, ':');
		if (snprintf(path, PATH_MAX, "%.*s%s%s", (int)(end - dir), dir, end > dir ? "/" : "",
		             name) < PATH_MAX &&
		    SYS2(SYS_access, path, X_OK) == 0)
			return;
		if (!*end)
			break;
	}
	snprintf(path, PATH_MAX, "%s", name);
}

/* Can the name be read? The kernel refuses one that is no address. */
static bool is_address(const char *path)
{
	return (uintptr_t)path >= 4096 && (intptr_t)path > 0;
}

/* The path of the program's file. Returns: false when the kernel will refuse the call. */
static bool program_path(const struct start *start, char path[static PATH_MAX])
{
	int length;

	if (!is_address(start->path))
		return false;
	if (start->flags & AT_EMPTY_PATH && !*start->path)
		length = snprintf(path, PATH_MAX, "/proc/self/fd/%d", start->fd);
	else if (start->by_directory && start->fd != AT_FDCWD && *start->path != '/')
		length = snprintf(path, PATH_MAX, "/proc/self/fd/%d/%s", start->fd, start->path);
	else if (start->search && !strchr(start->path, '/'))
		return search(start->path, path), true;
	else
		length = snprintf(path, PATH_MAX, "%s", start->path);
	return length < PATH_MAX;
}

/* Say why the program does not start. Returns: the failure, in the form of this call. */
static long refuse(const struct start *start, const char *path, const char *obstacle)
{
	const char *const parts[] = { "vmmu: ", path, ": ", obstacle,
		"; or let it have the machine's own /dev/kvm, if there is one: vmmu run --host-kvm\n" };

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
		SYS3(SYS_write, STDERR_FILENO, parts[i], strlen(parts[i]));
	if (start->tell == BY_ERRNO)
		return errno = EACCES, -1;
	return start->tell == BY_VALUE ? EACCES : -EACCES;
}

/*
 * Skip a sanitizer's runtime that we put first in LD_PRELOAD for another program. It is a name without a
 * directory.
 */
static const char *without_runtime(const char *value)
{
	size_t length = strcspn(value, ": ");

	return program_is_runtime(value, length) ? value + length + (value[length] != '\0') : value;
}

#define PRELOAD_ROOM(value, library) (sizeof(PRELOAD) + PROGRAM_RUNTIME + strlen(value) + strlen(library) + 2)

/* Make the LD_PRELOAD for a program that needs `runtime`: the runtime, then the old `value`, then the library. */
static void preload_make(char *to, const char *runtime, const char *value, const char *library)
{
	to = stpcpy(to, PRELOAD);
	to = stpcpy(to, runtime);
	if (*runtime)
		to = stpcpy(to, ":");
	to = stpcpy(to, value);
	if (preloads(value, library))
		return;
	if (*value)
		to = stpcpy(to, ":");
	strcpy(to, library);
}

static long call_execve(const struct start *s, char *const *environment)
{
	return REAL(execve, int (*)(const char *, char *const *, char *const *))(s->path, s->arguments, environment);
}

typedef int spawn_fn(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
                     char *const *, char *const *);

static long call_spawn(const struct start *s, char *const *environment)
{
	return REAL(posix_spawn, spawn_fn *)(s->pid, s->path, s->actions, s->attributes, s->arguments, environment);
}

static long call_raw_execve(const struct start *s, char *const *environment)
{
	return SYS3(SYS_execve, s->path, s->arguments, environment);
}

/*
 * A name by which vmmu-host can open the program. A descriptor may be closed by exec: then it is the file's own name,
 * or another descriptor. Returns: false when there is none.
 */
static bool host_path(const char *path, char name[static PATH_MAX])
{
	const size_t before = sizeof("/proc/self/fd/") - 1;
	long length, copy;

	if (strncmp(path, "/proc/self/fd/", before) != 0 || strchr(path + before, '/'))
		return snprintf(name, PATH_MAX, "%s", path) < PATH_MAX;
	length = SYS3(SYS_readlink, path, name, PATH_MAX - 1);
	if (length > 0)
		name[length] = '\0';
	if (length > 0 && SYS2(SYS_access, name, X_OK) == 0)
		return true;
	copy = SYS3(SYS_fcntl, strtol(path + before, NULL, 10), F_DUPFD, 0);
	return copy >= 0 && snprintf(name, PATH_MAX, "/proc/self/fd/%ld", copy) < PATH_MAX;
}

/*
 * Start vmmu-host in the place of the program, with the program's arguments. `environment` has room for one more
 * entry.
 */
static long start_hosted(const struct start *start, const struct program_scripts *scripts, const char *path,
                         char **environment, size_t count)
{
	const char *program = scripts->count ? scripts->level[scripts->count - 1].interpreter : path;
	char host[PATH_MAX], variable[sizeof(CONFIG_ENV_PROGRAM) + PATH_MAX] = CONFIG_ENV_PROGRAM "=";
	struct start other = *start;
	size_t words = 0;

	if (SYS2(SYS_access, path, X_OK) != 0)
		return start->call(start, environment); /* the kernel refuses it; takes no lock of ours */
	if (!program_host(config_library(), host, sizeof(host)) || SYS2(SYS_access, host, X_OK) != 0)
		return refuse(start, path, "vmmu-host, which would host it, is not beside the preload library");
	if (!host_path(program, variable + sizeof(CONFIG_ENV_PROGRAM)))
		return refuse(start, path, "its name is too long");
	environment[count] = variable;
	environment[count + 1] = NULL;
	while (start->arguments && start->arguments[words])
		words++;
	other.arguments = start->arguments;
	if (scripts->count && words)
		other.arguments = program_arguments(alloca(PROGRAM_WORDS(words) * sizeof(char *)), scripts, path,
		                                    start->arguments);
	other.path = host;
	other.call = start->tell == BY_ERRNO ? call_execve : start->tell == BY_VALUE ? call_spawn : call_raw_execve;
	return other.call(&other, environment); /* takes no lock of ours */
}

/* Does the environment say it already? Of the program that vmmu-host hosts nothing is handed on. */
static bool is_dropped(const char *entry, const char *preload)
{
	return entry == preload || names(entry, CONFIG_ENV_PROGRAM "=");
}

/* The loader can be started as a program, and preloads for the program that it loads. Other libraries do not start. */
static enum program_way choose(const char *path, struct program_file *program, struct program_scripts *scripts,
                               const char **obstacle)
{
	enum program_kind kind = program_examine(path, program, scripts);

	return kind == PROGRAM_LIBRARY ? WAY_PRELOAD : program_way(kind, config_raw(), obstacle);
}

static long start_whole(const struct start *start, char *const *environment)
{
	const char *library = config_library(), *const *kept = config_kept(), *obstacle = NULL;
	const char *preload = environment_find(environment, PRELOAD);
	const char *value = preload ? preload + sizeof(PRELOAD) - 1 : "";
	enum program_way way = WAY_PRELOAD;
	struct program_file program = { 0 };
	struct program_scripts scripts;
	char path[PATH_MAX], **whole, *made;
	size_t count = 0;

	if (!library || (intptr_t)environment < 0) /* `environment` is no address: the kernel refuses it */
		return start->call(start, environment); /* takes no lock of ours */
	while (environment && environment[count])
		count++;
	whole = alloca((count + 2 + CONFIG_KEPT + 1) * sizeof(*whole));
	count = 0;
	for (; environment && *environment; environment++)
		if (!is_dropped(*environment, preload))
			whole[count++] = *environment;
	if (program_path(start, path))
		way = choose(path, &program, &scripts, &obstacle);
	if (obstacle && config_host_kvm())
		return start->call(start, environment); /* takes no lock of ours */
	if (obstacle)
		return refuse(start, path, obstacle);
	value = without_runtime(value);
	made = alloca(PRELOAD_ROOM(value, library));
	preload_make(made, strstr(value, program.runtime) ? "" : program.runtime, value, library);
	whole[count++] = made;
	for (whole[count] = NULL; *kept; kept++)
		if (!environment_find(whole, *kept)) {
			whole[count++] = (char *)*kept;
			whole[count] = NULL;
		}
	if (way == WAY_HOST)
		return start_hosted(start, &scripts, path, whole, count);
	return start->call(start, whole); /* takes no lock of ours */
}

int exec_missing(const char *path, char *const *environment, char *missing[static EXEC_MISSING])
{
	const char *library = config_library(), *preload = environment_find(environment, PRELOAD);
	const char *value = without_runtime(preload ? preload + sizeof(PRELOAD) - 1 : ""), *obstacle;
	struct program_file program = { 0 };
	struct program_scripts scripts;
	int count = 0;

	_Static_assert(EXEC_MISSING == CONFIG_KEPT + 1, "LD_PRELOAD, and what the configuration keeps");
	if (!library)
		return 0;
	if (!preloads(value, library)) {
		choose(path, &program, &scripts, &obstacle);
		missing[count] = malloc(PRELOAD_ROOM(value, library));
		if (missing[count])
			preload_make(missing[count], program.runtime, value, library);
		count++;
	}
	for (const char *const *kept = config_kept(); *kept; kept++)
		if (!environment_find(environment, *kept))
			missing[count++] = strdup(*kept);
	for (int i = 0; i < count; i++)
		if (!missing[i]) {
			while (count)
				free(missing[--count]);
			return errno = ENOMEM, -1;
		}
	return count;
}

/* ---- exec -------------------------------------------------------------------------------------- */

static long call_execvpe(const struct start *s, char *const *environment)
{
	return REAL(execvpe, int (*)(const char *, char *const *, char *const *))(s->path, s->arguments, environment);
}

static long call_fexecve(const struct start *s, char *const *environment)
{
	return REAL(fexecve, int (*)(int, char *const *, char *const *))(s->fd, s->arguments, environment);
}

static long call_execveat(const struct start *s, char *const *environment)
{
	return sys_result(SYS5(SYS_execveat, s->fd, s->path, s->arguments, environment, s->flags));
}

EXPORT int execve(const char *path, char *const arguments[], char *const environment[])
{
	struct start start = { .call = call_execve, .path = path, .arguments = arguments };

	return (int)start_whole(&start, environment);
}

EXPORT int execv(const char *path, char *const arguments[])
{
	return execve(path, arguments, environ);
}

EXPORT int execvpe(const char *file, char *const arguments[], char *const environment[])
{
	struct start start = { .call = call_execvpe, .search = true, .path = file, .arguments = arguments };

	return (int)start_whole(&start, environment);
}

EXPORT int execvp(const char *file, char *const arguments[])
{
	return execvpe(file, arguments, environ);
}

EXPORT int fexecve(int fd, char *const arguments[], char *const environment[])
{
	struct start start = { .call = call_fexecve, .fd = fd, .flags = AT_EMPTY_PATH, .path = "",
		               .arguments = arguments };

	return (int)start_whole(&start, environment);
}

EXPORT int execveat(int fd, const char *path, char *const arguments[], char *const environment[], int flags)
{
	struct start start = { .call = call_execveat, .by_directory = true, .fd = fd, .flags = flags, .path = path,
		               .arguments = arguments };

	return (int)start_whole(&start, environment);
}

/*
 * The arguments of execl and similar functions, up to the NULL, collected on the stack of the function that uses
 * this macro.
 */
#define GATHER(argument, list)                                                                                     \
	({                                                                                                         \
		size_t count_ = 1;                                                                                 \
		char **all_;                                                                                       \
                                                                                                                   \
		va_start(list, argument);                                                                          \
		for (const char *a_ = argument; a_; a_ = va_arg(list, const char *))                               \
			count_++;                                                                                  \
		va_end(list);                                                                                      \
		all_ = alloca(count_ * sizeof(*all_));                                                             \
		va_start(list, argument);                                                                          \
		all_[0] = (char *)(argument);                                                                      \
		for (size_t i_ = 1; i_ < count_; i_++)                                                             \
			all_[i_] = va_arg(list, char *);                                                           \
		all_;                                                                                              \
	})

EXPORT int execl(const char *path, const char *argument, ...)
{
	va_list list;
	char **arguments = GATHER(argument, list);

	va_end(list);
	return execve(path, arguments, environ);
}

EXPORT int execlp(const char *file, const char *argument, ...)
{
	va_list list;
	char **arguments = GATHER(argument, list);

	va_end(list);
	return execvpe(file, arguments, environ);
}

EXPORT int execle(const char *path, const char *argument, ...)
{
	va_list list;
	char **arguments = GATHER(argument, list);
	char *const *environment = va_arg(list, char *const *);

	va_end(list);
	return execve(path, arguments, environment);
}

/* ---- posix_spawn ------------------------------------------------------------------------------- */

static long call_spawnp(const struct start *s, char *const *environment)
{
	return REAL(posix_spawnp, spawn_fn *)(s->pid, s->path, s->actions, s->attributes, s->arguments, environment);
}

#define DEFINE_SPAWN(name, with, in_path)                                                                          \
	EXPORT int name(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,                   \
	                const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[])   \
	{                                                                                                          \
		struct start start = { .call = with, .tell = BY_VALUE, .search = in_path, .path = path,            \
		                       .arguments = arguments, .pid = pid, .actions = actions,                     \
		                       .attributes = attributes };                                                 \
                                                                                                                   \
		return (int)start_whole(&start, environment);                                                      \
	}

// clang-format off
DEFINE_SPAWN(posix_spawn, call_spawn, false)
DEFINE_SPAWN(posix_spawnp, call_spawnp, true)
// clang-format on

/* ---- syscall(2) -------------------------------------------------------------------------------- */

static long call_raw_execveat(const struct start *s, char *const *environment)
{
	return SYS5(SYS_execveat, s->fd, s->path, s->arguments, environment, s->flags);
}

bool syscall_exec(long number, const long a[6], long *result)
{
	struct start start = { 0 };

	// NOLINTBEGIN: the arguments are addresses
	if (number == SYS_execve) {
		start = (struct start){ .call = call_raw_execve, .tell = NEGATIVE, .path = (const char *)a[0],
			                .arguments = (char *const *)a[1] };
		*result = start_whole(&start, (char *const *)a[2]);
		return true;
	}
	if (number == SYS_execveat) {
		start = (struct start){ .call = call_raw_execveat, .tell = NEGATIVE, .by_directory = true,
			                .fd = (int)a[0], .path = (const char *)a[1],
			                .arguments = (char *const *)a[2], .flags = (int)a[4] };
		*result = start_whole(&start, (char *const *)a[3]);
		return true;
	}
	// NOLINTEND
	return false;
}

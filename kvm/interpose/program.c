/* SPDX-License-Identifier: MIT */
#include "kvm/interpose/program.h"
#include "port/posix/raw.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define SCRIPTS 5 /* the kernel follows so many interpreters that are scripts themselves */

struct image {
	const uint8_t *bytes;
	size_t size;
	Elf64_Ehdr header;
};

/* `bytes` of the file at `offset`. Returns: NULL when they are not all in the file. */
static const void *part(const struct image *image, uint64_t offset, uint64_t bytes)
{
	return offset <= image->size && bytes <= image->size - offset ? image->bytes + offset : NULL;
}

/* The text at `offset`. Returns: NULL when it does not end in the file. */
static const char *text(const struct image *image, uint64_t offset)
{
	const char *at = part(image, offset, 1);

	return at && memchr(at, 0, image->size - offset) ? at : NULL;
}

static bool segment(const struct image *image, unsigned i, Elf64_Phdr *out)
{
	const void *at = part(image, image->header.e_phoff + (uint64_t)i * image->header.e_phentsize, sizeof(*out));

	if (at)
		memcpy(out, at, sizeof(*out));
	return at;
}

/* The first segment of a type. Returns: false when there is none. */
static bool segment_find(const struct image *image, uint32_t type, Elf64_Phdr *out)
{
	for (unsigned i = 0; i < image->header.e_phnum && segment(image, i, out); i++)
		if (out->p_type == type)
			return true;
	return false;
}

/* The offset in the file of the byte that will be at `address`. */
static uint64_t offset_of(const struct image *image, uint64_t address)
{
	Elf64_Phdr s;

	for (unsigned i = 0; i < image->header.e_phnum && segment(image, i, &s); i++)
		if (s.p_type == PT_LOAD && address >= s.p_vaddr && address - s.p_vaddr < s.p_filesz)
			return address - s.p_vaddr + s.p_offset;
	return UINT64_MAX;
}

/* The i-th entry of the dynamic section. Returns: false past the last. */
static bool dynamic(const struct image *image, const Elf64_Phdr *section, uint64_t i, Elf64_Dyn *out)
{
	const void *at = i < section->p_filesz / sizeof(*out) && section->p_offset <= image->size
	                         ? part(image, section->p_offset + i * sizeof(*out), sizeof(*out))
	                         : NULL;

	if (at)
		memcpy(out, at, sizeof(*out));
	return at && out->d_tag != DT_NULL;
}

bool program_is_runtime(const char *name, size_t length)
{
	static const char *const runtimes[] = {
		"libasan.so", "libtsan.so", "liblsan.so", "libhwasan.so", "libclang_rt.",
	};

	for (size_t i = 0; i < sizeof(runtimes) / sizeof(*runtimes); i++)
		if (length >= strlen(runtimes[i]) && memcmp(name, runtimes[i], strlen(runtimes[i])) == 0)
			return true;
	return false;
}

static void runtime_find(const struct image *image, const Elf64_Phdr *section, struct program_file *out)
{
	uint64_t names = 0;
	Elf64_Dyn d;

	for (uint64_t i = 0; dynamic(image, section, i, &d); i++)
		if (d.d_tag == DT_STRTAB)
			names = offset_of(image, d.d_un.d_ptr);
	for (uint64_t i = 0; names && dynamic(image, section, i, &d); i++) {
		const char *name = d.d_tag == DT_NEEDED ? text(image, names + d.d_un.d_val) : NULL;

		if (name && strlen(name) < sizeof(out->runtime) && program_is_runtime(name, strlen(name))) {
			strcpy(out->runtime, name);
			return;
		}
	}
}

static bool is_pie(const struct image *image, const Elf64_Phdr *section)
{
	Elf64_Dyn d;

	for (uint64_t i = 0; dynamic(image, section, i, &d); i++)
		if (d.d_tag == DT_FLAGS_1)
			return d.d_un.d_val & DF_1_PIE;
	return false;
}

/* The interpreter of a script, as the kernel takes it from the first line. Returns: false when it is no script. */
static bool script(const struct image *image, char interpreter[static PROGRAM_INTERPRETER])
{
	size_t size = image->size < PROGRAM_INTERPRETER ? image->size : PROGRAM_INTERPRETER, at = 2, length = 0;

	if (size < 3 || memcmp(image->bytes, "#!", 2) != 0)
		return false;
	while (at < size && (image->bytes[at] == ' ' || image->bytes[at] == '\t'))
		at++;
	while (at + length < size && !memchr(" \t\n", image->bytes[at + length], 4))
		length++;
	if (!length || at + length == size)
		return false;
	memcpy(interpreter, image->bytes + at, length);
	interpreter[length] = '\0';
	return true;
}

static enum program_form look(struct image *image, struct program_file *out)
{
	Elf64_Phdr found, section;
	const char *loader, *name;
	const void *at = part(image, 0, sizeof(image->header));
	bool is_dynamic;

	if (!part(image, 0, EI_NIDENT) || memcmp(image->bytes, ELFMAG, SELFMAG) != 0)
		return script(image, out->interpreter) ? FORM_SCRIPT : FORM_OTHER;
	if (!at)
		return FORM_BROKEN;
	memcpy(&image->header, at, sizeof(image->header));
	if (image->header.e_ident[EI_CLASS] != ELFCLASS64 || image->header.e_machine != EM_X86_64)
		return FORM_FOREIGN;
	if (image->header.e_phnum && !segment(image, image->header.e_phnum - 1u, &found))
		return FORM_BROKEN;
	is_dynamic = segment_find(image, PT_DYNAMIC, &section);
	if (is_dynamic)
		runtime_find(image, &section, out);
	if (!segment_find(image, PT_INTERP, &found))
		return image->header.e_type == ET_DYN && is_dynamic && !is_pie(image, &section) ? FORM_LIBRARY
		                                                                                : FORM_STATIC;
	loader = text(image, found.p_offset);
	if (!loader)
		return FORM_BROKEN;
	name = strrchr(loader, '/');
	return strncmp(name ? name + 1 : loader, "ld-musl-", 8) == 0 ? FORM_MUSL : FORM_GLIBC;
}

bool program_look(const char *path, struct program_file *out)
{
	long fd = raw_syscall(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
	struct image image = { 0 };
	long error = fd, at;
	struct stat st;

	memset(out, 0, sizeof(*out));
	if (fd >= 0) {
		error = raw_syscall(SYS_fstat, fd, (long)&st, 0, 0, 0, 0);
		if (error == 0 && st.st_size > 0 && S_ISREG(st.st_mode)) {
			at = raw_syscall(SYS_mmap, 0, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
			error = at < 0 ? at : 0;
			image.bytes = (const uint8_t *)at; // NOLINT: the kernel's answer is an address
			image.size = (size_t)st.st_size;
		}
		raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
	}
	if (error < 0) {
		errno = (int)-error;
		return false;
	}
	if (image.size) {
		out->form = look(&image, out);
		raw_syscall(SYS_munmap, (long)image.bytes, (long)image.size, 0, 0, 0, 0);
	}
	return true;
}

/* Will the kernel give the program other rights than this process has? Then the loader does not preload for it. */
static bool is_privileged(const char *path)
{
	char some[1];
	struct stat st;

	if (raw_syscall(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0, 0) == 1)
		return false;
	if (raw_syscall(SYS_newfstatat, AT_FDCWD, (long)path, (long)&st, 0, 0, 0) == 0) {
		if (st.st_mode & S_ISUID && st.st_uid != (uid_t)raw_syscall(SYS_geteuid, 0, 0, 0, 0, 0, 0))
			return true;
		if (st.st_mode & S_ISGID && st.st_gid != (gid_t)raw_syscall(SYS_getegid, 0, 0, 0, 0, 0, 0))
			return true;
	}
	if (raw_syscall(SYS_geteuid, 0, 0, 0, 0, 0, 0) == 0)
		return false;
	return raw_syscall(SYS_getxattr, (long)path, (long)"security.capability", (long)some, 0, 0, 0) > 0;
}

enum program_kind program_examine(const char *path, struct program_file *file)
{
	char interpreter[PROGRAM_INTERPRETER];

	for (int i = 0; i < SCRIPTS; i++) {
		if (!program_look(path, file))
			return PROGRAM_UNREADABLE;
		if (file->form != FORM_SCRIPT)
			break;
		memcpy(interpreter, file->interpreter, sizeof(interpreter));
		path = interpreter;
	}
	switch (file->form) {
	case FORM_OTHER:
	case FORM_SCRIPT: return PROGRAM_OTHER;
	case FORM_FOREIGN:
	case FORM_BROKEN: return PROGRAM_FOREIGN;
	case FORM_LIBRARY: return PROGRAM_LIBRARY;
	default: break;
	}
	if (is_privileged(path))
		return PROGRAM_SETUID;
	return file->form == FORM_STATIC ? PROGRAM_STATIC : file->form == FORM_MUSL ? PROGRAM_MUSL : PROGRAM_DYNAMIC;
}

const char *program_obstacle(enum program_kind kind)
{
	switch (kind) {
	case PROGRAM_STATIC:
		return "statically linked: vmmu works by preloading a library, which needs a dynamically linked "
		       "program (rebuild it without -static)";
	case PROGRAM_SETUID:
		return "setuid, setgid or with file capabilities: the loader ignores LD_PRELOAD for it "
		       "(run a copy without those bits)";
	case PROGRAM_MUSL:
		return "linked with musl: the library that vmmu preloads is glibc's and cannot be loaded into it "
		       "(build it for glibc: cc instead of musl-gcc, Rust's target x86_64-unknown-linux-gnu)";
	case PROGRAM_LIBRARY:
		return "a shared object, not a program";
	case PROGRAM_FOREIGN:
		return "not an x86-64 program";
	default:
		return NULL;
	}
}

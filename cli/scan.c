/* SPDX-License-Identifier: MIT */
#include "cli/scan.h"
#include "kvm/interpose/instruction.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHECK_EXTENSION 0xae03u
#define CAP_LIMIT       512u /* every capability number is smaller */
#define NEAR            40u  /* the argument of a call is loaded within so many bytes of code before it */

/* One executable segment, and the targets of the direct calls in it. */
struct code {
	const uint8_t *bytes;
	size_t size;
	uint32_t *targets; /* sorted offsets */
	size_t target_count;
};

static uint32_t word(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* Insert a value into a sorted set, unless it is there. */
static void add(uint32_t *set, size_t *count, uint32_t value)
{
	size_t i = 0;

	while (i < *count && set[i] < value)
		i++;
	if ((i < *count && set[i] == value) || *count == SCAN_MAX)
		return;
	memmove(&set[i + 1], &set[i], (*count - i) * sizeof(*set));
	set[i] = value;
	++*count;
}

static bool is_immediate_move(uint8_t opcode)
{
	return opcode >= 0xb8 && opcode <= 0xbf;
}

static void find_ioctls(const uint8_t *bytes, size_t size, bool executable, struct scan *out)
{
	for (size_t i = 0; i + 4 <= size; i++) {
		if (bytes[i + 1] != 0xae || !surface_ioctl_find(word(bytes + i)))
			continue;
		/* A request without an argument has 16 bits, which occur by chance: it counts where code loads it. */
		if (word(bytes + i) >> 16 == 0 && !(executable && i && is_immediate_move(bytes[i - 1])))
			continue;
		add(out->ioctls, &out->ioctl_count, word(bytes + i));
	}
}

/* Find direct calls: e8 and a displacement. Some such bytes are data, but a wrong target only splits a function. */
static void find_targets(struct code *c)
{
	size_t n = 0, room = 1024;

	c->targets = malloc(room * sizeof(*c->targets));
	for (size_t i = 0; c->targets && i + 5 <= c->size; i++) {
		int64_t to;

		if (c->bytes[i] != 0xe8)
			continue;
		to = (int64_t)i + 5 + (int32_t)word(c->bytes + i + 1);
		if (to < 0 || to >= (int64_t)c->size)
			continue;
		if (n == room) {
			uint32_t *bigger = realloc(c->targets, (room *= 2) * sizeof(*bigger));

			if (!bigger)
				break;
			c->targets = bigger;
		}
		c->targets[n++] = (uint32_t)to;
	}
	if (c->targets)
		qsort(c->targets, n, sizeof(*c->targets), compare);
	c->target_count = c->targets ? n : 0;
}

/* The start of the function around `at`: the nearest call target below it. Returns: false when none is near. */
static bool function_start(const struct code *c, size_t at, uint32_t *start)
{
	size_t low = 0, high = c->target_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (c->targets[middle] <= at)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low || at - c->targets[low - 1] > 4096)
		return false;
	*start = c->targets[low - 1];
	return true;
}

#define MOV_EDX 0xba
#define MOV_ESI 0xbe
#define MOV_EDI 0xbf

/* Add the capability numbers that one of two opcodes loads shortly before `at`. */
static void arguments_before(const struct code *c, size_t at, uint8_t one, uint8_t other, struct scan *out)
{
	for (size_t i = at > NEAR ? at - NEAR : 0; i + 5 <= at; i++)
		if ((c->bytes[i] == one || c->bytes[i] == other) && word(c->bytes + i + 1) < CAP_LIMIT &&
		    surface_cap_find(word(c->bytes + i + 1)))
			add(out->caps, &out->cap_count, word(c->bytes + i + 1));
}

static void find_caps(const struct code *c, struct scan *out)
{
	for (size_t i = 1; i + 4 <= c->size; i++) {
		uint32_t start;

		/* mov $KVM_CHECK_EXTENSION, %esi */
		if (c->bytes[i - 1] != MOV_ESI || word(c->bytes + i) != CHECK_EXTENSION)
			continue;
		/* The code may load the capability before or after the request. */
		arguments_before(c, i + 24 < c->size ? i + 24 : c->size, MOV_EDX, MOV_EDX, out);
		if (!function_start(c, i, &start))
			continue;
		for (size_t k = 0; k + 5 <= c->size; k++)
			if (c->bytes[k] == 0xe8 && (int64_t)k + 5 + (int32_t)word(c->bytes + k + 1) == (int64_t)start)
				arguments_before(c, k, MOV_EDI, MOV_ESI, out);
	}
}

static void scan_segment(const uint8_t *bytes, size_t size, bool executable, struct scan *out)
{
	struct code code = { bytes, size, NULL, 0 };

	find_ioctls(bytes, size, executable, out);
	if (memmem(bytes, size, "/dev/kvm", 9))
		out->names_kvm = true;
	if (!executable)
		return;
	if (instruction_makes_calls(bytes, size))
		out->raw_syscalls = true;
	find_targets(&code);
	find_caps(&code, out);
	free(code.targets);
}

static int scan_image(const uint8_t *image, size_t size, struct scan *out)
{
	Elf64_Ehdr header;

	if (size < sizeof(header))
		return ENOEXEC;
	memcpy(&header, image, sizeof(header));
	for (unsigned i = 0; i < header.e_phnum; i++) {
		size_t at = header.e_phoff + (size_t)i * header.e_phentsize;
		Elf64_Phdr segment;

		if (at > size || size - at < sizeof(segment))
			return ENOEXEC;
		memcpy(&segment, image + at, sizeof(segment));
		if (segment.p_type != PT_LOAD || segment.p_offset > size || segment.p_filesz > size - segment.p_offset)
			continue;
		scan_segment(image + segment.p_offset, segment.p_filesz, segment.p_flags & PF_X, out);
	}
	return 0;
}

int scan_program(const char *path, struct scan *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), error = 0;
	struct stat st;
	void *image;

	memset(out, 0, sizeof(*out));
	if (fd < 0)
		return errno;
	if (fstat(fd, &st) != 0 || st.st_size == 0) {
		error = errno ? errno : ENOEXEC;
		close(fd);
		return error;
	}
	image = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (image == MAP_FAILED)
		return errno;
	error = scan_image(image, (size_t)st.st_size, out);
	munmap(image, (size_t)st.st_size);
	return error;
}

/* SPDX-License-Identifier: MIT */
/* Reads /proc/self/maps each time. Punching holes is rare, and a list of our own could go stale. */
#include "kvm/interpose/hostmap.h"
#include "kvm/process/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

struct reader {
	int descriptor;
	size_t used, next;
	char buffer[4096];
};

static int next_byte(struct reader *r)
{
	if (r->next == r->used) {
		long got = SYS3(SYS_read, r->descriptor, r->buffer, sizeof(r->buffer));

		if (got <= 0)
			return -1;
		r->used = (size_t)got;
		r->next = 0;
	}
	return (unsigned char)r->buffer[r->next++];
}

/* Read one line, cut at `size`. The fields that we need come first. */
static bool next_line(struct reader *r, char *line, size_t size)
{
	size_t n = 0;
	int c = next_byte(r);

	if (c < 0)
		return false;
	for (; c >= 0 && c != '\n'; c = next_byte(r))
		if (n + 1 < size)
			line[n++] = (char)c;
	line[n] = '\0';
	return true;
}

size_t hostmap_of_file(int descriptor, off_t offset, off_t bytes, struct host_range *ranges, size_t max)
{
	static const struct host_range everything = { 0, ~(uintptr_t)4095 };
	struct stat st;
	struct reader reader = { 0 };
	char line[128];
	size_t count = 0;

	if (SYS2(SYS_fstat, descriptor, &st) < 0)
		return 0;
	reader.descriptor = (int)SYS4(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
	if (reader.descriptor < 0) {
		ranges[0] = everything;
		return 1;
	}
	while (next_line(&reader, line, sizeof(line))) {
		unsigned long start, end, file_offset, inode, first, last;
		unsigned major_number, minor_number;

		if (sscanf(line, "%lx-%lx %*4s %lx %x:%x %lu", &start, &end, &file_offset, &major_number,
		           &minor_number, &inode) != 6)
			continue;
		if (inode != st.st_ino || makedev(major_number, minor_number) != st.st_dev)
			continue;
		first = (unsigned long)offset;
		last = bytes > INT64_MAX - offset ? (unsigned long)INT64_MAX : (unsigned long)(offset + bytes);
		if (last <= file_offset || first >= file_offset + (end - start))
			continue;
		if (count == max) {
			ranges[0] = everything;
			count = 1;
			break;
		}
		ranges[count].start = first > file_offset ? start + (first - file_offset) : start;
		ranges[count].end = last < file_offset + (end - start) ? start + (last - file_offset) : end;
		/* Round to whole pages: a page that loses a part must be looked up again too. */
		ranges[count].start &= ~4095ul;
		ranges[count].end = (ranges[count].end + 4095) & ~4095ul;
		count++;
	}
	SYS1(SYS_close, reader.descriptor);
	return count;
}

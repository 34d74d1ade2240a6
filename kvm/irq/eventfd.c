/* SPDX-License-Identifier: MIT */
#include "kvm/irq/eventfd.h"
#include "kvm/process/sys.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

/* The kernel's table of descriptors reaches to the highest one, and is copied by fork: so not higher than this. */
#define KEEP_FROM 768

long eventfd_id(int fd, unsigned *id)
{
	static const char field[] = "\neventfd-id:";
	char name[40], text[512];
	const char *found;
	long info, bytes;

	if (SYS2(SYS_fcntl, fd, F_GETFD) < 0)
		return -EBADF;
	snprintf(name, sizeof(name), "/proc/self/fdinfo/%d", fd);
	info = SYS4(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC, 0);
	if (info < 0)
		return -EINVAL;
	bytes = SYS3(SYS_read, info, text, sizeof(text) - 1);
	SYS1(SYS_close, info);
	if (bytes < 0)
		return -EINVAL;
	text[bytes] = '\0';
	found = strstr(text, field);
	if (!found)
		return -EINVAL;
	*id = (unsigned)strtoul(found + sizeof(field) - 1, NULL, 10);
	return 0;
}

long eventfd_keep(int fd)
{
	long kept = SYS3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, KEEP_FROM);

	/* EINVAL: the limit is lower. EMFILE: there are none left above. */
	return kept == -EINVAL || kept == -EMFILE ? SYS3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0) : kept;
}

void eventfd_signal(int fd)
{
	const uint64_t one = 1;

	SYS3(SYS_write, fd, &one, sizeof(one));
}

uint64_t eventfd_take(int fd)
{
	uint64_t count = 0;
	const struct iovec to = { &count, sizeof(count) };

	/* Another reader may have been first, and the client decides whether reads of this file sleep. So: NOWAIT. */
	return SYS6(SYS_preadv2, fd, &to, 1, -1, -1, RWF_NOWAIT) == sizeof(count) ? count : 0;
}

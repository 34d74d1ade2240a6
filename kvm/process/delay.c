/* SPDX-License-Identifier: MIT */
#include "kvm/process/delay.h"
#include "kvm/process/sys.h"
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/syscall.h>

static atomic_uint forbidden; /* how often */

void delay_forbid(void)
{
	atomic_fetch_add(&forbidden, 1);
}

void delay_allow(void)
{
	atomic_fetch_sub(&forbidden, 1);
}

/* The second number of three: the time on a processor, the time waiting for one, and how often it got one. */
static bool second_number(const char *text, const char *end, uint64_t *value)
{
	uint64_t sum = 0;
	bool any = false;

	while (text < end && *text != ' ')
		text++;
	for (text++; text < end && *text >= '0' && *text <= '9'; text++) {
		sum = sum * 10 + (uint64_t)(*text - '0');
		any = true;
	}
	*value = sum;
	return any;
}

bool delay_read(uint64_t *ns)
{
	char text[80];
	long fd, bytes;

	if (atomic_load(&forbidden))
		return false;
	fd = SYS4(SYS_openat, AT_FDCWD, "/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0) {
		delay_forbid(); /* it would fail the next time, too */
		return false;
	}
	bytes = SYS3(SYS_read, fd, text, sizeof(text));
	SYS1(SYS_close, fd);
	return bytes > 0 && second_number(text, text + bytes, ns);
}

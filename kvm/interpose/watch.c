/* SPDX-License-Identifier: MIT */
#include "kvm/interpose/watch.h"
#include "kvm/process/config.h"
#include "kvm/process/sys.h"
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

void watch_tell(void)
{
	static atomic_flag told = ATOMIC_FLAG_INIT;
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const char *name = config_watch();
	size_t length = name ? strlen(name) : 0;
	long fd;

	if (!length || length >= sizeof(to.sun_path) || atomic_flag_test_and_set(&told))
		return;
	fd = SYS3(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	memcpy(to.sun_path + 1, name, length); /* abstract address: the first byte is 0 */
	SYS6(SYS_sendto, fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, &to,
	     offsetof(struct sockaddr_un, sun_path) + 1 + length);
	SYS1(SYS_close, fd);
}

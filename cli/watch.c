/* SPDX-License-Identifier: MIT */
/*
 * The watcher says, when a program has ended, that nothing asked for /dev/kvm. The command itself becomes the
 * program, so that the program has the command's process number, parent and signals, and its status reaches the
 * caller. The watcher is another process, in its own session, and no child of the program. It ends as soon as the
 * front end tells it that /dev/kvm was asked for.
 */
#include "cli/cli.h"
#include "kvm/process/config.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* The descriptors that the watcher keeps, beside stderr. */
#define NEWS    3
#define PROGRAM 4

/* An abstract socket whose name the kernel chooses. Returns: a descriptor, with the name in `name`; or -1. */
static int listen_for_news(char name[static 16])
{
	struct sockaddr_un own = { .sun_family = AF_UNIX };
	const socklen_t before = offsetof(struct sockaddr_un, sun_path) + 1;
	socklen_t length = sizeof(own);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (bind(fd, (struct sockaddr *)&own, sizeof(own.sun_family)) != 0 ||
	    getsockname(fd, (struct sockaddr *)&own, &length) != 0 || length <= before || length - before >= 16) {
		close(fd);
		return -1;
	}
	memcpy(name, own.sun_path + 1, length - before);
	name[length - before] = '\0';
	return fd;
}

static void keep_only(int news, int program)
{
	int high = fcntl(program, F_DUPFD, PROGRAM + 1);
	int null = open("/dev/null", O_RDWR);

	dup2(news, NEWS);
	dup2(high, PROGRAM);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	syscall(SYS_close_range, PROGRAM + 1, ~0u, 0);
}

static void watch(int news, int program)
{
	struct pollfd wait[] = { { .fd = NEWS, .events = POLLIN }, { .fd = PROGRAM, .events = POLLIN } };
	static const int deaf[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGTTOU };

	for (size_t i = 0; i < sizeof(deaf) / sizeof(*deaf); i++)
		signal(deaf[i], SIG_IGN);
	setsid();
	if (chdir("/") != 0)
		_exit(EXIT_FAILED);
	keep_only(news, program);
	while (poll(wait, 2, -1) < 0 && errno == EINTR)
		;
	if (!(wait[0].revents & POLLIN) && wait[1].revents)
		complain("nothing asked for /dev/kvm (--quiet leaves this out; a program that makes system calls "
		         "without libc is not seen)");
	_exit(0);
}

void watch_start(void)
{
	char name[16];
	int status, news = listen_for_news(name);
	int program = news < 0 ? -1 : (int)syscall(SYS_pidfd_open, getpid(), 0);
	pid_t child;

	if (program >= 0 && setenv(CONFIG_ENV_WATCH, name, 1) == 0) {
		child = fork();
		if (child == 0) {
			if (fork() == 0)
				watch(news, program);
			_exit(0);
		}
		while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
			;
	}
	if (program >= 0)
		close(program);
	if (news >= 0)
		close(news);
}

void watch_stop(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const char *name = getenv(CONFIG_ENV_WATCH);
	int fd = name ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;

	if (fd < 0)
		return;
	memcpy(to.sun_path + 1, name, strlen(name));
	sendto(fd, "", 1, MSG_DONTWAIT, (struct sockaddr *)&to,
	       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name)));
	close(fd);
}

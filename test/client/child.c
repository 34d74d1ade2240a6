/* SPDX-License-Identifier: MIT */
/* A program for test/client/programs.list that dies, handles signals and has children, as its arguments say. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t handled;

static int signal_number(const char *name)
{
	for (int i = 1; i < 32; i++)
		if (!strcmp(sigabbrev_np(i), name))
			return i;
	fprintf(stderr, "no signal is called %s\n", name);
	exit(2);
}

static void on_signal(int number)
{
	struct sigaction old;

	sigaction(number, NULL, &old); /* a handler may ask for the action */
	handled++;
}

static int wait_for(pid_t child)
{
	int status;

	if (child < 0 || waitpid(child, &status, 0) != child)
		return 127;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int handler(int number)
{
	signal(number, on_signal);
	for (int i = 0; i < 100; i++)
		raise(number);
	printf("handled %d\n", (int)handled);
	return 0;
}

/* After vfork the child has its own signal actions: those that exec resets stay set in the parent. */
static int child_by_vfork(int status)
{
	pid_t child;

	signal(SIGUSR1, on_signal);
	child = vfork();
	if (child == 0) {
		execl("/bin/sh", "sh", "-c", "exit $0", (char[]){ (char)('0' + status), 0 }, (char *)NULL);
		_exit(126);
	}
	status = wait_for(child);
	raise(SIGUSR1);
	printf("handled %d\n", (int)handled);
	return status;
}

static void *fork_in_thread(void *unused)
{
	int status = 0;

	(void)unused;
	for (int i = 0; i < 20; i++) {
		pid_t child = fork();

		if (child == 0) {
			signal(SIGUSR1, SIG_DFL);
			free(malloc(100));
			exit(3);
		}
		status += wait_for(child);
		signal(SIGUSR1, on_signal);
	}
	return (void *)(long)status;
}

static int threads_that_fork(int count)
{
	pthread_t thread[64];
	long sum = 0;

	for (int i = 0; i < count; i++)
		pthread_create(&thread[i], NULL, fork_in_thread, NULL);
	for (int i = 0; i < count; i++) {
		void *status;

		pthread_join(thread[i], &status);
		sum += (long)status;
	}
	printf("%ld\n", sum);
	return 0;
}

static int nested(int depth)
{
	pid_t child;

	if (depth == 0)
		return 1;
	child = fork();
	if (child == 0)
		exit(nested(depth - 1) + 1);
	return wait_for(child);
}

static void at_exit(void)
{
	printf("atexit\n");
}

static int in_clone(void *status)
{
	return *(int *)status;
}

static int cloned(int status)
{
	static char stack[1 << 16] __attribute__((aligned(16)));

	return wait_for(clone(in_clone, stack + sizeof(stack), SIGCHLD, &status));
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	const char *more = argc > 2 ? argv[2] : "0";

	if (!strcmp(what, "exit"))
		return atoi(more);
	if (!strcmp(what, "signal"))
		return raise(signal_number(more));
	if (!strcmp(what, "handler"))
		return handler(signal_number(more));
	if (!strcmp(what, "fork")) {
		pid_t child = fork();

		return child == 0 ? atoi(more) : wait_for(child);
	}
	if (!strcmp(what, "vfork"))
		return child_by_vfork(atoi(more));
	if (!strcmp(what, "threads"))
		return threads_that_fork(atoi(more));
	if (!strcmp(what, "nested"))
		return nested(atoi(more));
	if (!strcmp(what, "clone"))
		return cloned(atoi(more));
	if (!strcmp(what, "atexit"))
		return atexit(at_exit);
	fprintf(stderr,
	        "usage: child exit N | signal NAME | handler NAME | fork N | vfork N | threads N | nested N | "
	        "clone N | atexit\n");
	return 2;
}

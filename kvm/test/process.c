/* SPDX-License-Identifier: MIT */
/*
 * The front end must not change what a process does besides KVM: how it ends, its children by fork and vfork, and its
 * signal handlers.
 */
#include "check.h"
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

/* hlt */
static const uint8_t halt[] = { 0xf4 };

/* Returns: the child's status; -1 when it did not end by itself and was killed. */
static int child_wait(pid_t child)
{
	int status;

	for (int i = 0; i < 30000; i++) {
		if (waitpid(child, &status, WNOHANG) == child)
			return status;
		usleep(1000);
	}
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	return -1;
}

static void nothing(int number)
{
	(void)number;
}

/* ---- the end ------------------------------------------------------------------------------------ */

enum { END_CLOSED = 1, END_THREADS = 2, END_HINTS = 4, END_NO_KVM = 8 };

static struct machine ending;

static void *end_run(void *argument)
{
	(void)argument;
	NEED(ioctl(ending.vcpu[0], KVM_RUN, 0) == 0 && ending.run[0]->exit_reason == KVM_EXIT_HLT);
	return NULL;
}

static void *end_map(void *argument)
{
	pthread_barrier_t *barrier = argument;
	void *memory = mmap(NULL, 256 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	NEED(memory != MAP_FAILED);
	pthread_barrier_wait(barrier); /* so that more threads exist at once than a library keeps places for */
	munmap(memory, 256 * PAGE);
	return NULL;
}

/* main of a program whose threads run and end before main returns. */
static int end_main(int how)
{
	unsigned threads = how & END_THREADS ? 40 : 1;
	pthread_barrier_t barrier;
	pthread_t thread[40];

	if (how & END_HINTS) {
		void *memory = mmap(NULL, 256 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		NEED(memory != MAP_FAILED && madvise(memory, 256 * PAGE, MADV_NOHUGEPAGE) == 0);
	}
	if (!(how & END_NO_KVM)) {
		machine_make(&ending, 1, 16 * PAGE);
		memcpy(ending.memory + 0x1000, halt, sizeof(halt));
		NEED(pthread_create(&thread[0], NULL, end_run, NULL) == 0);
		pthread_join(thread[0], NULL);
	}
	pthread_barrier_init(&barrier, NULL, threads);
	for (unsigned i = 0; i < threads; i++)
		NEED(pthread_create(&thread[i], NULL, end_map, &barrier) == 0);
	for (unsigned i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	if (how & END_CLOSED)
		machine_free(&ending, 1);
	return 0;
}

static void test_end(const char *self)
{
	for (int how = 0; how < 16; how++) {
		char number[8];
		pid_t child;

		if (how & END_NO_KVM && how & END_CLOSED)
			continue;
		snprintf(number, sizeof(number), "%d", how);
		child = fork();
		if (!child) {
			execl(self, self, "end", number, (char *)NULL);
			_exit(127);
		}
		if (child_wait(child) != 0) {
			fprintf(stderr, "a program that ends in way %d does not\n", how);
			CHECK(false);
		}
	}
}

/* ---- fork ---------------------------------------------------------------------------------------- */

static void test_fork_mask(void)
{
	sigset_t set, before, now;
	pid_t child;
	int status;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, &before);
	sigprocmask(SIG_BLOCK, NULL, &set);
	child = fork();
	sigprocmask(SIG_BLOCK, NULL, &now);
	if (!child)
		_exit(memcmp(&now, &set, 8) != 0);
	CHECK(child_wait(child) == 0);
	CHECK(memcmp(&now, &set, 8) == 0);
	sigprocmask(SIG_SETMASK, &before, NULL);

	child = fork();
	if (!child) {
		alarm(1);
		pause();
		_exit(1);
	}
	status = child_wait(child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM);

	child = fork();
	if (!child) {
		execl("/bin/sh", "sh", "-c", "kill -TERM $$; exit 7", (char *)NULL);
		_exit(127);
	}
	status = child_wait(child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

static unsigned thread_count(void)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned count = 0;

	for (const struct dirent *d = readdir(tasks); d; d = readdir(tasks))
		count += d->d_name[0] != '.';
	closedir(tasks);
	return count;
}

static void run_and_free(void)
{
	struct machine m;

	machine_make(&m, 1, 16 * PAGE);
	memcpy(m.memory + 0x1000, halt, sizeof(halt));
	NEED(ioctl(m.vcpu[0], KVM_RUN, 0) == 0 && m.run[0]->exit_reason == KVM_EXIT_HLT);
	machine_free(&m, 1);
}

/* A child of a process with a VM has one thread. It may have a VM and children of its own, and can end by exit. */
static void test_fork_child(void)
{
	struct machine m;
	pid_t child;
	bool runtime = under_runtime("__tsan_init");

	machine_make(&m, 1, 16 * PAGE);
	memcpy(m.memory + 0x1000, halt, sizeof(halt));
	NEED(ioctl(m.vcpu[0], KVM_RUN, 0) == 0);
	madvise(m.memory, m.bytes, MADV_DONTNEED);
	for (int how = 0; how < 3; how++) {
		fflush(NULL);
		child = fork();
		if (!child) {
			check_failures = 0;
			CHECK(runtime || thread_count() == 1);
			if (how == 1)
				run_and_free();
			child = fork();
			if (!child) {
				CHECK(runtime || thread_count() == 1);
				if (how == 2)
					run_and_free();
				exit(check_failures != 0);
			}
			CHECK(child_wait(child) == 0);
			exit(check_failures != 0);
		}
		CHECK(child_wait(child) == 0);
	}
	machine_free(&m, 1);
	run_and_free();
}

static atomic_bool stop;

static void *busy_sigaction(void *argument)
{
	struct sigaction action = { .sa_handler = nothing };

	while (!stop)
		sigaction(SIGUSR2, &action, NULL);
	return argument;
}

static void *busy_hints(void *memory)
{
	while (!stop) {
		madvise(memory, 4 * PAGE, MADV_NOHUGEPAGE);
		madvise(memory, 4 * PAGE, MADV_HUGEPAGE);
	}
	return NULL;
}

static void *busy_machines(void *argument)
{
	while (!stop)
		run_and_free();
	return argument;
}

/* The child can make the very calls in which other threads of the parent were when it forked. */
static void test_fork_locks(void)
{
	void *memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *(*const busy[])(void *) = { busy_sigaction, busy_hints, busy_machines };
	struct sigaction action = { .sa_handler = SIG_DFL };
	pthread_t thread[3];

	for (int i = 0; i < 3; i++)
		NEED(pthread_create(&thread[i], NULL, busy[i], memory) == 0);
	for (int i = 0; i < 50; i++) {
		pid_t child = fork();
		int status;

		if (!child) {
			sigaction(SIGUSR1, &action, NULL);
			madvise(memory, 4 * PAGE, MADV_NOHUGEPAGE);
			munmap(memory, 4 * PAGE);
			if (!under_runtime("__tsan_init"))
				run_and_free();
			_exit(0);
		}
		status = child_wait(child);
		CHECK(status == 0);
		if (status)
			break;
	}
	stop = true;
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	munmap(memory, 4 * PAGE);
	signal(SIGUSR2, SIG_DFL);
}

/* ---- vfork --------------------------------------------------------------------------------------- */

static volatile int handled, handled_own;

static void count_handled(int number)
{
	(void)number;
	handled++;
}

static void count_own(int number)
{
	(void)number;
	handled_own++;
}

/* A child of vfork has its own table of signal handlers, as signal(7) says. */
static void test_vfork(int number)
{
	struct sigaction action = { .sa_handler = count_handled }, now;
	volatile bool child_saw = false;
	pid_t child;

	NEED(sigaction(number, &action, NULL) == 0);
	child = vfork();
	if (!child) {
		struct sigaction theirs = { .sa_handler = SIG_DFL };

		sigaction(number, &theirs, &now);
		child_saw = now.sa_handler == count_handled;
		theirs.sa_handler = nothing;
		sigaction(number, &theirs, &now);
		child_saw &= now.sa_handler == SIG_DFL;
		sigaction(number, NULL, &now);
		child_saw &= now.sa_handler == nothing;
		theirs.sa_handler = count_own;
		sigaction(number, &theirs, NULL);
		raise(number);
		child_saw &= handled_own == 1;
		signal(number, SIG_IGN);
		_exit(0);
	}
	CHECK(child_wait(child) == 0);
	CHECK(child_saw);
	handled = handled_own = 0;
	raise(number);
	CHECK(handled == 1);
	NEED(sigaction(number, NULL, &now) == 0);
	CHECK(now.sa_handler == count_handled);
	signal(number, SIG_DFL);
}

/* An ignored signal is ignored after exec, too, even if KVM_RUN has once waited for it. */
static void test_exec_ignored(void)
{
	struct {
		struct kvm_signal_mask head;
		uint64_t mask;
	} __attribute__((packed)) mask = { .head.len = 8 };
	struct machine m;
	pid_t child;

	machine_make(&m, 1, 16 * PAGE);
	CHECK(ioctl(m.vcpu[0], KVM_SET_SIGNAL_MASK, &mask) == 0);
	signal(SIGUSR1, SIG_IGN);
	child = fork();
	if (!child) {
		execl("/bin/sh", "sh", "-c", "kill -USR1 $$; exit 7", (char *)NULL);
		_exit(127);
	}
	CHECK(child_wait(child) == 7 << 8);
	signal(SIGUSR1, SIG_DFL);
	machine_free(&m, 1);
}

/* ---- handlers ------------------------------------------------------------------------------------ */

static volatile unsigned alarms;

static void on_alarm(int number)
{
	struct sigaction action = { .sa_handler = nothing };
	int saved = errno;

	(void)number;
	sigaction(SIGUSR1, &action, NULL); /* sigaction is async-signal-safe */
	alarms++;
	errno = saved;
}

/* The handler calls sigaction, and may interrupt a call of sigaction. */
static void test_handler_calls(void)
{
	struct itimerval often = { { 0, 100 }, { 0, 100 } }, never = { 0 };
	struct sigaction action = { .sa_handler = on_alarm }, other = { .sa_handler = nothing };

	NEED(sigaction(SIGALRM, &action, NULL) == 0);
	setitimer(ITIMER_REAL, &often, NULL);
	while (alarms < 2000)
		sigaction(SIGUSR2, &other, NULL);
	setitimer(ITIMER_REAL, &never, NULL);
	signal(SIGALRM, SIG_DFL);
	signal(SIGUSR1, SIG_DFL);
	signal(SIGUSR2, SIG_DFL);
}

#define SENT 8

static volatile int arrived[2][SENT];
static volatile int arrivals[2];

static void on_realtime(int number, siginfo_t *info, void *context)
{
	int line = number - SIGRTMIN;

	(void)context;
	if (arrivals[line] < SENT)
		arrived[line][arrivals[line]] = info->si_value.sival_int;
	arrivals[line]++;
}

struct sender {
	pthread_t target;
	volatile bool go;
};

static void *send_realtime(void *argument)
{
	struct sender *s = argument;

	while (!s->go)
		;
	for (int i = 0; i < SENT; i++)
		for (int line = 0; line < 2; line++)
			pthread_sigqueue(s->target, SIGRTMIN + line, (union sigval){ .sival_int = i });
	return NULL;
}

/* Signals of one number arrive in the order in which they were sent, however many come while the front end runs. */
static void test_realtime_order(void)
{
	struct sigaction action = { .sa_sigaction = on_realtime, .sa_flags = SA_SIGINFO };
	/* mov cx, 0x4000; loop .; in al, 0x10; jmp: exits by itself, in case all signals came before the guest ran */
	static const uint8_t spin[] = { 0xb9, 0x00, 0x40, 0xe2, 0xfe, 0xe4, 0x10, 0xeb, 0xf7 };
	struct machine m;
	unsigned wrong = 0;

	machine_make(&m, 1, 16 * PAGE);
	memcpy(m.memory + 0x1000, spin, sizeof(spin));
	NEED(sigaction(SIGRTMIN, &action, NULL) == 0 && sigaction(SIGRTMIN + 1, &action, NULL) == 0);
	for (int round = 0; round < 200; round++) {
		struct sender sender = { .target = pthread_self() };
		pthread_t thread;

		arrivals[0] = arrivals[1] = 0;
		NEED(pthread_create(&thread, NULL, send_realtime, &sender) == 0);
		sender.go = true;
		while (arrivals[0] < SENT || arrivals[1] < SENT) {
			if (round % 2)
				madvise(m.memory + 8 * PAGE, PAGE, MADV_DONTNEED);
			else
				CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == 0 || errno == EINTR);
		}
		pthread_join(thread, NULL);
		for (int line = 0; line < 2; line++)
			for (int i = 0; i < SENT; i++)
				wrong += arrived[line][i] != i;
		CHECK(arrivals[0] == SENT && arrivals[1] == SENT);
	}
	CHECK(wrong == 0);
	signal(SIGRTMIN, SIG_DFL);
	signal(SIGRTMIN + 1, SIG_DFL);
	machine_free(&m, 1);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "end"))
		return end_main(atoi(argv[2]));
	test_fork_mask();
	test_vfork(SIGUSR1);
	test_vfork(SIGCHLD);
	test_handler_calls();
	test_end(argv[0]);
	test_fork_child();
	test_fork_mask(); /* again, after the process has had a VM */
	test_fork_locks();
	test_exec_ignored();
	test_realtime_order();
	return check_end();
}

/* SPDX-License-Identifier: MIT */
/*
 * /dev/kvm as a file: every call that takes its name, with every name that it has, and what its descriptors answer to
 * calls that are not about KVM. With the argument "absent", /dev is a directory without kvm.
 */
#include "check.h"
#include <limits.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>

static char directory[] = "/tmp/vmmu-files-XXXXXX";
static char name_link[64], name_relative[64], name_chain[64], name_dir[64], name_self[64];

/*
 * Is this program hosted (doc/hosted.md)? Then the front end sees what raw() does, and the memfd behind a descriptor
 * answers read and write, by which it differs from the machine's own.
 */
static bool hosted;

static bool under_vmmu(void)
{
	return under_runtime("vmmu_host");
}

/* A system call made directly, so that no library sees it. */
static long raw(long number, long a, long b)
{
	long result;

	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b) : "rcx", "r11", "memory");
	return result;
}

static bool is_machines_own(int fd)
{
	struct stat st;
	char byte;

	if (hosted)
		return read(fd, &byte, 1) == -1 && errno == EINVAL;
	return under_vmmu() && raw(SYS_fstat, fd, (long)&st) == 0 && S_ISCHR(st.st_mode);
}

/* Does the descriptor answer as /dev/kvm, and is it not the machine's own device? Closes it. */
static bool is_kvm(int fd)
{
	bool good = fd >= 0 && ioctl(fd, KVM_GET_API_VERSION, 0) == 12 && !is_machines_own(fd);
	int error = errno;

	if (fd >= 0)
		close(fd);
	errno = error;
	return good;
}

static bool is_device(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(10, 232) && st->st_size == 0;
}

static void make_dev(void)
{
	if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("none", "/dev", "tmpfs", 0, NULL) != 0)
		exit(77);
	NEED(mknod("/dev/null", S_IFCHR | 0666, makedev(1, 3)) == 0);
	NEED(symlink("/proc/self/fd", "/dev/fd") == 0);
}

static void make_names(void)
{
	NEED(mkdtemp(directory));
	snprintf(name_link, sizeof(name_link), "%s/link", directory);
	NEED(symlink("/dev/kvm", name_link) == 0);
	snprintf(name_relative, sizeof(name_relative), "%s/relative", directory);
	NEED(symlink("../../dev/kvm", name_relative) == 0);
	snprintf(name_chain, sizeof(name_chain), "%s/chain", directory);
	NEED(symlink("relative", name_chain) == 0);
	snprintf(name_dir, sizeof(name_dir), "%s/dir/kvm", directory);
	name_dir[strlen(name_dir) - 4] = '\0';
	NEED(symlink("/dev", name_dir) == 0);
	strcat(name_dir, "/kvm");
}

static void remove_names(void)
{
	name_dir[strlen(name_dir) - 4] = '\0';
	CHECK(unlink(name_link) == 0 && unlink(name_relative) == 0 && unlink(name_chain) == 0 && unlink(name_dir) == 0);
	CHECK(rmdir(directory) == 0);
}

static void check_fopen(const char *name)
{
	FILE *f = fopen(name, "r+e");

	CHECK(f && ioctl(fileno(f), KVM_GET_API_VERSION, 0) == 12 && !is_machines_own(fileno(f)));
	if (f)
		fclose(f);
	f = fopen("/dev/null", "r");
	f = f ? freopen(name, "r+", f) : NULL;
	CHECK(f && ioctl(fileno(f), KVM_GET_API_VERSION, 0) == 12 && !is_machines_own(fileno(f)));
	if (f)
		fclose(f);
}

static void check_open(int at, const char *name)
{
	struct open_how how = { .flags = O_RDWR | O_CLOEXEC };

	CHECK(is_kvm(openat(at, name, O_RDWR)));
	CHECK(is_kvm(openat(at, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK)));
	CHECK(is_kvm(openat(at, name, O_RDWR | O_CREAT, 0600)));
	CHECK(is_kvm((int)syscall(SYS_openat, at, name, O_RDWR, 0)));
	CHECK(is_kvm((int)syscall(SYS_openat2, at, name, &how, sizeof(how))));
	CHECK(openat(at, name, O_RDONLY | O_DIRECTORY) == -1 && errno == ENOTDIR);
	CHECK(openat(at, name, O_RDWR | O_CREAT | O_EXCL, 0600) == -1 && errno == EEXIST);
	if (at != AT_FDCWD)
		return;
	CHECK(is_kvm(open(name, O_RDWR)));
	CHECK(is_kvm(open64(name, O_RDWR)));
	CHECK(is_kvm(creat(name, 0600)));
	CHECK(is_kvm((int)syscall(SYS_open, name, O_RDWR, 0)));
	check_fopen(name);
}

static void check_stat(int at, const char *name)
{
	struct statx x;
	struct stat st;

	CHECK(fstatat(at, name, &st, 0) == 0 && is_device(&st));
	CHECK(syscall(SYS_newfstatat, at, name, &st, 0) == 0 && is_device(&st));
	CHECK(statx(at, name, 0, STATX_BASIC_STATS, &x) == 0 && S_ISCHR(x.stx_mode));
	CHECK(x.stx_rdev_major == 10 && x.stx_rdev_minor == 232 && x.stx_ino == st.st_ino);
	CHECK(syscall(SYS_statx, at, name, 0, STATX_TYPE, &x) == 0 && S_ISCHR(x.stx_mode));
	if (at != AT_FDCWD)
		return;
	CHECK(stat(name, &st) == 0 && is_device(&st));
	CHECK(syscall(SYS_stat, name, &st) == 0 && is_device(&st));
}

static void check_access(int at, const char *name)
{
	CHECK(faccessat(at, name, R_OK | W_OK, 0) == 0);
	CHECK(faccessat(at, name, F_OK, AT_EACCESS) == 0);
	CHECK(faccessat(at, name, X_OK, 0) == -1 && errno == EACCES);
	CHECK(syscall(SYS_faccessat, at, name, R_OK) == 0);
	CHECK(syscall(439 /* faccessat2 */, at, name, R_OK | W_OK, AT_EACCESS) == 0);
	if (at != AT_FDCWD)
		return;
	CHECK(access(name, R_OK | W_OK) == 0 && euidaccess(name, W_OK) == 0 && eaccess(name, R_OK) == 0);
	CHECK(syscall(SYS_access, name, W_OK) == 0);
}

static void check_name(int at, const char *name)
{
	char path[PATH_MAX];

	check_open(at, name);
	check_stat(at, name);
	check_access(at, name);
	if (at == AT_FDCWD)
		CHECK(realpath(name, path) && strcmp(path, "/dev/kvm") == 0);
}

static void test_names(void)
{
	int dev = open("/dev", O_RDONLY | O_DIRECTORY), root = open("/", O_PATH), kvm = open("/dev/kvm", O_RDWR);
	const char *names[] = { "/dev/kvm", "//dev/kvm", "/dev/./kvm", "/dev//kvm", "/dev/../dev/kvm", name_link,
		                name_relative, name_chain, name_dir, name_self, "kvm", "./kvm" };
	char before[PATH_MAX], text[64];
	struct stat st;

	NEED(dev >= 0 && root >= 0 && kvm >= 0 && getcwd(before, sizeof(before)) && chdir("/dev") == 0);
	snprintf(name_self, sizeof(name_self), "/proc/self/fd/%d", kvm);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		check_name(AT_FDCWD, names[i]);
	NEED(chdir(before) == 0);
	check_name(dev, "kvm");
	check_name(dev, "../dev/kvm");
	check_name(root, "dev/kvm");
	/* The device does not look like a link, and a link to it does. */
	CHECK(lstat("/dev/kvm", &st) == 0 && is_device(&st));
	CHECK(lstat(name_link, &st) == 0 && S_ISLNK(st.st_mode));
	CHECK(readlink("/dev/kvm", text, sizeof(text)) == -1 && errno == EINVAL);
	CHECK(readlink(name_link, text, sizeof(text)) == 8);
	CHECK(open(name_link, O_RDWR | O_NOFOLLOW) == -1 && errno == ELOOP);
	if (under_vmmu())
		CHECK(chmod("/dev/kvm", 0600) == -1 && errno == EPERM && chown(name_link, 0, 0) == -1 &&
		      errno == EPERM);
	/* Names that are not the device. */
	CHECK(open("/tmp/kvm", O_RDWR) == -1 && errno == ENOENT);
	CHECK(open("/dev/kvm/", O_RDWR) == -1 && stat("/dev/kvm/x", &st) == -1);
	CHECK(syscall(SYS_open, NULL, O_RDWR) == -1 && errno == EFAULT);
	CHECK(openat(12345, "kvm", O_RDWR) == -1 && errno == EBADF);
	close(dev);
	close(root);
	close(kvm);
}

static bool link_is(int fd, const char *wanted)
{
	char name[64], text[64] = { 0 };

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	return readlink(name, text, sizeof(text) - 1) > 0 && strcmp(text, wanted) == 0;
}

/* `at`: the error of a read at a position. */
static void check_transfers(int fd, int at)
{
	char byte = 0;
	struct iovec vector = { &byte, 1 };

	CHECK(read(fd, &byte, 1) == -1 && errno == EINVAL);
	CHECK(write(fd, &byte, 1) == -1 && errno == EINVAL);
	CHECK(pread(fd, &byte, 1, 0) == -1 && errno == at);
	CHECK(pwrite(fd, &byte, 1, 0) == -1 && errno == at);
	CHECK(readv(fd, &vector, 1) == -1 && errno == EINVAL);
	CHECK(writev(fd, &vector, 1) == -1 && errno == EINVAL);
	CHECK(preadv(fd, &vector, 1, 0) == -1 && errno == at);
	CHECK(pwritev2(fd, &vector, 1, 0, 0) == -1 && errno == at);
	CHECK(syscall(SYS_read, fd, &byte, 1) == -1 && errno == EINVAL);
	CHECK(syscall(SYS_write, fd, &byte, 1) == -1 && errno == EINVAL);
	CHECK(lseek(fd, 100, SEEK_SET) == 0);
	CHECK(fsync(fd) == -1 && errno == EINVAL);
}

/*
 * A file lies behind each descriptor of the front end. The client cannot read, write, resize or seal it. `at`: the
 * error of a read at a position.
 */
static void check_descriptor(int fd, int at)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN | POLLOUT };
	struct statx x;
	struct stat st;

	if (!hosted)
		check_transfers(fd, at);
	CHECK(ftruncate(fd, 0) == -1 && errno == EINVAL);
	CHECK(fallocate(fd, 3 /* PUNCH_HOLE | KEEP_SIZE */, 0, 4096) == -1 && errno == ENODEV);
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) == -1 && errno == EINVAL);
	CHECK(fcntl(fd, F_GET_SEALS) == -1 && errno == EINVAL);
	CHECK(poll(&ready, 1, 0) == 1 && ready.revents == (POLLIN | POLLOUT));
	CHECK(fstat(fd, &st) == 0 && !S_ISREG(st.st_mode) && st.st_size == 0 && st.st_blocks == 0);
	CHECK(fstatat(fd, "", &st, AT_EMPTY_PATH) == 0 && !S_ISREG(st.st_mode));
	CHECK(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &x) == 0 && x.stx_mode == st.st_mode && x.stx_size == 0);
	/* The kernel refuses, too, when no library sees the call. */
	if (under_vmmu())
		CHECK(raw(SYS_ftruncate, fd, 1) < 0);
}

static void test_descriptors(void)
{
	struct machine m;
	struct stat st, kvm;
	int copy, stats;

	machine_make(&m, 1, 16 * PAGE);
	check_descriptor(m.kvm, EINVAL);
	check_descriptor(m.vm, ESPIPE);
	check_descriptor(m.vcpu[0], ESPIPE);
	CHECK(m.run[0]->exit_reason == 0);
	CHECK(fstat(m.kvm, &st) == 0 && is_device(&st) && stat("/dev/kvm", &kvm) == 0);
	CHECK(st.st_dev == kvm.st_dev && st.st_ino == kvm.st_ino);
	CHECK(fstat(m.vm, &st) == 0 && (st.st_mode & S_IFMT) == 0);
	CHECK(link_is(m.kvm, "/dev/kvm") && link_is(m.vm, "anon_inode:kvm-vm") &&
	      link_is(m.vcpu[0], "anon_inode:kvm-vcpu:0"));
	copy = fcntl(m.vm, F_DUPFD_CLOEXEC, 100);
	CHECK(copy >= 100 && ioctl(copy, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) == 1);
	check_descriptor(copy, ESPIPE);
	close(copy);
	stats = ioctl(m.vm, KVM_GET_STATS_FD, NULL);
	if (stats >= 0) {
		struct kvm_stats_header header;

		CHECK(read(stats, &header, sizeof(header)) == sizeof(header) && header.num_desc > 0);
		CHECK(hosted || (write(stats, &header, 1) == -1 && errno == EBADF));
		CHECK(ftruncate(stats, 0) == -1 && errno == EINVAL);
		CHECK(fstat(stats, &st) == 0 && (st.st_mode & S_IFMT) == 0);
		close(stats);
	}
	machine_free(&m, 1);
}

/* When a call that no library sees has closed a descriptor, its number stands for the next file that gets it. */
static void test_closed_unseen(void)
{
	int kvm = open("/dev/kvm", O_RDWR), vm = ioctl(kvm, KVM_CREATE_VM, 0), pipes[2];
	char byte = 'x', back = 0;
	struct stat st;
	FILE *stream;

	NEED(kvm >= 0 && vm >= 0);
	raw(SYS_close, vm, 0);
	CHECK(ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) == -1 && errno == EBADF);
	raw(SYS_close, kvm, 0);
	NEED(pipe(pipes) == 0);
	CHECK(pipes[0] == kvm && pipes[1] == vm);
	CHECK(write(pipes[1], &byte, 1) == 1 && read(pipes[0], &back, 1) == 1 && back == byte);
	CHECK(ioctl(pipes[0], KVM_GET_API_VERSION, 0) == -1 && errno == ENOTTY);
	CHECK(fstat(pipes[0], &st) == 0 && S_ISFIFO(st.st_mode));
	close(pipes[0]);
	close(pipes[1]);

	kvm = open("/dev/kvm", O_RDWR);
	stream = fdopen(kvm, "r+");
	NEED(stream && ioctl(kvm, KVM_GET_API_VERSION, 0) == 12);
	CHECK(fclose(stream) == 0 && ioctl(kvm, KVM_GET_API_VERSION, 0) == -1 && errno == EBADF);
}

static void send_descriptor(int to, int fd)
{
	char room[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec vector = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &vector, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room)
	};
	struct cmsghdr *part = CMSG_FIRSTHDR(&message);

	part->cmsg_level = SOL_SOCKET;
	part->cmsg_type = SCM_RIGHTS;
	part->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(part), &fd, sizeof(fd));
	NEED(sendmsg(to, &message, 0) == 1);
}

static int receive_descriptor(int from)
{
	char room[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec vector = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &vector, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room)
	};
	int fd;

	NEED(recvmsg(from, &message, 0) == 1);
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	return fd;
}

static void test_passed(void)
{
	struct machine m;
	struct kvm_run *run;
	struct kvm_regs regs;
	int pair[2], kvm, vm, vcpu;

	machine_make(&m, 1, 16 * PAGE);
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	send_descriptor(pair[0], m.kvm);
	kvm = receive_descriptor(pair[1]);
	send_descriptor(pair[0], m.vm);
	vm = receive_descriptor(pair[1]);
	send_descriptor(pair[0], m.vcpu[0]);
	vcpu = receive_descriptor(pair[1]);
	check_descriptor(kvm, EINVAL);
	check_descriptor(vcpu, ESPIPE);
	CHECK(ioctl(kvm, KVM_GET_API_VERSION, 0) == 12);
	CHECK(ioctl(vm, KVM_CREATE_VCPU, 0ul) == -1 && errno == EEXIST);
	CHECK(ioctl(vcpu, KVM_GET_REGS, &regs) == 0 && regs.rip == 0x1000);
	check_descriptor(vm, ESPIPE);
	run = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	CHECK(run != MAP_FAILED);
	run->immediate_exit = 1;
	CHECK(m.run[0]->immediate_exit == 1);
	munmap(run, PAGE);
	close(vm);
	close(vcpu);
	close(kvm);
	close(pair[0]);
	close(pair[1]);
	machine_free(&m, 1);
}

/* By a shell that libc starts. */
static int run_by_shell(char *const arguments[], int how)
{
	char path[512], line[1024];
	ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (length <= 0)
		return -1;
	path[length] = '\0';
	snprintf(line, sizeof(line), "'%s' %s %s %s", path, arguments[1], arguments[2],
	         arguments[3] ? arguments[3] : "");
	clearenv();
	return how == 6 ? system(line) : pclose(popen(line, "r"));
}

static int run_self(char *const arguments[], char *const environment[], int how)
{
	int status = -1;
	pid_t child;

	switch (how) {
	case 0:
		if (posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environment) != 0)
			return -1;
		break;
	case 1:
		child = vfork();
		if (child == 0) {
			execve("/proc/self/exe", arguments, environment);
			_exit(99);
		}
		break;
	default:
		child = fork();
		if (child == 0) {
			clearenv();
			if (how == 2)
				execl("/proc/self/exe", arguments[0], arguments[1], arguments[2], arguments[3],
				      (char *)NULL);
			else if (how == 3)
				syscall(SYS_execve, "/proc/self/exe", arguments, NULL);
			else if (how == 4)
				execvp("/proc/self/exe", arguments);
			else if (how >= 6)
				_exit(run_by_shell(arguments, how) == 0 ? 0 : 98);
			else
				fexecve(open("/proc/self/exe", O_RDONLY), arguments, environment);
			_exit(99);
		}
	}
	return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/*
 * A child runs under the front end whatever environment it gets. An inherited /dev/kvm works in it; an inherited VM is
 * refused, since it is another process's.
 */
static void test_children(void)
{
	char *none[] = { NULL }, *other[] = { "LD_PRELOAD=", "A=b", NULL };
	/* The shell would need the runtime of a front end that was built with a sanitizer. */
	const int ways = under_runtime("__asan_init") ? 6 : 8;
	struct machine m;
	char system[16], vm[16];
	char *arguments[] = { "files", system, vm, hosted ? "hosted" : NULL, NULL };

	machine_make(&m, 1, 16 * PAGE);
	fcntl(m.kvm, F_SETFD, 0);
	fcntl(m.vm, F_SETFD, 0);
	snprintf(system, sizeof(system), "%d", m.kvm);
	snprintf(vm, sizeof(vm), "%d", m.vm);
	for (int how = 0; how < ways; how++) {
		CHECK(run_self(arguments, none, how) == 0);
		CHECK(run_self(arguments, other, how) == 0);
	}
	machine_free(&m, 1);
}

static int child(const char *system, const char *vm)
{
	CHECK(is_kvm(open("/dev/kvm", O_RDWR)));
	CHECK(ioctl(atoi(vm), KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) == -1 && errno == EIO);
	CHECK(is_kvm(atoi(system)));
	return check_failures != 0;
}

/* A vfork child shares its parent's memory. When it is the first to open /dev/kvm, the parent is not affected. */
static void test_vfork_first(void)
{
	int status = -1, kvm;
	pid_t child = vfork();

	if (child == 0) {
		int own = open("/dev/kvm", O_RDWR);

		_exit(own >= 0 && ioctl(own, KVM_GET_API_VERSION, 0) == 12 ? 0 : 1);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	kvm = open("/dev/kvm", O_RDWR);
	NEED(kvm >= 0);
	close(kvm);
	CHECK(ioctl(kvm, KVM_GET_API_VERSION, 0) == -1 && errno == EBADF);
	kvm = open("/dev/null", O_RDWR);
	CHECK(ioctl(kvm, KVM_GET_API_VERSION, 0) == -1 && errno == ENOTTY);
	close(kvm);
}

int main(int argc, char **argv)
{
	hosted = argc > 1 && strcmp(argv[argc - 1], "hosted") == 0;
	if (argc >= 3)
		return child(argv[1], argv[2]);
	if (argc == 2 && !hosted)
		make_dev();
	if (!under_runtime("__tsan_init"))
		test_vfork_first();
	make_names();
	test_names();
	test_descriptors();
	test_closed_unseen();
	test_passed();
	if (!under_runtime("__tsan_init"))
		test_children();
	remove_names();
	return check_end();
}

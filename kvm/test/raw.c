/* SPDX-License-Identifier: MIT */
/*
 * A client that makes its system calls by instructions of its own. What a call must leave alone stays as it is: the
 * registers, the program's signals and alternate stack, its own filters, its threads and children.
 */
#include "check.h"
#include <limits.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>

static long raw6(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
	                 : "=a"(result)
	                 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
	                 : "rcx", "r11", "memory");
	return result;
}
#define RAW3(n, a, b, c) raw6(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define RAW4(n, a, b, c, d) raw6(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

static int kvm, vm, vcpu;
static struct kvm_run *run;
static uint8_t *memory;

/* out %al, $1; jmp to it */
static const uint8_t port[] = { 0xe6, 0x01, 0xeb, 0xfc };
/* jmp to itself */
static const uint8_t loop[] = { 0xeb, 0xfe };

static void test_machine(void)
{
	struct kvm_userspace_memory_region region = { .memory_size = 16 * PAGE };
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rip = 0x1000, .rflags = 2 };
	struct stat st;
	long size;

	kvm = (int)RAW4(SYS_openat, AT_FDCWD, "/dev/kvm", O_RDWR | O_CLOEXEC, 0);
	NEED(kvm >= 0);
	CHECK(RAW3(SYS_stat, "/dev/kvm", &st, 0) == 0 && S_ISCHR(st.st_mode));
	CHECK(RAW3(SYS_ioctl, kvm, KVM_GET_API_VERSION, 0) == 12);
	CHECK(RAW3(SYS_ioctl, kvm, KVM_GET_API_VERSION, 1) == -EINVAL);
	CHECK(RAW3(SYS_ioctl, kvm, 0x541b, &size) == -ENOTTY || RAW3(SYS_ioctl, kvm, 0x541b, &size) == -EINVAL);
	vm = (int)RAW3(SYS_ioctl, kvm, KVM_CREATE_VM, 0);
	NEED(vm >= 0);
	memory = (uint8_t *)raw6(SYS_mmap, 0, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	region.userspace_addr = (uintptr_t)memory;
	NEED(RAW3(SYS_ioctl, vm, KVM_SET_USER_MEMORY_REGION, &region) == 0);
	vcpu = (int)RAW3(SYS_ioctl, vm, KVM_CREATE_VCPU, 0);
	NEED(vcpu >= 0);
	size = RAW3(SYS_ioctl, kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	run = (struct kvm_run *)raw6(SYS_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	NEED((long)run > 0);
	NEED(RAW3(SYS_ioctl, vcpu, KVM_GET_SREGS, &sregs) == 0);
	sregs.cs.base = sregs.cs.selector = 0;
	NEED(RAW3(SYS_ioctl, vcpu, KVM_SET_SREGS, &sregs) == 0);
	NEED(RAW3(SYS_ioctl, vcpu, KVM_SET_REGS, &regs) == 0);
	memcpy(memory + 0x1000, port, sizeof(port));
	for (int i = 0; i < 3; i++)
		CHECK(RAW3(SYS_ioctl, vcpu, KVM_RUN, 0) == 0 && run->exit_reason == KVM_EXIT_IO);
}

/* The guest runs its code anew, and so has its page. */
static void guest_maps(void)
{
	struct kvm_regs regs = { .rip = 0x1000, .rflags = 2 };

	memcpy(memory + 0x1000, port, sizeof(port));
	CHECK(RAW3(SYS_ioctl, vcpu, KVM_SET_REGS, &regs) == 0);
	CHECK(RAW3(SYS_ioctl, vcpu, KVM_RUN, 0) == 0 && run->exit_reason == KVM_EXIT_IO);
}

/*
 * A memory call by number is an invalidation: what the guest had there is gone when the call returns, and the guest
 * sees what is there afterwards. Content alone would prove nothing: a guest's page is reached where the process has it.
 */
static void test_memory(void)
{
	const long page = (long)memory + 0x1000, spare = (long)memory + 15 * (long)PAGE;
	const int new_memory = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, both = PROT_READ | PROT_WRITE;
	const struct {
		long number, a[5], result;
	} calls[] = {
		{ SYS_mmap, { page, PAGE, both, new_memory, -1 }, page },
		{ SYS_madvise, { page, PAGE, MADV_DONTNEED }, 0 },
		{ SYS_mprotect, { page, PAGE, PROT_NONE }, 0 },
		{ SYS_mremap, { page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, spare }, spare },
		{ SYS_munmap, { page, PAGE }, 0 },
	};
	struct kvm_regs regs = { .rip = 0x1000, .rflags = 2 };

	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		const long *a = calls[i].a;
		uint64_t before;

		guest_maps();
		before = vm_statistic(vm, "pages_4k");
		CHECK(raw6(calls[i].number, a[0], a[1], a[2], a[3], a[4], 0) == calls[i].result);
		CHECK(vm_statistic(vm, "pages_4k") < before);
		CHECK(raw6(SYS_mmap, page, PAGE, both, new_memory, -1, 0) == page);
	}
	guest_maps();
	CHECK(RAW3(SYS_mprotect, page, PAGE, PROT_NONE) == 0);
	CHECK(RAW3(SYS_ioctl, vcpu, KVM_SET_REGS, &regs) == 0);
	CHECK(RAW3(SYS_ioctl, vcpu, KVM_RUN, 0) == -EFAULT);
	CHECK(RAW3(SYS_mprotect, page, PAGE, both) == 0);
	memory[0x1002] = 0xf4; /* the jump is a hlt now */
	memory[0x1000] = memory[0x1001] = 0x90;
	CHECK(RAW3(SYS_ioctl, vcpu, KVM_RUN, 0) == 0 && run->exit_reason == KVM_EXIT_HLT);
}

/* Vector and x87 registers, and those that hold no argument, are the caller's. */
static void test_registers(void)
{
	uint64_t in[4] = { 1, 2, 3, 4 }, out[4] = { 0 }, rbx = 0x1234;
	uint32_t mxcsr = 0x1f80 | 0x6000, after = 0;
	uint16_t control = 0x027f, control_after = 0;
	long result = SYS_ioctl;

	__asm__ volatile("movdqu (%[in]), %%xmm0\n movdqu 16(%[in]), %%xmm15\n ldmxcsr %[mxcsr]\n fldcw %[control]\n"
	                 "fldpi\n std\n"
	                 "syscall\n"
	                 "pushfq\n popq %%rcx\n cld\n shr $10, %%ecx\n and $1, %%ecx\n mov %%rcx, %%r8\n"
	                 "fstp %%st\n"
	                 "movdqu %%xmm0, (%[out])\n movdqu %%xmm15, 16(%[out])\n stmxcsr %[after]\n"
	                 "fnstcw %[control_after]\n"
	                 "add %%r8, %%rax\n"
	                 : "+a"(result), "+b"(rbx), [after] "=m"(after), [control_after] "=m"(control_after)
	                 : [in] "r"(in), [out] "r"(out), [mxcsr] "m"(mxcsr), [control] "m"(control), "D"((long)kvm),
	                   "S"((long)KVM_GET_API_VERSION), "d"(0L)
	                 : "rcx", "r11", "r8", "xmm0", "xmm15", "memory");
	__asm__ volatile("fldcw %0\n ldmxcsr %1" : : "m"((uint16_t){ 0x37f }), "m"((uint32_t){ 0x1f80 }));
	CHECK(result == 12 + 1);
	CHECK(memcmp(in, out, sizeof(in)) == 0);
	CHECK((after & ~0x3fu) == mxcsr && control_after == control && rbx == 0x1234);
}

/* ---- signals ------------------------------------------------------------------------------------- */

static volatile int seen, inside;
static char alternate[65536];
static sigjmp_buf out;

/* A call inside a handler that interrupted one. */
static void on_alarm(int number)
{
	(void)number;
	inside = RAW3(SYS_ioctl, kvm, KVM_GET_API_VERSION, 0) == 12;
	seen++;
}

/* Again and again: the first one may come before the guest runs. 0: no more. */
static void alarm_each(long microseconds)
{
	struct itimerval in = { { 0, microseconds }, { 0, microseconds } };

	setitimer(ITIMER_REAL, &in, NULL);
}

static void on_alarm_leave(int number)
{
	(void)number;
	seen++;
	alarm_each(0);
	siglongjmp(out, 1);
}

static void guest_loops(void)
{
	struct kvm_regs regs = { .rip = 0x1000, .rflags = 2 };

	memcpy(memory + 0x1000, loop, sizeof(loop));
	CHECK(RAW3(SYS_ioctl, vcpu, KVM_SET_REGS, &regs) == 0);
}

static void test_signals(bool on_alternate)
{
	stack_t stack = { .ss_sp = alternate, .ss_size = sizeof(alternate) };
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = on_alternate ? SA_ONSTACK : 0 };

	CHECK(sigaltstack(&stack, NULL) == 0);
	guest_loops();
	CHECK(sigaction(SIGALRM, &action, NULL) == 0);
	for (int i = 0; i < 20; i++) {
		seen = inside = 0;
		alarm_each(2000);
		CHECK(RAW3(SYS_ioctl, vcpu, KVM_RUN, 0) == -EINTR);
		alarm_each(0);
		CHECK(seen >= 1 && inside);
	}
	/* Left by longjmp, more often than calls may nest. */
	action.sa_handler = on_alarm_leave;
	CHECK(sigaction(SIGALRM, &action, NULL) == 0);
	for (volatile int i = 0; i < 40; i++) {
		seen = 0;
		if (sigsetjmp(out, 1) == 0) {
			alarm_each(1000);
			RAW3(SYS_ioctl, vcpu, KVM_RUN, 0);
		}
		alarm_each(0);
		CHECK(seen >= 1);
	}
	stack.ss_flags = SS_DISABLE;
	CHECK(sigaltstack(&stack, NULL) == 0);
}

/* Nobody can block the signal by which calls are trapped, whatever mask is set. */
static void test_mask(void)
{
	uint64_t all = ~UINT64_C(0), before;

	CHECK(RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof(all)) == 0);
	CHECK(RAW3(SYS_ioctl, kvm, KVM_GET_API_VERSION, 0) == 12);
	CHECK(RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof(before)) == 0);
	CHECK(RAW4(SYS_rt_sigprocmask, SIG_SETMASK, 1, NULL, sizeof(all)) == -EFAULT);
}

static volatile int traps;

static void on_sys(int number, siginfo_t *info, void *context)
{
	(void)number;
	traps += info->si_code == 1 && info->si_syscall == SYS_getppid;
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RAX] = 4711;
}

/*
 * A filter and a SIGSYS handler of the program's own. It need not allow rt_sigreturn, by which trapped calls end.
 */
static void test_filter(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOTTY),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_filter strict[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog whole = { sizeof(code) / sizeof(*code), code };
	struct sock_fprog closed = { sizeof(strict) / sizeof(*strict), strict };
	struct sigaction action = { .sa_sigaction = on_sys, .sa_flags = SA_SIGINFO }, old;
	pid_t child = fork();
	int status;

	NEED(child >= 0);
	if (!child) {
		bool good = sigaction(SIGSYS, &action, NULL) == 0 && sigaction(SIGSYS, NULL, &old) == 0 &&
		            old.sa_sigaction == on_sys && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
		            RAW3(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &whole) == 0;

		good = good && RAW3(SYS_getppid, 0, 0, 0) == 4711 && traps == 1;
		good = good && RAW3(SYS_getpgid, 0, 0, 0) == -ENOTTY;
		good = good && RAW3(SYS_ioctl, open("/dev/kvm", O_RDWR), KVM_GET_API_VERSION, 0) == 12;
		if (good && RAW3(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &closed) == 0)
			RAW3(SYS_exit_group, RAW3(SYS_ioctl, vcpu, KVM_RUN, 0) == -EIO ? 7 : 8, 0, 0);
		_exit(9);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

/* ---- threads and children ------------------------------------------------------------------------ */

static volatile int thread_api;
static uint32_t thread_id, thread_parent_id;
static __thread int thread_own = 5;

/* Begins with the stack that clone got. */
__attribute__((noreturn, used)) static void thread_main(void)
{
	thread_api = (int)RAW3(SYS_ioctl, kvm, KVM_GET_API_VERSION, 0);
	for (;;)
		RAW3(SYS_exit, 0, 0, 0);
}

static void test_thread(void)
{
	const long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
	                   CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
	struct timespec wait = { .tv_sec = 20 };
	char *stack = malloc(65536);
	long top = ((long)stack + 65536 - 64) & ~63L, result = SYS_clone;
	register long r10 __asm__("r10") = (long)&thread_id;

	thread_id = 1;
	thread_api = 0;
	__asm__ volatile("xor %%r8d, %%r8d\n syscall\n test %%rax, %%rax\n jnz 1f\n"
	                 "xor %%ebp, %%ebp\n call thread_main\n 1:"
	                 : "+a"(result)
	                 : "D"(flags), "S"(top), "d"(&thread_parent_id), "r"(r10)
	                 : "rcx", "r8", "r11", "memory");
	CHECK(result > 0 && thread_parent_id == (uint32_t)result);
	/* The kernel, or who is in its place, clears the word and wakes who waits for it. */
	while (__atomic_load_n(&thread_id, __ATOMIC_ACQUIRE) && raw6(SYS_futex, (long)&thread_id, FUTEX_WAIT, 1,
	                                                             (long)&wait, 0, 0) != -ETIMEDOUT)
		;
	CHECK(thread_id == 0 && thread_api == 12 && thread_own == 5);
	free(stack);
}

static void test_children(const char *self)
{
	char path[PATH_MAX];
	char *arguments[] = { (char *)self, "child", NULL }, *none[] = { NULL };
	pid_t child;
	int status;
	long length = RAW3(SYS_readlink, "/proc/self/exe", path, sizeof(path) - 1);

	CHECK(length > 0);
	path[length > 0 ? length : 0] = '\0';
	CHECK(strstr(path, "raw"));
	/* Without an environment, and more often than calls may nest. */
	for (int i = 0; i < 10; i++) {
		child = vfork();
		if (!child) {
			RAW3(SYS_execve, "/proc/self/exe", arguments, none);
			_exit(1);
		}
		CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 12);
	}
	child = (pid_t)RAW3(SYS_fork, 0, 0, 0);
	if (!child) {
		int api = (int)RAW3(SYS_ioctl, open("/dev/kvm", O_RDWR), KVM_GET_API_VERSION, 0);

		/* A VM belongs to the process that made it. */
		RAW3(SYS_exit_group, api == 12 && RAW3(SYS_ioctl, vm, KVM_CREATE_VCPU, 1) == -EIO ? 11 : 1, 0, 0);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 11);
}

static void test_break(void)
{
	long now = RAW3(SYS_brk, 0, 0, 0);

	CHECK(now > 0);
	CHECK(RAW3(SYS_brk, now + 0x3000, 0, 0) == now + 0x3000);
	memset((void *)now, 1, 0x3000);
	CHECK(RAW3(SYS_brk, now, 0, 0) == now && RAW3(SYS_brk, 0, 0, 0) == now);
	CHECK(RAW3(SYS_brk, now + 0x3000, 0, 0) == now + 0x3000);
	CHECK(((char *)now)[0x2fff] == 0);
	CHECK(RAW3(SYS_brk, 1, 0, 0) == now + 0x3000);
	CHECK(RAW3(SYS_brk, now, 0, 0) == now);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return (int)RAW3(SYS_ioctl, RAW3(SYS_open, "/dev/kvm", O_RDWR, 0), KVM_GET_API_VERSION, 0);
	test_machine();
	test_memory();
	test_registers();
	test_signals(true);
	test_signals(false);
	test_mask();
	test_filter();
	test_thread();
	test_children(argv[0]);
	test_break();
	CHECK(RAW3(SYS_close, vcpu, 0, 0) == 0 && RAW3(SYS_ioctl, vcpu, KVM_RUN, 0) == -EBADF);
	return check_end();
}

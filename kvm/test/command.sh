#!/bin/sh
# SPDX-License-Identifier: MIT
# The vmmu command: exit codes, messages, obstacles. Usage: command.sh VMMU HOST_MEMORY_TEST FILES.C SANITIZER
vmmu=$1
host_memory=$2
files=$3
sanitizer=$4
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0
count=0

# expect CODE TEXT COMMAND...: the command must exit with CODE, and TEXT must be in its output
expect() {
	code=$1 text=$2
	shift 2
	out=$("$@" 2>&1)
	got=$?
	count=$((count + 1))
	if [ "$got" != "$code" ]; then
		failed=$((failed + 1))
		echo "$*: exit $got, not $code"
		echo "$out" | head -5
	fi
	case $out in
	*"$text"*) ;;
	*)
		failed=$((failed + 1))
		echo "$*: no '$text' in:"
		echo "$out" | head -5
		;;
	esac
}

expect 0 "Usage: vmmu" "$vmmu" --help
expect 0 "Usage: vmmu run" "$vmmu" run --help
expect 0 "Usage: vmmu doctor" "$vmmu" doctor --help
expect 0 "vmmu " "$vmmu" --version
expect 2 "Usage" "$vmmu"
expect 2 "unknown command" "$vmmu" frobnicate
expect 2 "which program" "$vmmu" run
expect 2 "unknown" "$vmmu" run --frobnicate -- true
expect 2 "--raw takes" "$vmmu" run --raw maybe -- true
if [ "$sanitizer" = none ]; then # a sanitizer's own memory is where a hosted program goes
	expect 0 "hello" "$vmmu" run --raw on -- echo hello
fi
expect 0 "" "$vmmu" run --mmu shadow -- true
expect 2 "tdp or shadow" "$vmmu" run --mmu other -- true
expect 0 "" "$vmmu" run --mmu tdp -- true
expect 0 "" "$vmmu" run --no-nested -- true
expect 0 "VMMU_NESTED=0" "$vmmu" run --no-nested -- env
expect 0 "VMMU_CPU_MODEL=v1" "$vmmu" run --cpu-model v1 -- env
expect 0 "" "$vmmu" run --cpu-model host -- true
expect 2 "--cpu-model takes" "$vmmu" run --cpu-model v5 -- true
expect 2 "--cpu-model takes" "$vmmu" run --cpu-model v -- true
expect 0 "VMMU_CPU_ENGINE=translate" "$vmmu" run --cpu-engine translate -- env
expect 0 "" "$vmmu" run --cpu-engine check -- true
expect 2 "--cpu-engine takes" "$vmmu" run --cpu-engine other -- true
expect 1 "" "$vmmu" run -- false
expect 77 "" "$vmmu" run -- sh -c 'exit 77'
expect 0 "hello world" "$vmmu" run echo hello world
expect 0 "libvmmu-kvm.so" "$vmmu" run -- sh -c 'echo $LD_PRELOAD'
expect 127 "No such file" "$vmmu" run -- /nonexistent/program
expect 127 "No such file" "$vmmu" run -- nonexistent-program
expect 126 "" "$vmmu" run -- /etc
echo data >"$dir/data"
expect 126 "Permission denied" "$vmmu" run -- "$dir/data"
expect 2 "which program" "$vmmu" doctor
expect 127 "No such file" "$vmmu" doctor nonexistent-program
expect 0 "Neither" "$vmmu" doctor sh

# `vmmu run` says when nothing asked for /dev/kvm. It must stay silent when a program did, in whatever way and with
# whatever environment.
nobody="nothing asked for /dev/kvm"
expect 0 "$nobody" "$vmmu" run -- true
expect 3 "$nobody" "$vmmu" run -- sh -c 'exit 3'
expect 137 "$nobody" "$vmmu" run -- sh -c 'kill -9 $$'
silent() {
	expect 0 "" "$@"
	case $out in *"$nobody"*) failed=$((failed + 1)); echo "$*: says '$out'" ;; esac
}
silent "$vmmu" run --quiet -- true
silent "$vmmu" run -- test -c /dev/kvm
silent "$vmmu" run -- sh -c '[ -c /dev/kvm ] && [ -r /dev/kvm ] && [ -w /dev/kvm ] && ! [ -L /dev/kvm ]'
# A front end that was built with a sanitizer needs the sanitizer's runtime to be loaded first, and an empty environment
# does not name it.
if [ "$sanitizer" = none ]; then
	silent "$vmmu" run -- env -i sh -c '[ -c /dev/../dev//kvm ]'
	silent "$vmmu" run -- sh -c 'env -i sh -c "test -e /dev/kvm" & wait'
fi
silent "$vmmu" doctor --trace -- true
expect 126 "" "$vmmu" run -- /etc/passwd
case $out in *"$nobody"*) failed=$((failed + 1)); echo "a program that did not start: $out" ;; esac
expect 0 "character special file" "$vmmu" run -- stat -c %F /dev/kvm
expect 0 "/dev/kvm" "$vmmu" run -- realpath "//dev/./kvm"

# A program that cannot have the front end does not start, neither as the program nor as a child of it, by whatever call
# and with whatever environment. With --host-kvm it does.
cat >"$dir/start.c" <<'C'
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static int status_of(pid_t child)
{
	int status;

	return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}
int main(int argc, char **argv)
{
	char *none[] = { NULL }, *name = argv[2], *base = strrchr(name, '/') + 1, *way = argv[1];
	char *arguments[] = { base, NULL };
	pid_t child;

	(void)argc;
	setenv("PATH", (*(base - 1) = '\0', name), 1);
	chdir(name);
	if (!strcmp(way, "spawn"))
		return posix_spawn(&child, base, NULL, NULL, arguments, none) ? 126 : status_of(child);
	if (!strcmp(way, "spawnp"))
		return posix_spawnp(&child, base, NULL, NULL, arguments, none) ? 126 : status_of(child);
	if (!(child = strcmp(way, "vfork") ? fork() : vfork())) {
		if (!strcmp(way, "execve") || !strcmp(way, "vfork"))
			execve(base, arguments, none);
		else if (!strcmp(way, "execvpe"))
			execvpe(base, arguments, none);
		else if (!strcmp(way, "fexecve"))
			fexecve(open(base, O_RDONLY), arguments, none);
		else if (!strcmp(way, "execveat"))
			execveat(open(".", O_DIRECTORY), base, arguments, none, 0);
		else
			syscall(SYS_execve, base, arguments, none);
		_exit(126);
	}
	return status_of(child);
}
C
refused() { # PROGRAM TEXT: refused in every way
	expect 126 "$2" "$vmmu" run -- "$1"
	expect 126 "$2" "$vmmu" doctor "$1"
	for way in execve vfork execvpe fexecve execveat syscall spawn spawnp; do
		expect 126 "$2" "$vmmu" run -- "$dir/start" $way "$1"
	done
	printf '#!%s\n' "$1" >"$dir/script" && chmod +x "$dir/script"
	expect 126 "$2" "$vmmu" run -- "$dir/script"
	expect 126 "$2" "$vmmu" run -- sh -c "'$dir/script'"
}
${CC:-cc} -D_GNU_SOURCE -o "$dir/start" "$dir/start.c" || failed=$((failed + 1))
# A program without glibc is hosted, as the program and as a child, by every call; but for --raw off.
hosted() { # PROGRAM TEXT
	expect 3 "" "$vmmu" run --quiet -- "$1"
	for way in execve vfork execvpe fexecve execveat syscall spawn spawnp; do
		expect 3 "" "$vmmu" run --quiet -- "$dir/start" $way "$1"
	done
	printf '#!%s\n' "$1" >"$dir/script" && chmod +x "$dir/script"
	expect 3 "" "$vmmu" run --quiet -- "$dir/script"
	expect 3 "" "$vmmu" run --quiet -- sh -c "'$dir/script'"
	expect 126 "--raw off" "$vmmu" run --raw off -- "$1"
	expect 126 "--raw off" "$vmmu" run --raw off -- sh -c "'$1'"
	expect 3 "" "$vmmu" run --raw off --host-kvm -- "$1"
	expect 0 "api 12" "$vmmu" run -- "$1" kvm
}
cat >"$dir/s.c" <<'C'
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
int main(int argc, char **argv)
{
	if (argc < 2 || argv[1][0] != 'k')
		return 3;
	printf("api %d\n", ioctl(open("/dev/kvm", O_RDWR), 0xae00, 0));
	return 0;
}
C
if [ "$sanitizer" = none ]; then
	for cc in "${CC:-cc} -static" "${CC:-cc} -static-pie" "musl-gcc -static" musl-gcc; do
		if $cc -w -o "$dir/hosted" "$dir/s.c" 2>/dev/null; then
			hosted "$dir/hosted"
		else
			echo "no $cc here"
		fi
	done
fi
printf 'int main(void){return 3;}' >"$dir/t.c"
if ${CC:-cc} -m32 -nostdlib -static -Wl,-e,main -o "$dir/small" "$dir/t.c" 2>/dev/null; then
	refused "$dir/small" "not an x86-64 program"
fi
# Setuid to somebody else, which only root can make, and of which only another user sees the effect.
if ${CC:-cc} -o "$dir/setuid" "$dir/t.c" 2>/dev/null && chown 65534 "$dir/setuid" 2>/dev/null &&
	chmod u+s "$dir/setuid"; then
	refused "$dir/setuid" "setuid"
fi
# A shared object is no program. The doctor can still tell what it would ask for.
if printf '#include <linux/kvm.h>\n#include <sys/ioctl.h>\nint f(int k){return ioctl(k, KVM_XEN_HVM_CONFIG, 0);}' \
	>"$dir/l.c" &&
	${CC:-cc} -O1 -shared -fPIC -o "$dir/library.so" "$dir/l.c" 2>/dev/null; then
	expect 126 "a shared object, not a program" "$vmmu" run -- "$dir/library.so"
	expect 1 "a shared object" "$vmmu" doctor "$dir/library.so"
	expect 1 "KVM_XEN_HVM_CONFIG" "$vmmu" doctor "$dir/library.so"
fi
# A program that computes its requests at run time.
cat >"$dir/r.c" <<'C'
#include <fcntl.h>
#include <sys/ioctl.h>
int main(void)
{
	volatile int t = 0xae;

	return ioctl(open("/dev/kvm", O_RDWR), t << 8 | 1, 0) < 0;
}
C
if ${CC:-cc} -o "$dir/rusty" "$dir/r.c" 2>/dev/null; then
	expect 3 "Nothing can be said" "$vmmu" doctor "$dir/rusty"
	expect 0 "" "$vmmu" run -- "$dir/rusty"
fi
# A program with a system call of its own, and so much debug information that the file is large.
cat >"$dir/raw.c" <<'C'
int main(void)
{
	long kvm = 2, api = 16;

	__asm__ volatile("syscall" : "+a"(kvm) : "D"("/dev/kvm"), "S"(2L), "d"(0L) : "rcx", "r11", "memory");
	__asm__ volatile("syscall" : "+a"(api) : "D"(kvm), "S"(0xae00L), "d"(0L) : "rcx", "r11", "memory");
	return api != 12;
}
C
if [ "$sanitizer" = none ] && ${CC:-cc} -O1 -o "$dir/raw" "$dir/raw.c" 2>/dev/null &&
	head -c 8388608 /dev/zero >"$dir/padding" &&
	objcopy --add-section .debug_padding="$dir/padding" "$dir/raw" "$dir/large" 2>/dev/null; then
	expect 0 "it will be hosted" "$vmmu" doctor "$dir/large"
	silent "$vmmu" run -- "$dir/large"
fi
# Files that end although their headers say that more follows.
for size in 5 40 70 300; do
	head -c $size "$dir/rusty" >"$dir/cut" && chmod +x "$dir/cut"
	expect 126 "" "$vmmu" run -- "$dir/cut"
done
# A client that is built with a sanitizer. The sanitizer's runtime is a library, which must be loaded first, or is part
# of the program. Children that need it keep it, and other children do not get it.
if [ "$sanitizer" = none ]; then
	for cc in gcc "gcc -static-libasan" clang; do
		if $cc -g -D_GNU_SOURCE -fsanitize=address -o "$dir/asan" "$files" 2>/dev/null; then
			expect 0 " 0 failed" "$vmmu" run -- "$dir/asan"
			expect 0 " 0 failed" "$vmmu" run -- sh -c "'$dir/asan'"
			cat >"$dir/p.c" <<'C'
#include <stdlib.h>
int main(void)
{
	return system("exec sh -c \"exec tr a b </dev/null\"");
}
C
			$cc -fsanitize=address -o "$dir/asan-parent" "$dir/p.c" &&
				expect 0 "" "$vmmu" run --quiet -- "$dir/asan-parent"
		else
			echo "no $cc with AddressSanitizer here"
		fi
	done
fi
cat >"$dir/k.c" <<'C'
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
int main(void)
{
	int k = open("/dev/kvm", O_RDWR);
	int v = ioctl(k, KVM_CREATE_VM, 0);
	struct kvm_xen_hvm_config config = { 0 };

	ioctl(k, KVM_CHECK_EXTENSION, KVM_CAP_HYPERV_EVENTFD);
	return k < 0 || v < 0 || ioctl(v, KVM_XEN_HVM_CONFIG, &config) == 0;
}
C
if ${CC:-cc} -O1 -o "$dir/client" "$dir/k.c" 2>/dev/null; then
	expect 0 "" "$vmmu" run -- "$dir/client"
	expect 0 "KVM_XEN_HVM_CONFIG" "$vmmu" run --stats -- "$dir/client"
	expect 1 "KVM_XEN_HVM_CONFIG" "$vmmu" doctor "$dir/client"
	expect 1 "KVM_CAP_HYPERV_EVENTFD" "$vmmu" doctor "$dir/client"
	expect 1 "KVM_CREATE_VM" "$vmmu" doctor --all "$dir/client"
	expect 0 "KVM_XEN_HVM_CONFIG" "$vmmu" doctor --trace -- "$dir/client"
	expect 0 "KVM_CAP_HYPERV_EVENTFD" "$vmmu" doctor --trace "$dir/client"
fi
# --stats and host memory: it counts no page as lost when pages stay since the swap file is full, and none as spared
# when pages are lost. The test program exits with 77 where the machine does not allow --host-memory.
host_memory() {
	expect 0 "$(printf '  %-28s %14u' "$3" 0)" "$vmmu" run --stats --host-memory 1M \
		--host-swap "$dir/swap-$1:$2" -- "$host_memory" "$1" "swap-$1"
}
"$vmmu" run --host-memory 1M --host-swap "$dir/swap:1M" -- "$host_memory" full swap >/dev/null 2>&1
if [ $? != 77 ]; then
	host_memory full 1M "pages lost"
	host_memory corrupt 64M "pages spared: no room"
fi
echo "$count checks, $failed failed"
[ "$failed" = 0 ]

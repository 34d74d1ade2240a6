#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The checker as other people's programs use it: test_tool.py BUILD SCRATCH [--write]

Puts what is installed into a folder of its own, compiles each program of check/classics with vmmu-check-cc, and runs
it: the verdict must be the one that the program's first lines give, within a second of CPU time. --write makes the
table of check/classics/README.md anew. Then what a failure of a small program looks like, what is modelled of libc, and
that each function that a program may call is in shims.opts.
"""
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(ROOT, "check", "tool")
CLASSICS = os.path.join(ROOT, "check", "classics")
passed = failed = 0


def check(good, what):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print("FAILED:", what)


def stage(build, scratch):
    """A prefix as `make install` makes it, for this part alone."""
    prefix = os.path.join(scratch, "prefix")
    shutil.rmtree(scratch, ignore_errors=True)
    for source, to in ((os.path.join(build, "check/tool/libvmmu-check.a"), "lib"),
                       (os.path.join(TOOL, "shims.opts"), "lib/vmmu-check"),
                       (os.path.join(TOOL, "vmmu-check-cc"), "bin"),
                       (os.path.join(ROOT, "check/check.h"), "include/vmmu-check/check")):
        os.makedirs(os.path.join(prefix, to), exist_ok=True)
        shutil.copy(source, os.path.join(prefix, to))
    os.makedirs(os.path.join(prefix, "lib/pkgconfig"))
    with open(os.path.join(build, "check/tool/vmmu-check.pc")) as template, \
            open(os.path.join(prefix, "lib/pkgconfig/vmmu-check.pc"), "w") as pc:
        pc.write(re.sub(r"(?m)^libdir=.*", "libdir=${prefix}/lib", template.read()))
    return os.path.join(prefix, "bin/vmmu-check-cc")


def compiled(cc, scratch, source, *options):
    program = os.path.join(scratch, "program")
    done = subprocess.run([cc, "-o", program, source, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    check(done.returncode == 0, f"{source} {options} does not compile: {done.stdout[:2000]}")
    return program if done.returncode == 0 else None


def run(program, wishes="budget=20s", columns="200"):
    done = subprocess.run([program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          cwd=os.path.dirname(program), timeout=240,
                          env=dict(os.environ, VMMU_CHECK=wishes, COLUMNS=columns))
    return done.returncode, done.stdout


def programs():
    """Each classic with each of its options, and the verdict that it must have."""
    for name in sorted(os.listdir(CLASSICS)):
        if name.endswith(".c"):
            with open(os.path.join(CLASSICS, name)) as file:
                for options, verdict in re.findall(r"(?m)^ \* checked ?(.*?): (.*)$", file.read()):
                    yield name, options.split(), verdict


def classics(cc, scratch):
    rows = []
    for name, options, verdict in programs():
        program = compiled(cc, scratch, os.path.join(CLASSICS, name), *options)
        if not program:
            continue
        code, out = run(program)
        found = re.match(r"program: (.*?); (every execution explored: )?(\d+) executions, ([\d.]+) s", out)
        what = f"{name} {' '.join(options)}: {out.splitlines()[:1]}"
        check(found and found[1] == verdict and code == (verdict != "holds"), what)
        check(found and (verdict != "holds" or found[2]), what + ": not every execution")
        check(found and (verdict == "holds" or float(found[4]) < 1), what + ": found too late")
        rows.append((name, " ".join(options), verdict, found[3] if found else "", found[4] if found else ""))
    return rows


def table_write(rows):
    path = os.path.join(CLASSICS, "README.md")
    with open(path) as file:
        text = file.read()
    lines = ["| program | compiled with | verdict | executions | CPU seconds |", "|---|---|---|---|---|"]
    for name, options, verdict, executions, seconds in rows:
        title = name[:-2].replace("_", " ")
        lines.append(f"| [{title}]({name}) | {options and '`' + options + '`'} | {verdict} | {executions} | "
                     f"{seconds} |")
    begin, end = text.index("| program |"), text.rindex("|\n") + 2
    with open(path, "w") as file:
        file.write(text[:begin] + "\n".join(lines) + "\n" + text[end:])


# Each: a program, its wishes, the exit code, and patterns that its output must have.
SMALL = [
    ("a race of two increments", r"""
#include <pthread.h>
static int counter;
static void *add(void *arg) { counter += *(int *)arg; return NULL; }
int main(void)
{
	pthread_t thread[2];
	int two = 2;
	for (int i = 0; i < 2; i++) pthread_create(&thread[i], NULL, add, &two);
	for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
}
""", "", 1, ["program: data race", r"main +│ add, thread 1 +│ add, thread 2", "✗ write counter", "read .* = 2",
             r"again +VMMU_CHECK=replay=program:c11:\S+ \S*program"]),
    ("a failure of one thread alone is drawn", r"""
#include <assert.h>
#include <stdlib.h>
int main(void) { volatile int *p = malloc(4 * sizeof(*p)); p[1] = 3; assert(p[1] == 4); }
""", "", 1, ["program: assertion", r"program.c:4: p\[1\] == 4", r"write (p\[1\]|block 1 of thread 0\+4)",
             "read .* = 3"]),
    ("a lost update is marked, addresses have names", r"""
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
static int cell[2];
static _Atomic(int *) place;
static void *put(void *arg) { atomic_store(&place, &cell[*(int *)arg]); return NULL; }
int main(void)
{
	pthread_t thread[2];
	int number[2] = { 0, 1 };
	for (int i = 0; i < 2; i++) pthread_create(&thread[i], NULL, put, &number[i]);
	for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
	assert(place == &cell[0]);
}
""", "", 1, ["program: assertion", r"store seq_cst place := &cell\b", r"place := &cell\+4",
             "overwrites what nobody read"]),
    ("if in place of while around a wait", r"""
#include <assert.h>
#include <pthread.h>
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static int full;
static void *get(void *arg)
{
	pthread_mutex_lock(&m);
	if (!full) pthread_cond_wait(&c, &m);
	assert(full > 0);
	full--;
	pthread_mutex_unlock(&m);
	return arg;
}
static void put(void) { pthread_mutex_lock(&m); full++; pthread_cond_signal(&c); pthread_mutex_unlock(&m); }
int main(void)
{
	pthread_t thread[2];
	for (int i = 0; i < 2; i++) pthread_create(&thread[i], NULL, get, NULL);
	put();
	put();
	for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
}
""", "", 1, ["program: assertion", "full > 0", r"sleeps on"]),
    ("one signal for two waiters", r"""
#include <pthread.h>
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static int go;
static void *wait_for_go(void *arg)
{
	pthread_mutex_lock(&m);
	while (!go) pthread_cond_wait(&c, &m);
	pthread_mutex_unlock(&m);
	return arg;
}
int main(void)
{
	pthread_t thread[2];
	for (int i = 0; i < 2; i++) pthread_create(&thread[i], NULL, wait_for_go, NULL);
	pthread_mutex_lock(&m);
	go = 1;
	pthread_cond_signal(&c);
	pthread_mutex_unlock(&m);
	for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
}
""", "", 1, ["program: deadlock", "waits for the end of"]),
    ("locks in two orders", r"""
#include <threads.h>
static mtx_t a, b;
static int ab(void *arg) { mtx_lock(&a); mtx_lock(&b); mtx_unlock(&b); mtx_unlock(&a); return arg != 0; }
static int ba(void *arg) { mtx_lock(&b); mtx_lock(&a); mtx_unlock(&a); mtx_unlock(&b); return arg != 0; }
int main(void)
{
	thrd_t t, u;
	mtx_init(&a, mtx_plain);
	mtx_init(&b, mtx_plain);
	thrd_create(&t, ab, 0);
	thrd_create(&u, ba, 0);
	thrd_join(t, 0);
	thrd_join(u, 0);
}
""", "", 1, ["program: deadlock", "ab, thread 1 waits for lock", "ba, thread 2 waits for lock"]),
    ("what holds: barrier, semaphore, once, keys, recursion, thread-locals, results", r"""
#include <assert.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static pthread_barrier_t barrier;
static sem_t sem;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static pthread_mutex_t again;
static _Thread_local int own = 5;
static int made, part[2], destroyed;
static void make(void) { made++; }
static void destroy(void *value) { pthread_mutex_lock(&again); destroyed++; pthread_mutex_unlock(&again); free(value); }
static void *work(void *arg)
{
	int me = *(int *)arg;
	pthread_once(&once, make);
	assert(own++ == 5 && !pthread_getspecific(key));
	pthread_setspecific(key, strdup("a value"));
	part[me] = 1;
	pthread_barrier_wait(&barrier);
	assert(part[1 - me] == 1 && made == 1);
	pthread_mutex_lock(&again);
	pthread_mutex_lock(&again);
	pthread_mutex_unlock(&again);
	pthread_mutex_unlock(&again);
	assert(!strcmp(pthread_getspecific(key), "a value"));
	printf("%d is done\n", me);
	sem_post(&sem);
	return arg;
}
int main(void)
{
	pthread_t thread[2];
	pthread_mutexattr_t attr;
	int number[2] = { 0, 1 };
	void *result;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&again, &attr);
	pthread_barrier_init(&barrier, NULL, 2);
	sem_init(&sem, 0, 0);
	pthread_key_create(&key, destroy);
	for (int i = 0; i < 2; i++) pthread_create(&thread[i], NULL, work, &number[i]);
	sem_wait(&sem);
	sem_wait(&sem);
	for (int i = 0; i < 2; i++) { pthread_join(thread[i], &result); assert(result == &number[i]); }
	assert(destroyed == 2 && own == 5);
	return 0;
}
""", "leaks", 0, [r"\Aprogram: holds; .* \d+ executions, [\d.]+ s\n\Z"]),
    ("a leak, when asked for", r"""
#include <stdlib.h>
int main(void) { return malloc(3) == NULL; }
""", "leaks", 1, ["program: leak"]),
    ("a time limit may pass", r"""
#include <errno.h>
#include <pthread.h>
#include <time.h>
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
int main(void)
{
	struct timespec until = { 0 };
	int error;
	pthread_mutex_lock(&m);
	error = pthread_cond_timedwait(&c, &m, &until);
	pthread_mutex_unlock(&m);
	return error == ETIMEDOUT;
}
""", "", 1, ["main returns 1|deadlock"]),
    ("an endless list", r"""
struct node { struct node *next; } one;
int main(void) { one.next = &one; for (struct node *at = &one; at; at = at->next) ; }
""", "", 1, ["program: hang", "an endless loop"]),
    ("scenarios instead of a main", r"""
#include <stdatomic.h>
#include "check/check.h"
static atomic_int sum;
static void add(void *arg) { atomic_fetch_add(&sum, *(int *)arg); }
static void three(void) { check_assert(sum == 3); }
static int one = 1, two = 2;
CHECK_SCENARIO(adds) = { .name = "adds", .protocol = "", .claim = "", .threads = 2, .work = { add, add },
	.arg = { &one, &two }, .finish = three };
CHECK_SCENARIO(lacks) = { .name = "lacks", .protocol = "", .claim = "", .threads = 1, .work = { add },
	.arg = { &two }, .finish = three, .flags = CHECK_EXPECT_FAILURE };
""", "", 0, [r"adds: holds; every execution explored: \d", "lacks: assertion", "2 passed, 0 failed"]),
]


def small(cc, scratch):
    source = os.path.join(scratch, "program.c")
    for what, text, wishes, code, patterns in SMALL:
        with open(source, "w") as file:
            file.write(text)
        program = compiled(cc, scratch, source, "-I", scratch)
        if not program:
            continue
        got, out = run(program, "budget=10s," + wishes)
        missing = [p for p in patterns if not re.search(p, out)]
        check(got == code and not missing, f"{what}: exit {got}, without {missing}:\n{out[:4000]}")
        seed = re.search(r"VMMU_CHECK=(\S*replay=\S+)", out)
        if seed and "hang" not in out and code == 1:
            again, drawn = run(program, seed[1])
            check(again == 1 and "program: " in drawn, f"{what}: the seed does something else: {drawn[:500]}")


def shims():
    with open(os.path.join(TOOL, "shims.opts")) as file:
        listed = re.findall(r"--wrap=(\w+)", file.read())
    defined = set()
    for name in ("c11.c", "libc.c", "main.c", "threads.c"):
        with open(os.path.join(TOOL, name)) as file:
            defined |= set(re.findall(r"\bSHIM\((\w+)\)\(", file.read()))
    check(sorted(listed) == sorted(defined), f"shims.opts and SHIM() differ: {set(listed) ^ defined}")


def main():
    build, scratch = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    cc = stage(build, scratch)
    shims()
    small(cc, scratch)
    rows = classics(cc, scratch)
    check(len({row[0] for row in rows}) >= 12, f"{len(rows)} rows are too few")
    if "--write" in sys.argv:
        table_write(rows)
    print(f"{passed} passed, {failed} failed")
    return failed != 0


sys.exit(main())

# SPDX-License-Identifier: MIT
"""What the checks in tool/ share: which files there are, and how a check reports."""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COUNTS = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?\s*$")      # the last line of every tool


def tree_files(root=ROOT):
    """Paths, relative to root, of the files of the tree: tracked, and new but not ignored."""
    git = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard"],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    if git.returncode == 0:
        found = git.stdout.splitlines()
    else:                                   # not a git checkout: a release tarball, or a self-test
        found = []
        for folder, folders, names in os.walk(root):
            folders[:] = [d for d in folders if d != ".git" and not d.startswith("build")]
            found += [os.path.relpath(os.path.join(folder, n), root) for n in names]
    return sorted({f for f in found if os.path.isfile(os.path.join(root, f))})


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def sanitizer_options(client):
    """Environment for a build with a sanitizer; client: a foreign program runs on it, whose leaks are its own."""
    return {
        "ASAN_OPTIONS": "halt_on_error=1:" + ("detect_leaks=0" if client else "detect_stack_use_after_return=1"),
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1:suppressions=" +
                        os.path.join(ROOT, "test", "tsan.supp") +
                        (":ignore_noninstrumented_modules=1" if client else "") +
                        # Its runtime, setting up, would call the front end's sigaction before it can run our code.
                        "".join(f":handle_{s}=0" for s in ("segv", "sigbus", "abort", "sigill", "sigfpe")),
    }


def sanitizer_runtime(name):
    """gcc's runtime of a sanitizer, which a process with an instrumented preload library loads before that."""
    library = {"address": "libasan.so", "thread": "libtsan.so"}[name]
    out = subprocess.run(["gcc", "-print-file-name=" + library], capture_output=True, text=True, check=True)
    return out.stdout.strip()


class Report:
    """Counts what was checked; prints each failure as it is found."""

    def __init__(self, quiet=False):
        self.passed = self.failed = 0
        self.quiet = quiet
        self.messages = []

    def check(self, good, message):
        if good:
            self.passed += 1
        else:
            self.fail(message)
        return good

    def fail(self, message):
        self.failed += 1
        self.messages.append(message)
        if not self.quiet:
            print(message)

    def end(self):
        """The last line that every tool prints, and its exit status."""
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0


class Failures:
    """What failed, to be shown once more at the end: a name each, and the last lines of its output."""

    HEADING = "== failed"
    EACH, MOST_NAMES, MOST_LINES = 15, 30, 60

    def __init__(self):
        self.found = []

    def add(self, name, output):
        """output: text. Its last lines count; a line of counts alone says nothing."""
        lines = [line.rstrip() for line in output.splitlines() if line.strip() and not COUNTS.match(line)]
        self.found.append((name, lines))

    def lines(self):
        """The first MOST_NAMES names, and how many more there are; then the ends of the outputs: EACH lines at most,
        MOST_LINES together."""
        if not self.found:
            return []
        out = [f"{self.HEADING}: {len(self.found)}"] + ["FAIL  " + name for name, _ in self.found[:self.MOST_NAMES]]
        if len(self.found) > self.MOST_NAMES:
            out.append(f"      and {len(self.found) - self.MOST_NAMES} more")
        left = self.MOST_LINES
        for name, lines in self.found:
            shown = lines[-min(self.EACH, left - 1):] if left > 1 else []
            left -= len(shown) + 1
            if shown:
                out += [f"-- {name}: the end of its output"] + ["  | " + line[:200] for line in shown]
        return out

    @classmethod
    def read(cls, text):
        """The failures that such lines, somewhere in a text, speak of: the last such block."""
        failures, at = cls(), text.rfind("\n" + cls.HEADING + ": ")
        names, ends, current = [], {}, None
        for line in text[at + 1:].splitlines()[1:] if at >= 0 else []:
            if line.startswith("FAIL  "):
                names.append(line[6:])
            elif line.startswith("-- "):
                current = ends.setdefault(line[3:].rsplit(": the end of its output", 1)[0], [])
            elif line.startswith("  | ") and current is not None:
                current.append(line[4:])
            elif not line.startswith("      and "):
                break
        failures.found = [(name, ends.get(name, [])) for name in names]
        return failures


def write_tree(root, files):
    """Make the files {path: text} below root, for a self-test."""
    for path, text in files.items():
        path = os.path.join(root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)


def main(check, self_test, doc):
    """The command line of a check: no argument checks the tree, --self-test checks the check."""
    arguments = sys.argv[1:]
    if arguments == []:
        return check()
    if arguments == ["--self-test"]:
        return self_test()
    print(doc.strip() + "\n\nusage: " + os.path.basename(sys.argv[0]) + " [--self-test]")
    return 0 if arguments in (["--help"], ["-h"]) else 2

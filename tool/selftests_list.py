# SPDX-License-Identifier: MIT
"""What test/client/selftests.list says of the KVM selftests, for the tools that run them."""
import collections
import fnmatch
import os
import shlex
import sys

LIMIT = 120             # seconds, for tests that the list does not name
FIELDS = {"known": 5, "inner": 6}       # of a line that begins so; other lines have 4


class Test:
    """One program with its arguments."""

    def __init__(self, name, sets, limit, argv):
        self.name, self.sets, self.limit, self.argv = name, sets, limit, argv
        self.wants = []     # (counter, what it means when that is 0)


def machine_is_intel():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        return "GenuineIntel" in f.read()


class Known:
    """A failure that is known: where a program fails, and why. `versions` and `modes` are words."""

    def __init__(self, program, versions, modes, reason):
        self.program, self.versions, self.modes, self.reason = program, versions.split(), modes.split(), reason

    def matches(self, test, where):
        return test.argv[0] == self.program and where.version in self.versions and where.mode in self.modes and \
            ("intel" not in self.modes or machine_is_intel())


class Inner:
    """A program that does not pass in a guest that is a hypervisor, and how it ends there instead."""

    def __init__(self, programs, versions, paging, end, reason):
        self.programs, self.versions, self.paging, self.end = programs, versions.split(), paging.split(), end
        self.reason = reason

    def matches(self, test, version, npt):
        return fnmatch.fnmatchcase(test.argv[0], self.programs) and version in self.versions and \
            f"npt={int(npt)}" in self.paging


class List:
    """What test/client/selftests.list says."""

    def __init__(self, path):
        self.tests, self.skips, self.known, self.inner, self.arguments = [], {}, [], [], {}
        wants = []
        with open(path, encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                field = [part.strip() for part in line.split("#")[0].split("|")]
                if field == [""]:
                    continue
                if len(field) != FIELDS.get(field[0], 4):
                    sys.exit(f"{path}:{number}: {len(field)} fields are not what such a line has")
                if field[0] == "skip":
                    self.skips[field[1], field[2]] = field[3]
                elif field[0] == "want":
                    wants.append(field[1:])
                elif field[0] == "known":
                    self.known.append(Known(*field[1:]))
                elif field[0] == "inner":
                    self.inner.append(Inner(*field[1:]))
                elif field[0] == "default":
                    argv = shlex.split(field[3])
                    self.arguments[field[1]] = Test(field[1], [], int(field[2]), argv)
                else:
                    self.tests.append(Test(field[0], field[1].split(), int(field[2]), shlex.split(field[3])))
        by_name = {t.name: t for t in self.tests}
        if len(by_name) < len(self.tests):
            sys.exit(f"{path}: two tests have the same name")
        for name in [name for name, _ in self.skips] + [want[0] for want in wants]:
            if name not in by_name:
                sys.exit(f"{path}: a skip or want of the unknown test {name!r}")
        for name, counter, meaning in wants:
            by_name[name].wants.append((counter, meaning))

    def all_tests(self, folder, quick=False):
        """Every test of one version: each program with its defaults, and the set "all" after its program."""
        more = collections.defaultdict(list)
        for t in self.tests:
            if "all" in t.sets:
                more[t.argv[0]].append(t)
        tests = []
        with open(os.path.join(folder, "tests"), encoding="utf-8") as f:
            for program in f.read().split():
                tests.append(self.arguments.get(program) or Test(program, [], LIMIT, [program]))
                tests += [] if quick else more[program]
        return [t for t in tests if not quick or t.limit <= LIMIT]

    def inner_end(self, test, version, npt):
        """How a test ends in a guest that is a hypervisor: "pass", "skip" or "fail"."""
        return next((i.end for i in self.inner if i.matches(test, version, npt)), "pass")

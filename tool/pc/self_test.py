# SPDX-License-Identifier: MIT
"""Does tool/run-pc see what goes wrong? Scripts of the shell stand in for QEMU."""
import os
import re
import signal
import tempfile
import time

import common
from pc import boot, image, verdict

GOOD = "printf '[  0.1] Linux\\r\\n[  0.2] x@pc sh'; sleep 0.2; printf 'ell 2\\r\\n@pc fork 150\\r\\n" \
    "@pc pipeline %s\\r\\n@pc sha256 %s\\r\\n@pc mmap %s\\r\\n@pc end\\r\\n'; " \
    "echo 'vmmu statistics: 1 VMs, 2 vCPUs\n faults\n  fixed       12\n  fixed without a lock      3' >&2"


def shell(script, limit=10.0):
    return boot.run(["/bin/sh", "-c", script], limit, lambda *_: None)


def test_verdicts(check):
    plan = verdict.work_of_init(2)
    values = {name: value for name, _, value in plan.parts}
    good = GOOD % tuple(values[name] for name in ("pipeline", "sha256", "mmap"))
    cases = [
        (good, "tdp", 2, None), (good, "tcg", 2, None), (good, "tdp", 4, "shell: 2, not 4"),
        (good + "; exit 3", "tdp", 2, "QEMU: exit 3"), (good + "; kill -SEGV $$", "tdp", 2, "QEMU ended by signal 11"),
        (good.replace("fork 150", "fork 149"), "tdp", 2, "fork: 149, not 150"),
        (good.replace("fork 150", "fork"), "tdp", 2, "fork: , not 150"),
        (good.replace("@pc mmap", "@pc nmap"), "tdp", 2, "mmap: nothing, not"),
        (good.replace(values["sha256"], "0" * 64), "tdp", 2, "sha256: 0"),
        (good.replace("@pc end", ""), "tdp", 2, "ended before its work"),
        (good.split("; echo")[0], "shadow", 2, "counted no fault"), (good.split("; echo")[0], "tcg", 2, None),
        ("true", "tdp", 2, "ended before its work"),
        (good + "; echo '[   12.5] WARNING: CPU: 0 PID: 1 at x.c:1'", "tdp", 2, "complains: [   12.5] WARNING: CPU"),
        (good + "; echo '[ 12.5] watchdog: BUG: soft lockup - CPU#1 stuck'", "tdp", 2, "complains: [ 12.5] watchdog"),
        (good + "; echo '[ 12.5] rcu: INFO: rcu_preempt self-detected stall on CPU'", "tdp", 2, "complains"),
        ("echo '[ 1.5] Oops: 0002 [#1]'; " + good + "; exit 3", "tdp", 2, "reached: end; a kernel complains"),
        (good + "; echo '[ 1.5] Return Stack: WARNING: See https://x'; echo WARNING: x", "tdp", 2, None),
    ]
    for script, kind, vcpus, want in cases:
        got = verdict.judge(shell(script), kind, verdict.work_of_init(vcpus))
        check(want in (got or "") if want else got is None, f"{script[-60:]!r}: {got!r}, not {want!r}")
    result = shell(good)
    check(result.marks["shell"][0] >= 0.2 > result.between("fork"), f"seconds of the marks: {result.marks}")
    check(result.stats == {"fixed": 12, "fixed without a lock": 3}, f"statistics: {result.stats}")
    results = {"vmmu, tdp": [result], "vmmu, shadow": [], "QEMU's TCG": [shell(good.split("; echo")[0])]}
    text = "\n".join(verdict.table(results, plan))
    check(re.search(r"vmmu, tdp +0\.[2-9].* 15 +- +-\n.*no boot was good\n.*TCG .* - +- +-$", text),
          f"a table:\n{text}")


def test_programs(check):
    """The table of programs: CPU seconds between the marks, ratios, and what stands where there is none."""
    def result(*seconds):
        made = boot.Boot()
        for name, at in zip(("shell", "c1", "c2"), seconds):
            made.marks[name] = (0.0, at, "")
        return made

    programs = verdict.programs_of(["# a comment", "#: one", "true", "#: two", "false"])
    check(programs == {"c1": "one", "c2": "two"}, f"the names of programs: {programs}")
    got = verdict.programs_table({"vmmu, tdp": [result(1, 3, 4)], "QEMU's TCG": [result(2, 6, 14), result(2, 6, 14)]},
                                 programs)
    check([line.split()[-3:] for line in got[1:]] == [["2.00", "4.00", "0.50"], ["1.00", "8.00", "0.12"],
                                                      ["geometric", "mean", "0.25"]], f"a table of programs: {got}")
    got = verdict.programs_table({"vmmu, tdp": [result(1, 3)], "QEMU's TCG": []}, programs)
    check([line.split()[1:] for line in got[1:3]] == [["2.00", "-", "-"], ["-", "-", "-"]],
          f"a table without results: {got}")


def alive(pids):
    """Those that run; a zombie that nobody waited for yet does not."""
    found = []
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
                if f.read().rsplit(")", 1)[1].split()[0] not in "ZX":
                    found.append(pid)
        except OSError:
            pass
    return found


def alive_after(pids, seconds):
    end = time.monotonic() + seconds
    while alive(pids) and time.monotonic() < end:
        time.sleep(0.01)
    return alive(pids)


def test_hang(check):
    begin = time.monotonic()
    result = shell("sleep 60 & echo @pc shell $!; echo the last; wait", 0.5)
    check(result.error and "hung" in result.error and time.monotonic() - begin < 5, f"a hang: {result.error}")
    check("reached: shell" in verdict.judge(result, "tdp", verdict.work_of_init(2)), "a hang: what it reached")
    check(result.last_lines(1) == ["the last"], f"a hang: its last line: {result.last_lines(3)}")
    check(not alive_after([int(result.marks["shell"][2])], 1), "a hang: what it started still runs")
    # Its outputs are closed, and it runs on.
    result = shell("exec >/dev/null 2>&1; sleep 60", 0.5)
    check(result.error and time.monotonic() - begin < 10, f"a hang without outputs: {result.error}")


def test_signals(check):
    """A boot in a child of ours, which gets the signal: it and all that it started are gone within a second."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
        with tempfile.NamedTemporaryFile() as file:
            child = os.fork()
            if child == 0:
                os._exit(boot.guarded(lambda f=file.name: shell(f"sleep 60 & echo $! $$ >{f}; wait", 60)))
            for _ in range(100):
                pids = [int(word) for word in common.read("", file.name).split()]
                if pids:
                    break
                time.sleep(0.05)
            begin = time.monotonic()
            os.kill(child, number)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            # What has QEMU's place is killed by the kernel when its parent dies; what that started is not.
            left = alive_after(pids if number != signal.SIGKILL else pids[1:], begin + 1 - time.monotonic())
            check(len(pids) == 2 and not left, f"{number.name}: {left} of {pids} still run")
            check(status == (130 if number != signal.SIGKILL else -9), f"{number.name}: exit {status}")
            for pid in alive(pids):
                os.kill(pid, signal.SIGKILL)


def test_archive(check):
    """Of each entry: where the next begins, and that content and device numbers are where the kernel reads them."""
    archive = image.cpio([("dev/console", 0o20600, b"", (5, 1)), ("init", 0o100755, b"hello", (0, 0))])
    at, found = 0, []
    while at < len(archive):
        check(archive[at:at + 6] == b"070701" and at % 4 == 0, f"an archive: no entry at {at}")
        field = [int(archive[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
        name = archive[at + 110:at + 110 + field[11]]
        data = (at + 110 + field[11] + 3) // 4 * 4
        found.append((name, field[1], archive[data:data + field[6]], (field[9], field[10])))
        at = (data + field[6] + 3) // 4 * 4
    check(found == [(b"dev/console\0", 0o20600, b"", (5, 1)), (b"init\0", 0o100755, b"hello", (0, 0)),
                    (b"TRAILER!!!\0", 0, b"", (0, 0))], f"an archive: {found}")


def run():
    report = common.Report()
    for test in (test_verdicts, test_programs, test_hang, test_signals, test_archive):
        test(lambda good, message: report.check(good, f"run-pc --self-test: {message}"))
    return report.end()

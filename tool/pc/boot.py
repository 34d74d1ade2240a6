# SPDX-License-Identifier: MIT
"""One boot of tool/run-pc: starts QEMU, reads what the guest says, measures, and ends it when its time is up."""
import ctypes
import os
import re
import selectors
import signal
import subprocess
import sys
import time

MARK = re.compile(rb"@pc (\w+) ?([^\r\n]*)\r*\n")   # each level of guests adds a \r
STATISTIC = re.compile(r"^ ? ([\w -]+?) +(\d+)$", re.M)
TICK = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Boot:
    """What became of a boot. marks: {name: (seconds, CPU seconds so far, value)}, in the order of their coming."""

    def __init__(self):
        self.marks, self.error, self.serial, self.errors = {}, None, bytearray(), bytearray()
        self.begin, self.seconds, self.cpu = time.monotonic(), 0.0, 0.0
        self.stats = {}

    def mark(self, name, pid, value):
        self.marks.setdefault(name, (time.monotonic() - self.begin, cpu_seconds(pid), value))

    def between(self, name, what=0):
        """Seconds (what=0) or CPU seconds (1) from the mark before `name` to that mark; None when it did not come."""
        names = list(self.marks)
        if name not in names:
            return None
        at = names.index(name)
        return self.marks[name][what] - (self.marks[names[at - 1]][what] if at else 0)

    def last_lines(self, most):
        text = self.serial.decode(errors="replace") + self.errors.decode(errors="replace")
        lines = [line.rstrip() for line in text.splitlines() if line.strip()]
        return lines[-most:]

    def last_line(self):
        text = bytes(self.serial[-400:]).decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return "".join(c if c.isprintable() else " " for c in lines[-1]) if lines else ""


def die_with_parent():
    """In the child: the kernel kills it when this tool is killed in a way that leaves it no time to do so itself."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def end_group(process):
    """Kill a process that leads a group, and everything in the group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def cpu_seconds(pid):
    """User and system time of a running process and of its children that ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            fields = f.read().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(int(n) for n in fields[11:15]) / TICK


def statistics(text):
    """The counters that `vmmu run --stats` printed: {name: number}."""
    at = text.find("vmmu statistics:")
    return {name.strip(): int(n) for name, n in STATISTIC.findall(text[at:])} if at >= 0 else {}


class Dialogue:
    """Answers to what the guest asks for. answers: [(what it prints, the answer, a mark for that moment or None)]."""

    def __init__(self, process, boot, answers):
        self.process, self.boot, self.answers, self.scanned = process, boot, list(answers), 0

    def look(self):
        """Answer if the next question has come. Returns: its mark, or None."""
        if not self.answers:
            return None
        question, answer, mark = self.answers[0]
        at = self.boot.serial.find(question, self.scanned)
        if at < 0:
            return None
        self.scanned = at + len(question)
        self.answers.pop(0)
        if mark:
            self.boot.mark(mark, self.process.pid, "")
        try:
            os.write(self.process.stdin.fileno(), answer)
        except BrokenPipeError:             # it ended; that is seen elsewhere
            pass
        return mark


def read_all(process, boot, end, answers, watch):
    """Read both outputs until they are closed, or the time is `end`. Calls watch(mark) for each mark, and watch(None)
    some times a second."""
    scanned, dialogue = 0, Dialogue(process, boot, answers)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, boot.serial)
        selector.register(process.stderr, selectors.EVENT_READ, boot.errors)
        while selector.get_map() and time.monotonic() < end:
            for key, _ in selector.select(0.1):
                data = os.read(key.fd, 65536)
                key.data.extend(data)
                if not data:
                    selector.unregister(key.fileobj)
            for match in MARK.finditer(boot.serial, scanned):
                scanned = match.end()
                name, value = (part.decode(errors="replace").strip() for part in match.groups())
                boot.mark(name, process.pid, value)
                watch(name)
            watch(dialogue.look())


def wait(process, end):
    """Wait for a process until the time is `end`. Returns: what it used, or None when it still runs."""
    while True:
        # Not process.wait(): only wait4 tells what the process used.
        pid, code, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(code)
            return usage
        if time.monotonic() >= end:
            return None
        time.sleep(0.01)


def run(argv, limit, watch, answers=()):
    """Boot. watch(boot, mark): as in read_all; answers: see Dialogue. Returns: a Boot, whose `error` is None when QEMU
    ended well."""
    boot = Boot()
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True, preexec_fn=die_with_parent)
    try:
        read_all(process, boot, boot.begin + limit, answers, lambda mark: watch(boot, mark))
        usage = wait(process, boot.begin + limit)
        boot.cpu = usage.ru_utime + usage.ru_stime if usage else cpu_seconds(process.pid)
    finally:
        end_group(process)
        process.stdin.close()
        process.stdout.close()
        process.stderr.close()
    boot.seconds = time.monotonic() - boot.begin
    boot.stats = statistics(boot.errors.decode(errors="replace"))
    if not usage:
        boot.error = f"hung: after {limit:g} s it had not ended"
    elif process.returncode:
        status = process.returncode
        boot.error = f"QEMU ended by signal {-status}" if status < 0 else f"QEMU: exit {status}"
    return boot


def stop(number, _frame):
    """One way out for all signals: what runs is ended where it is waited for. A second signal must not disturb that."""
    for each in STOPPING:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(number)


def guarded(work):
    """Call work(), which a signal to stop ends. Returns: its result, or 130."""
    for number in STOPPING:
        signal.signal(number, stop)
    try:
        return work()
    except KeyboardInterrupt:
        return 130


def interactive(argv):
    """Give the terminal to QEMU, and take it back as it was. Returns: QEMU's exit status."""
    import termios
    before = termios.tcgetattr(sys.stdin)
    process = subprocess.Popen(argv, preexec_fn=die_with_parent)
    try:
        # Ctrl-C is the guest's once QEMU has made the terminal raw; before that it ends both.
        return process.wait()
    finally:
        process.kill()
        process.wait()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)

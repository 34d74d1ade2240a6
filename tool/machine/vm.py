# SPDX-License-Identifier: MIT
"""One QEMU of tool/run-machine: its process, what the guest says on the console, and QMP."""
import json
import os
import re
import socket
import subprocess
import threading
import time

from pc import boot

# What a kernel prints when it is not well.
TROUBLE = re.compile(r"@[mn] WRONG|BUG:|Oops|Call Trace|Kernel panic|soft lockup|hard LOCKUP|rcu: INFO"
                     r"|general protection|segfault|clocksource: .*(unstable|skew)|nobody cared|do_IRQ:|is stuck"
                     r"|blocked for more")


class Failed(Exception):
    """The item failed; the text says how."""


class Qmp:
    """QEMU's monitor, on a socket."""

    def __init__(self, path, vm):
        self.vm, self.buffer, self.events = vm, b"", []
        end = time.monotonic() + 30
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)
                break
            except OSError:
                self.socket.close()
                if vm.process.poll() is not None or time.monotonic() > end:
                    raise Failed("QEMU does not start: " + vm.last()) from None
                time.sleep(0.02)
        self.message(30)
        self("qmp_capabilities")

    def message(self, limit):
        end = time.monotonic() + limit
        while b"\n" not in self.buffer:
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                raise Failed(f"QEMU's monitor says nothing for {limit:g} s") from None
            except OSError:
                data = b""
            if data == b"":
                raise Failed("QEMU is gone: " + self.vm.last())
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def __call__(self, name, limit=120, **arguments):
        """Execute a command. Names of arguments have - for _."""
        request = {"execute": name, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self.message(limit)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise Failed(f"{name}: {answer['error']['desc']}")
            self.events.append(answer)

    def hmp(self, line, limit=120):
        answer = self("human-monitor-command", limit, command_line=line).strip()
        if answer:
            raise Failed(f"{line}: {answer}")

    def poll(self, name, done, limit, **arguments):
        """Execute a command until done(answer). Returns: the answer."""
        end = time.monotonic() + limit
        while True:
            answer = self(name, **arguments)
            if done(answer):
                return answer
            self.vm.look()
            if time.monotonic() > end:
                raise Failed(f"{name}: after {limit:g} s still {json.dumps(answer)[:300]}")
            time.sleep(0.05)


class Vm:
    """A guest. `options`: more arguments for QEMU. `incoming`: it waits for a migration."""

    def __init__(self, config, name, options=(), incoming=None):
        self.config, self.name = config, name
        self.lines, self.changed, self.part = [], threading.Condition(), b""
        self.errors = bytearray()
        self.seen = 0                       # lines that look() has judged
        self.log = open(os.path.join(config.logs, name + ".log"), "wb")     # pylint: disable=consider-using-with
        path = os.path.join(config.sockets, name + ".qmp")
        argv = config.command(name, path, options, incoming)
        self.log.write(("$ " + " ".join(argv) + "\n").encode())
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        start_new_session=True, preexec_fn=boot.die_with_parent)
        config.running.append(self)
        for pipe, take in ((self.process.stdout, self.console), (self.process.stderr, self.error)):
            threading.Thread(target=self.read, args=(pipe, take), daemon=True).start()
        self.qmp = Qmp(path, self)

    def read(self, pipe, take):
        while data := os.read(pipe.fileno(), 65536):
            take(data)
            self.log.write(data)
            self.log.flush()

    def error(self, data):
        self.errors += data

    def console(self, data):
        *whole, self.part = (self.part + data).split(b"\n")
        with self.changed:
            self.lines += [line.decode(errors="replace").strip() for line in whole]
            self.changed.notify_all()

    def last(self):
        text = self.errors.decode(errors="replace").splitlines() + self.lines[-3:]
        return " / ".join(line.strip() for line in text[-6:] if line.strip()) or "nothing was printed"

    def look(self):
        """Fail when the guest or QEMU has not been well."""
        for line in self.lines[self.seen:]:
            self.seen += 1
            if TROUBLE.search(line):
                time.sleep(2)       # what else the kernel says about it comes into the log
                raise Failed(f"the guest says: {line}")
        if self.process.poll() is not None:
            raise Failed(f"QEMU ended ({self.process.returncode}): {self.last()}")

    def wait(self, pattern, limit, since=None):
        """Wait for a line of the guest. Returns: the match. `since`: a position of here()."""
        at, end = self.here() if since is None else since, time.monotonic() + limit
        while True:
            with self.changed:
                if at >= len(self.lines):
                    self.changed.wait(0.2)
                found, at = self.lines[at:], len(self.lines)
            self.look()
            for line in found:
                if match := re.search(pattern, line):
                    return match
            self.config.progress(self.lines[-1] if self.lines else "")
            if time.monotonic() > end:
                raise Failed(f"no '{pattern}' in {limit:g} s; the guest's last line: {self.last()}")

    def here(self):
        return len(self.lines)

    def up(self):
        """Wait until the guest's init runs. Returns: how many CPUs it has."""
        match = self.wait(r"@m up (\d+) (\S+)", self.config.limit, 0)
        return int(match.group(1)), match.group(2)

    def beats(self, count=2, guest="m"):
        """Wait until every thread in the guest has checked some pages, and for count > 1 some work in vector registers.
        Returns: the guest's clock in s.

        guest: "n" for the guest of the guest, which says @n for @m.
        """
        def beat():
            return self.wait(rf"@{guest} beat \d+ t=(\d+) pages=\d+ least=\d+ vectors=(\d+)", self.config.limit)

        first, end = beat(), time.monotonic() + self.config.limit
        match = first
        for _ in range(count - 1):
            match = beat()
        while count > 1 and int(match.group(2)) <= int(first.group(2)):
            if time.monotonic() > end:
                raise Failed(f"no work in vector registers in {self.config.limit:g} s")
            match = beat()
        return int(match.group(1)) / 1000

    def shell(self, line, limit=60):
        """Run a command in the guest. Returns: its output."""
        since = self.here()
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        self.wait("@m done", limit, since)
        return "\n".join(text[5:] for text in self.lines[since:] if text.startswith("@m | "))

    def quit(self):
        """Let QEMU end, and look how."""
        self.look()
        self.qmp.socket.sendall(b'{"execute": "quit"}\n')
        try:
            status = self.process.wait(20)
        except subprocess.TimeoutExpired:
            raise Failed("QEMU does not end within 20 s of quit") from None
        if status:
            raise Failed(f"QEMU ended with {status}: {self.last()}")
        self.close()

    def close(self):
        boot.end_group(self.process)
        self.qmp.socket.close()
        self.config.running.remove(self)

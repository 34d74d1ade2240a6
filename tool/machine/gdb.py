# SPDX-License-Identifier: MIT
"""QEMU's gdbstub, spoken to in gdb's remote protocol."""
import socket
import time

from machine.vm import Failed


class Gdb:
    """A connection. The machine is stopped then."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.buffer = b""
        answer = self("qSupported:swbreak+;hwbreak+;vContSupported+")
        while not answer.startswith("PacketSize"):      # first it may say that the machine has stopped
            answer = self.receive()
        self.stopped(self("?"))

    def send(self, text):
        self.socket.sendall(f"${text}#{sum(text.encode()) & 255:02x}".encode())

    def receive(self, limit=30):
        """The next packet. Acknowledged."""
        end = time.monotonic() + limit
        while True:
            self.buffer = self.buffer.lstrip(b"+")
            start, stop = self.buffer.find(b"$"), self.buffer.find(b"#")
            if start >= 0 and stop > start and len(self.buffer) >= stop + 3:
                packet, self.buffer = self.buffer[start + 1:stop], self.buffer[stop + 3:]
                self.socket.sendall(b"+")
                return packet.decode(errors="replace")
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                data = self.socket.recv(4096)
            except (TimeoutError, OSError):
                raise Failed(f"the gdbstub says nothing for {limit:g} s") from None
            if not data:
                raise Failed("the gdbstub hung up")
            self.buffer += data

    def __call__(self, text, limit=30):
        self.send(text)
        return self.receive(limit)

    def expect(self, text, wanted):
        answer = self(text)
        if answer != wanted:
            raise Failed(f"the gdbstub answers {answer!r} to {text!r}")

    def stop(self):
        """Stop the machine. Returns: the vCPU that was chosen."""
        self.socket.sendall(b"\x03")
        return self.stopped(self.receive())

    def go(self, text="c", limit=60):
        """Run until it stops. Returns: (signal, vCPU from 1)."""
        self.send(f"vCont;{text}")
        return self.stopped(self.receive(limit))

    def stopped(self, packet):
        if not packet.startswith("T"):
            raise Failed(f"the gdbstub says {packet!r}, and not that the machine has stopped")
        fields = dict(part.split(":", 1) for part in packet[3:].split(";") if ":" in part)
        return int(packet[1:3], 16), int(fields["thread"].split(".")[-1], 16)

    def rip(self, vcpu):
        self.expect(f"Hg{vcpu:x}", "OK")
        return int.from_bytes(bytes.fromhex(self("g")[16 * 16:17 * 16]), "little")

    def close(self):
        self.socket.close()

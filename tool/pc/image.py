# SPDX-License-Identifier: MIT
"""What the guest of tool/run-pc is made of: Debian's kernel and busybox, unpacked but not installed; an initramfs."""
import contextlib
import fcntl
import glob
import os
import shutil
import subprocess
import tempfile

import common
import selftests_list
from pc import boot

GUEST = os.path.join(common.ROOT, "tool", "pc", "guest")
ROOT_MAKER = os.path.join(common.ROOT, "tool", "pc", "root")
VECTORS_MAKER = os.path.join(common.ROOT, "tool", "pc", "vectors")
KERNEL = "linux-image-cloud-amd64"         # depends on the package of the newest such kernel


class Failed(Exception):
    """Something outside of a boot went wrong; the text says what."""


def run(argv, **kwargs):
    """Run a command to its end. Returns: its output. What it started does not outlive a signal to us."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, start_new_session=True, preexec_fn=boot.die_with_parent, **kwargs)
    try:
        output, _ = process.communicate()
    finally:
        boot.end_group(process)
    if process.returncode:
        raise Failed(f"{' '.join(argv)}: exit {process.returncode}\n{output.rstrip()}")
    return output


class Packages:
    """Debian packages, each unpacked into a folder of its own name below `folder`. Needs no root."""

    def __init__(self, folder, say):
        self.folder, self.say, self.options = folder, say, []
        os.makedirs(folder, exist_ok=True)

    def update(self):
        """Package lists of our own: the machine's are absent or name files that the mirror has no more."""
        lists = os.path.join(self.folder, "apt")
        os.makedirs(os.path.join(lists, "lists", "partial"), exist_ok=True)
        os.makedirs(os.path.join(lists, "archives", "partial"), exist_ok=True)
        self.options = ["-o", f"Dir::State::lists={lists}/lists", "-o", f"Dir::Cache={lists}"]
        self.say("package lists")
        run(["apt-get", "-q", *self.options, "update"])

    def newest(self, name):
        """The package that a package without content depends on."""
        for line in run(["apt-cache", *self.options, "depends", name]).splitlines():
            if line.strip().startswith("Depends: "):
                return line.split()[1]
        raise Failed(f"apt-cache depends {name}: nothing")

    def download(self, name, folder):
        wanted = self.newest(name) if name == KERNEL else name
        # As root apt would else fetch as another user, who may not write here, and warn of it.
        root = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
        run(["apt-get", "-q", *self.options, *root, "download", wanted], cwd=folder)

    def get(self, name):
        """The folder with the package's files. Fetched once; `rm -r` of it makes the next call fetch anew."""
        target = os.path.join(self.folder, name)
        with open(os.path.join(self.folder, ".lock"), "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.isdir(target):
                return target
            if not shutil.which("apt-get"):
                raise Failed(f"{name} comes from a Debian mirror, and there is no apt-get here")
            self.say(f"fetching {name}")
            with tempfile.TemporaryDirectory(dir=self.folder, prefix="fetch.") as part:
                try:
                    self.download(name, part)
                except Failed:
                    self.update()
                    self.download(name, part)
                for file in glob.glob(os.path.join(part, "*.deb")):
                    run(["dpkg", "-x", file, os.path.join(part, "root")])
                    os.unlink(file)
                os.rename(os.path.join(part, "root"), target)
        return target


def find(folder, pattern):
    found = sorted(glob.glob(os.path.join(folder, pattern)))
    if not found:
        raise Failed(f"{folder} has no {pattern}; remove it, and it is fetched anew")
    return found[-1]


def cpio(entries):
    """An archive as the kernel unpacks it. entries: [(path, mode, content, (major, minor) of a device)]."""
    out = bytearray()
    for number, (path, mode, content, device) in enumerate([*entries, ("TRAILER!!!", 0, b"", (0, 0))], 1):
        name = path.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        out += bytes(-len(out) % 4) + content
        out += bytes(-len(out) % 4)
    return bytes(out)


def read(path):
    with open(path, "rb") as f:
        return f.read()


# What a kernel needs to have guests of its own, and to reach its disk, each after what it needs itself.
KVM_MODULES = ["virt/lib/irqbypass", "arch/x86/kvm/kvm", "arch/x86/kvm/kvm-amd"]
MODULES = ["virtio/virtio_ring", "virtio/virtio", "virtio/virtio_pci_legacy_dev", "virtio/virtio_pci_modern_dev",
           "virtio/virtio_pci", "virtio/virtio_mmio", "block/virtio_blk"]
QEMU = "/usr/bin/qemu-system-x86_64"
FIRMWARE = ["/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/linuxboot_dma.bin", "/usr/share/qemu/kvmvapic.bin"]


def module(kernel, name):
    """An entry of a module of the kernel."""
    path = find(kernel, f"lib/modules/*/kernel/{name}.ko")
    return f"modules/{os.path.basename(path)}", 0o100644, read(path), (0, 0)


def libraries(program):
    """The files that the dynamic loader needs for a program, itself among them."""
    words = (word for line in run(["ldd", program]).splitlines() for word in line.split())
    return sorted({word for word in words if word.startswith("/")})


def hypervisor(folder, files):
    """What makes a hypervisor of a guest: KVM's modules, and files, {path in the guest: content}."""
    folders = {parent for path in files for parent in parents(path)}
    return cpio([*((name, 0o40755, b"", (0, 0)) for name in sorted(folders)),
                 *((path[1:], 0o100755, content, (0, 0)) for path, content in files.items()),
                 *(module(folder, name) for name in KVM_MODULES)])


def with_qemu(kernel, initrd):
    """This machine's QEMU, and what it boots in its turn."""
    files = {path: read(path) for path in [QEMU, *libraries(QEMU), *FIRMWARE]}
    return {**files, "/pc/kernel": read(kernel), "/pc/initramfs": read(initrd)}


class Selftests:
    """The KVM selftests that a hypervisor in the guest runs: those for slow machines; whole: all but the slowest."""

    SLOWER = 4                              # times what the list gives them

    def __init__(self, build, version, whole):
        self.folder, self.version = os.path.join(build, "selftests", version), version
        self.list = selftests_list.List(os.path.join(common.ROOT, "test", "client", "selftests.list"))
        if not os.path.exists(os.path.join(self.folder, "tests")):
            raise Failed(f"{self.folder} is not there: `make selftests` or tool/fetch-selftests makes it")
        every = self.list.all_tests(self.folder)
        programs = {t.argv[0] for t in every}
        self.tests = [t for t in every if t.limit <= selftests_list.LIMIT] if whole else \
            [t for t in self.list.tests if "san" in t.sets and t.argv[0] in programs]

    def lines(self):
        """Limit in seconds, how it ends with nested paging and without, and the command."""
        for t in self.tests:
            ends = [self.list.inner_end(t, self.version, npt) for npt in (True, False)]
            yield " ".join([str(self.SLOWER * t.limit), *ends, *t.argv]) + "\n"

    def files(self):
        programs = sorted({os.path.join(self.folder, "bin", t.argv[0]) for t in self.tests})
        missing = [path for path in programs if not os.path.exists(path)]
        if missing:
            raise Failed(f"{missing[0]} is not there: tool/fetch-selftests builds it")
        files = {path: read(path) for path in {path for program in programs for path in libraries(program)}}
        files.update({"/selftests/" + os.path.basename(path): read(path) for path in programs})
        return {**files, **unwinder(), "/selftests/list": "".join(self.lines()).encode()}


def unwinder():
    """The library that libc loads when a thread is cancelled, which no program names."""
    path = run(["cc", "-print-file-name=libgcc_s.so.1"]).strip()
    return {"/lib/x86_64-linux-gnu/libgcc_s.so.1": read(path)}


def parents(path):
    """The folders above a file, without the root."""
    while (path := os.path.dirname(path)) != "/":
        yield path[1:]


def initramfs(busybox, churn, kernel):
    """kernel: the folder of the kernel's package; its modules go in when they are given."""
    entries = [*((name, 0o40755, b"", (0, 0)) for name in ("bin", "dev", "modules")),
               ("dev/console", 0o20600, b"", (5, 1)),
               ("bin/busybox", 0o100755, read(busybox), (0, 0)), ("bin/sh", 0o120777, b"busybox", (0, 0)),
               ("bin/churn", 0o100755, read(churn), (0, 0)),
               ("init", 0o100755, read(os.path.join(GUEST, "init")), (0, 0))]
    modules = [module(kernel, f"drivers/{name}") for name in MODULES]
    order = "\n".join(os.path.basename(name) for name, *_ in modules)
    return cpio([*entries, *modules, ("modules/order", 0o100644, order.encode(), (0, 0))])


def as_root(argv, say):
    """Run what makes a Debian."""
    if not shutil.which("debootstrap", path=os.environ.get("PATH", "") + ":/usr/sbin"):
        raise Failed("a Debian on a disk wants debootstrap: `make deps FOR=disk` installs it")
    say("making a Debian (debootstrap: minutes)")
    run([*([] if os.geteuid() == 0 else ["sudo", "-n"]), *argv])


def vectors_root(folder, name, say):
    """Debian with programs that use vector registers: (its image, what a list of commands prints on this machine)."""
    as_root([os.path.join(VECTORS_MAKER, "make"), folder, name], say)
    return os.path.join(folder, "root.ext4"), common.read("", os.path.join(folder, "expected." + name))


def systemd_root(folder, kernel, say):
    """Debian with systemd as an image: (its file, what its commands print on this machine). Made once, by root."""
    image, expected = os.path.join(folder, "root.ext4"), os.path.join(folder, "expected")
    make = os.path.join(ROOT_MAKER, "make")
    if not os.path.exists(image) or os.path.getmtime(image) < max(map(os.path.getmtime, glob.glob(ROOT_MAKER + "/*"))):
        as_root([make, folder, kernel], say)
    return image, common.read("", expected)


class Image:
    """The files that a boot is given, and the kernel's name."""

    def __init__(self, build, say, firmware, disk, inner, vectors=None):
        """inner: what a hypervisor in the guest runs: "nested", a guest; Selftests; None: nothing. vectors: the
        list of vectors_root()'s commands to run; None: do not."""
        folder = os.path.join(build, "pc")
        packages = Packages(folder, say)
        kernel = packages.get(KERNEL)
        self.kernel = find(kernel, "boot/vmlinuz-*")
        self.release = os.path.basename(self.kernel).split("-", 1)[1]
        busybox = find(packages.get("busybox-static"), "bin/busybox")
        churn = os.path.join(folder, "churn")
        with replacing(churn) as new:
            run(["cc", "-O2", "-static", "-pthread", "-D_GNU_SOURCE", os.path.join(GUEST, "churn.c"), "-o", new])
        self.initrd = os.path.join(folder, "initramfs")
        with replacing(self.initrd) as new, open(new, "wb") as f:
            f.write(initramfs(busybox, churn, kernel))
        if inner:                          # the kernel unpacks one archive behind the other
            nested = inner == "nested"
            files = with_qemu(self.kernel, self.initrd) if nested else inner.files()
            outer = os.path.join(folder, "initramfs." + ("nested" if nested else "selftests"))
            with replacing(outer) as new, open(new, "wb") as f:
                f.write(read(self.initrd) + hypervisor(kernel, files))
            self.initrd = outer
        self.ovmf = packages.get("ovmf") if firmware != "seabios" else None
        self.disk = self.expected = None
        if disk:
            self.disk, self.expected = systemd_root(os.path.join(folder, disk), kernel, say)
        if vectors is not None:
            self.disk, self.expected = vectors_root(os.path.join(folder, "vectors"), vectors, say)


@contextlib.contextmanager
def replacing(path):
    """Another run may use the file: it is written beside, and takes the place when it is whole."""
    new = f"{path}.{os.getpid()}"
    try:
        yield new
        os.rename(new, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)

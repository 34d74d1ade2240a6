# SPDX-License-Identifier: MIT
"""The guest's kernel and initramfs, and an empty disk."""
import os
import subprocess

import common
from pc import image

GUEST = os.path.join(common.ROOT, "tool", "machine", "guest")
# In the order in which they need each other.
MODULES = ["drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_pci_modern_dev",
           "drivers/virtio/virtio_pci_legacy_dev", "drivers/virtio/virtio_pci", "drivers/virtio/virtio_mmio",
           "drivers/virtio/virtio_balloon", "drivers/virtio/virtio_mem", "drivers/block/virtio_blk",
           "net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net"]


def make(folder, say):
    """Returns: the kernel and the initramfs."""
    packages = image.Packages(folder, say)
    kernel = packages.get(image.KERNEL)
    busybox = image.find(packages.get("busybox-static"), "bin/busybox")
    keep = os.path.join(folder, "keep")
    with image.replacing(keep) as new:
        image.run(["cc", "-O2", "-static", "-pthread", "-D_GNU_SOURCE", os.path.join(GUEST, "keep.c"),
                   os.path.join(GUEST, "vector_work.S"), "-o", new])
    entries = [*((name, 0o40755, b"", (0, 0)) for name in ("bin", "dev", "modules")),
               ("dev/console", 0o20600, b"", (5, 1)),
               ("bin/busybox", 0o100755, image.read(busybox), (0, 0)), ("bin/sh", 0o120777, b"busybox", (0, 0)),
               ("bin/keep", 0o100755, image.read(keep), (0, 0)),
               ("init", 0o100755, image.read(os.path.join(GUEST, "init")), (0, 0))]
    for module in MODULES:
        file = image.find(kernel, f"lib/modules/*/kernel/{module}.ko")
        entries.append((f"modules/{os.path.basename(file)}", 0o100644, image.read(file), (0, 0)))
    order = " ".join(os.path.basename(module) + ".ko" for module in MODULES)
    entries.append(("modules/order", 0o100644, order.encode(), (0, 0)))
    initrd = os.path.join(folder, "machine-initramfs")
    with image.replacing(initrd) as new, open(new, "wb") as f:
        f.write(image.cpio(entries))
    return image.find(kernel, "boot/vmlinuz-*"), initrd


def make_hypervisor(folder, kernel, initrd, say):
    """Returns: an initramfs as that of make(), whose guest can run the same guest in its turn (/pc/kernel, ...)."""
    nested = os.path.join(folder, "machine-initramfs.nested")
    modules = image.Packages(folder, say).get(image.KERNEL)
    files = {**image.with_qemu(kernel, initrd), "/bin/inner": image.read(os.path.join(GUEST, "inner"))}
    with image.replacing(nested) as new, open(new, "wb") as f:
        f.write(image.read(initrd) + image.hypervisor(modules, files))
    return nested


def disk(path, size):
    """An empty qcow2 image: what a header, a table and the counts of four clusters of 64 KiB say."""
    cluster = 1 << 16

    def at(number, content):
        return content + bytes(number * cluster - len(content))
    header = (b"QFI\xfb" + (2).to_bytes(4, "big") + bytes(12) + (16).to_bytes(4, "big") + size.to_bytes(8, "big")
              + bytes(4) + (size >> 29).to_bytes(4, "big") + (3 * cluster).to_bytes(8, "big")
              + cluster.to_bytes(8, "big") + (1).to_bytes(4, "big") + bytes(12))
    with open(path, "wb") as f:
        f.write(at(1, header) + at(1, (2 * cluster).to_bytes(8, "big"))
                + at(1, (1).to_bytes(2, "big") * 4) + bytes(cluster))


def huge_pages_free():
    """2 MiB pages that a QEMU could have."""
    try:
        return int(common.read("/sys/kernel/mm/hugepages/hugepages-2048kB", "free_hugepages"))
    except OSError:
        return 0


def qemu_version():
    found = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True).stdout
    return found.splitlines()[0].split("(")[0].strip()

# SPDX-License-Identifier: MIT
"""What tool/run-machine does to guests. Each item is a function with the configuration; it returns a note."""
import os
import re
import time

from machine import image
from machine.gdb import Gdb
from machine.vm import Failed, Vm

MIGRATED = {"completed", "failed", "cancelled"}


class Skipped(Exception):
    """This machine cannot do it; the text says why."""


def memory_of(vm):
    """MemTotal of the guest in MiB."""
    return int(vm.shell("grep MemTotal /proc/meminfo").split()[1]) // 1024


def same_clock(before, after, passed, what):
    """The guest's clock may go on for `passed` seconds at most, and not back."""
    if not 0 <= after - before <= passed + 1:
        raise Failed(f"{what}: the guest's clock went from {before:.1f} to {after:.1f} s in {passed:.1f} s")


def start(config, name, options=()):
    vm = Vm(config, name, options)
    cpus, clock = vm.up()
    if cpus != config.vcpus:
        raise Failed(f"the guest has {cpus} CPUs, and not {config.vcpus}")
    vm.beats()
    return vm, clock


# ---- items ------------------------------------------------------------------------------------------------------


def item_boot(config):
    vm, clock = start(config, "boot")
    vm.beats(3)
    interrupts = vm.shell("cat /proc/interrupts")
    vm.quit()
    tlb = re.search(r"(?m)^ *CAL: +(\d+)", interrupts)
    return f"clocksource {clock}, {tlb.group(1) if tlb else '?'} function calls between CPUs"


def with_disk(config, name):
    path = os.path.join(config.folder, f"{name}.{config.mmu}.qcow2")
    image.disk(path, 1 << 30)
    return ["-drive", f"if=none,id=disk,file={path},format=qcow2", "-device", config.device("virtio-blk", "drive=disk")]


def item_snapshot(config):
    """savevm and loadvm. The guest goes on from where it was, and its clock too."""
    vm, _ = start(config, "snapshot", with_disk(config, "snapshot"))
    for _ in range(config.rounds(3)):
        saved, begin = vm.beats(), time.monotonic()
        vm.qmp.hmp("savevm one")
        saved += time.monotonic() - begin   # what the clock may have been then
        vm.beats(3)
        time.sleep(1)
        vm.qmp.hmp("loadvm one")
        loaded = time.monotonic()
        clock = vm.beats(1)
        if clock > saved + (time.monotonic() - loaded) + config.slack:
            raise Failed(f"after loadvm the guest's clock is {clock:.1f} s, saved at {saved:.1f} s at most "
                         f"({loaded - begin:.1f} s before)")
        vm.beats()
    vm.quit()
    return f"{config.rounds(3)} times"


def migrate(config, source, name, uri, incoming, options=()):
    """Returns: the guest's new QEMU, and the time for which it stood still in ms."""
    target = Vm(config, name, options, "defer")
    source.qmp("migrate-set-parameters", max_bandwidth=1 << 33, downtime_limit=2000)
    if incoming == uri:
        target.qmp("migrate-incoming", uri=incoming)
    before, begin = source.beats(1), time.monotonic()
    source.qmp("migrate", uri=uri)
    answer = source.qmp.poll("query-migrate", lambda a: a.get("status") in MIGRATED, config.limit)
    if answer["status"] != "completed":
        raise Failed(f"migration {answer['status']}: {answer.get('error-desc', '')}")
    if incoming != uri:
        target.qmp("migrate-incoming", uri=incoming)
    source.quit()
    target.qmp.poll("query-status", lambda a: a["status"] == "running", config.limit)
    clock = target.beats(1)
    same_clock(before, clock, time.monotonic() - begin, "migration")
    target.beats()
    return target, answer.get("downtime", 0)


def item_file(config):
    """Migration to a file, and from it."""
    path = os.path.join(config.folder, f"state.{config.mmu}")
    vm, _ = start(config, "file0")
    for n in range(config.rounds(2)):
        vm, _ = migrate(config, vm, f"file{n + 1}", f"exec:cat >{path}", f"exec:cat {path}")
    vm.quit()
    return f"{os.path.getsize(path) >> 20} MiB"


def item_live(config):
    """Live migration from process to process, over and over."""
    vm, _ = start(config, "live0")
    downtimes = []
    for n in range(config.rounds(10)):
        uri = "unix:" + os.path.join(config.sockets, f"live{n}")
        vm, downtime = migrate(config, vm, f"live{n + 1}", uri, uri)
        downtimes.append(downtime)
        config.progress(f"{n + 1} times")
    vm.quit()
    return f"{len(downtimes)} times, stood still for {min(downtimes)} to {max(downtimes)} ms"


def item_reset(config):
    """system_reset in the middle of the work."""
    vm, _ = start(config, "reset")
    for n in range(config.rounds(20)):
        since = vm.here()
        vm.qmp("system_reset")
        vm.wait(r"@m up", config.limit, since)
        vm.beats(1)
        config.progress(f"reset {n + 1}")
    vm.quit()
    return f"{config.rounds(20)} times"


def item_balloon(config):
    """The host takes memory, and gives it back."""
    vm, _ = start(config, "balloon", ["-device", config.device("virtio-balloon")])
    whole = config.memory << 20
    for _ in range(config.rounds(3)):
        for size in (whole - (64 << 20), whole):
            vm.qmp("balloon", value=size)
            vm.qmp.poll("query-balloon", lambda a, size=size: a["actual"] == size, config.limit)
            vm.beats(1)
    vm.quit()
    return f"{config.rounds(3)} times 64 MiB"


def item_virtio_mem(config):
    """Memory of a virtio-mem device comes and goes."""
    if config.machine == "microvm":
        raise Skipped("microvm has no PCI")
    vm, _ = start(config, "virtio-mem", [
        "-object", "memory-backend-ram,id=more,size=256M", "-device",
        "virtio-mem-pci,id=vm0,memdev=more,requested-size=0"])
    vm.shell("echo online_movable >/sys/devices/system/memory/auto_online_blocks")
    before = memory_of(vm)
    for _ in range(config.rounds(3)):
        for size in (128, 256, 0):
            vm.qmp("qom-set", path="vm0", property="requested-size", value=size << 20)
            vm.qmp.poll("qom-get", lambda a, size=size: a == size << 20, config.limit, path="vm0", property="size")
            vm.beats(1)
            if size and memory_of(vm) < before + size - 16:
                raise Failed(f"the guest sees {memory_of(vm)} MiB after {size} more than {before}")
            vm.shell("dd if=/dev/zero of=/tmp/fill bs=1M count=40; rm /tmp/fill")
    vm.quit()
    return "0 to 256 MiB and back"


def item_hotplug(config):
    """A DIMM comes and goes (ACPI)."""
    if config.machine == "microvm":
        raise Skipped("microvm has no memory slots")
    vm, _ = start(config, "hotplug")
    vm.shell("echo online_movable >/sys/devices/system/memory/auto_online_blocks")
    before = memory_of(vm)
    for n in range(config.rounds(3)):
        vm.qmp("object-add", qom_type="memory-backend-ram", id=f"dimm{n}", size=128 << 20)
        vm.qmp("device_add", driver="pc-dimm", id=f"slot{n}", memdev=f"dimm{n}")
        end = time.monotonic() + config.limit
        while memory_of(vm) < before + 120:
            if time.monotonic() > end:
                raise Failed(f"the guest sees {memory_of(vm)} MiB after 128 more than {before}")
        vm.shell("dd if=/dev/zero of=/tmp/fill bs=1M count=40; rm /tmp/fill")
        vm.beats(1)
        vm.qmp("device_del", id=f"slot{n}")
        vm.qmp.poll("query-memory-devices", lambda a: not a, config.limit)
        vm.qmp("object-del", id=f"dimm{n}")
    vm.quit()
    return f"{config.rounds(3)} times 128 MiB"


def backend(config, name, text):
    options = ["-object", f"memory-backend-memfd,id=ram,size={config.memory}M,{text}", "-machine", "memory-backend=ram"]
    vm, _ = start(config, name, options)
    vm.beats(3)
    vm.quit()


def item_memfd(config):
    """The guest's memory is a memfd, shared."""
    backend(config, "memfd", "share=on")
    return "share=on"


def item_hugetlb(config):
    """Huge pages of the host."""
    wanted, free = config.memory // 2, image.huge_pages_free()
    if free < wanted:
        raise Skipped(f"{free} huge pages are free, {wanted} are wanted: sysctl vm.nr_hugepages={wanted}")
    backend(config, "hugetlb", "hugetlb=on,hugetlbsize=2M")
    return "2 MiB pages"


def step(gdb, vcpu, count):
    """Step a vCPU. Each step is one instruction, and so somewhere else; but a repeated one (F3) repeats once."""
    at = gdb.rip(vcpu)
    for _ in range(count):
        signal, who = gdb.go(f"s:{vcpu:x}")
        now = gdb.rip(vcpu)
        if signal != 5 or who != vcpu:
            raise Failed(f"a step of vCPU {vcpu} ends with signal {signal} of vCPU {who}")
        if now == at and gdb(f"m{now:x},1") not in ("f2", "f3"):
            raise Failed(f"vCPU {vcpu} stays at {now:#x} in a step: {gdb(f'm{now:x},10')}")
        at = now


def item_gdb(config):
    """Break, step, continue on each vCPU, through QEMU's gdbstub."""
    path = os.path.join(config.sockets, "gdb")
    vm, _ = start(config, "gdb", ["-gdb", f"unix:{path},server=on,wait=off"])
    found = vm.shell("grep -m 2 -wE 'do_sys_openat2|do_syscall_64' /proc/kallsyms", config.limit)
    address = {name: int(at, 16) for at, _, name in (line.split()[:3] for line in found.splitlines())}
    # Something on each CPU that opens files.
    vm.shell(f"for c in $(seq 0 {config.vcpus - 1}); do "
             "taskset -c $c sh -c 'while :; do read x </proc/uptime; done' >/dev/null 2>&1 & done")
    gdb = Gdb(path)
    for kind in "01":                       # by an instruction in memory, and by a debug register
        for name, at in address.items():
            gdb.expect(f"Z{kind},{at:x},1", "OK")
            hit = set()
            for _ in range(60):
                signal, vcpu = gdb.go()
                if signal != 5 or gdb.rip(vcpu) != at:
                    raise Failed(f"{name}: signal {signal}, vCPU {vcpu} at {gdb.rip(vcpu):#x}")
                hit.add(vcpu)
                if len(hit) == config.vcpus:
                    break
            gdb.expect(f"z{kind},{at:x},1", "OK")
            for vcpu in hit:
                step(gdb, vcpu, 10)
        if len(hit) < min(2, config.vcpus):
            raise Failed(f"only vCPU {hit} of {config.vcpus} stopped at {name} in 60 stops")
    gdb.send("vCont;c")
    vm.beats(3)
    gdb.stop()
    gdb.expect("D", "OK")
    gdb.close()
    vm.qmp.poll("query-status", lambda a: a["running"], config.limit)
    vm.beats()
    vm.quit()
    return "breakpoints of both kinds, 10 steps each"


def item_devices(config):
    """A network card and disks: interrupts that QEMU sends itself, and irqfds.

    The disks have a thread of their own, so their queues have irqfds (on microvm both are lines).
    """
    disks = 8
    options = ["-netdev", "user,id=net", "-device", config.device("virtio-net", "netdev=net"),
               "-object", "iothread,id=thread"]
    for i in range(disks):
        path = os.path.join(config.folder, f"devices{i}.{config.mmu}.qcow2")
        image.disk(path, 1 << 30)
        options += ["-drive", f"if=none,id=disk{i},file={path},format=qcow2",
                    "-device", config.device("virtio-blk", f"drive=disk{i},num-queues={config.vcpus},iothread=thread")]
    vm, _ = start(config, "devices", options)
    vm.shell("ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0", config.limit)
    found = vm.shell("ping -c 3 -W 20 10.0.2.2", config.limit)
    if "3 packets received" not in found:
        raise Failed(f"ping: {found[-200:]}")
    vm.shell("dd if=/dev/urandom of=/tmp/data bs=64k count=16", config.limit)
    vm.shell("for d in /dev/vd?; do dd if=/tmp/data of=$d bs=64k conv=fsync & done; wait; "
             "echo 3 >/proc/sys/vm/drop_caches", config.limit)
    same = vm.shell("for d in /dev/vd?; do cmp -n 1048576 /tmp/data $d && echo same; done", config.limit)
    if same.split() != ["same"] * disks:
        raise Failed(f"{disks} disks: {same[-200:]}")
    vectors = vm.shell("grep -c virtio /proc/interrupts", config.limit)
    vm.beats()
    vm.quit()
    return f"3 pings, {disks} disks, {vectors} vectors"


# ---- the guest is a hypervisor ------------------------------------------------------------------------------------

def inner_start(config, name, npt, options=()):
    """A guest whose own guest writes and checks its memory, with nested paging or without."""
    vm, _ = start(config, name, options)
    since = vm.here()
    vm.shell(f"inner {int(npt)} >/dev/console 2>&1 &", config.limit)
    vm.wait("@m npt " + "NY"[npt], config.limit, since)
    vm.wait(rf"@n up {config.vcpus} ", config.limit, since)
    vm.beats(2, "n")
    return vm


def inner_live(config, vm, name, options=()):
    """Live migration. Both guests go on, and their clocks. Returns: the new QEMU, and for how long it stood still."""
    begin, before = time.monotonic(), vm.beats(1, "n")
    uri = "unix:" + os.path.join(config.sockets, name)
    vm, downtime = migrate(config, vm, name, uri, uri, options)
    same_clock(before, vm.beats(1, "n"), time.monotonic() - begin, "the guest's guest, migration")
    vm.beats(2, "n")
    return vm, downtime


def inner_snapshot(config, vm):
    """savevm and loadvm. Both guests go on from where they were."""
    begin = time.monotonic()
    latest = vm.beats(1, "n")
    vm.qmp.hmp("savevm one")
    latest += time.monotonic() - begin + config.slack   # what its clock may have been then
    vm.beats(8, "n")
    vm.qmp.hmp("loadvm one")
    loaded = time.monotonic()
    clock = vm.beats(1, "n")
    if clock > latest + time.monotonic() - loaded:
        raise Failed(f"after loadvm the clock of the guest's guest is {clock:.1f} s, saved at {latest:.1f} s at most")
    vm.beats()
    vm.beats(2, "n")


def nested_kinds(config):
    """What the guest can give its own guest: nested paging, and none."""
    if config.mmu == "kvm":
        raise Skipped("vmmu's MMUs only")
    config.hypervisor()
    return (False,) if config.mmu == "shadow" else (True, False)


def item_nested(config):
    """Live migrations and snapshots of a guest whose own guest writes its memory, with nested paging and without."""
    rounds, notes = config.rounds(5), []
    for npt in nested_kinds(config):
        kind, downtimes = f"npt={int(npt)}", []
        config.label = f"nested, {config.mmu}, {kind}:"
        disk = with_disk(config, f"nested{int(npt)}")
        vm = inner_start(config, f"nested{int(npt)}.0", npt, disk)
        for n in range(rounds):
            vm, downtime = inner_live(config, vm, f"nested{int(npt)}.{n + 1}", disk)
            downtimes.append(downtime)
            inner_snapshot(config, vm)
            config.progress(f"{n + 1} times")
        vm.quit()
        notes.append(f"{kind}: {rounds} times, stood still for {min(downtimes)} to {max(downtimes)} ms")
    return "; ".join(notes)


def item_nested_half(config):
    """The same with --host-memory at half of the hypervisor's memory."""
    notes = []
    for npt in nested_kinds(config):
        kind = f"npt={int(npt)}"
        config.label = f"nested-half, {config.mmu}, {kind}:"
        config.run_options = ["--host-memory", f"{config.memory // 2}M", "--stats", "--host-swap",
                              os.path.join(config.folder, f"half.{config.mmu}.swap") + ":4G"]
        first = vm = inner_start(config, f"half{int(npt)}.0", npt)
        vm.beats(10, "n")
        for n in range(config.rounds(1)):
            vm, _ = inner_live(config, vm, f"half{int(npt)}.{n + 1}")
            config.progress(f"{n + 1} times")
        vm.beats(10, "n")
        vm.quit()
        taken, brought = ([counter(source, name) for source in (first, vm)]
                          for name in ("pages taken away", "pages brought back"))
        if 0 in taken + brought:
            raise Failed(f"the guest's memory fitted into half: {taken} pages taken away, {brought} brought back")
        notes.append(f"{kind}: {taken[0]} and {taken[1]} pages taken away, {brought[0]} and {brought[1]} brought back")
    return "; ".join(notes)


def counter(vm, name):
    """A counter of --stats of a QEMU that has ended."""
    found = re.search(rf"(?m)^ *{name} +(\d+)$", vm.errors.decode(errors="replace"))
    if not found:
        raise Failed(f"--stats says nothing of {name}: {vm.last()}")
    return int(found.group(1))


NESTED = ("nested", "nested-half")
ITEMS = {name[5:].replace("_", "-"): f for name, f in list(globals().items()) if name.startswith("item_")}
SHORT = ("snapshot", "live")

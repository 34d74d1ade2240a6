# SPDX-License-Identifier: MIT
"""What the boots of tool/run-pc come to: is one good, and the table of all."""
import hashlib
import re
import statistics

KINDS = {"tdp": "vmmu, tdp", "shadow": "vmmu, shadow", "tcg": "QEMU's TCG", "kvm": "the machine's KVM"}
PAGING = {None: "", True: ", npt=1", False: ", npt=0"}
OURS = ("tdp", "shadow")
# What a kernel's log says of something that must not happen; SRSO's warning of the processor is none.
COMPLAINT = re.compile(r"^\[ *\d+\.\d+\].*?(?:WARNING: (?!https|See)|BUG: |Oops|general protection fault|"
                       r"unable to handle|unchecked MSR|soft lockup|detected stall|"
                       r"blocked for more than)[^\r\n]*", re.M)
CHURNED = "4608"                    # pages that guest/churn.c looks at in its first process: twice 96, in 24 rounds


class Case:
    """What boots: on which KVM (a key of KINDS); for a guest of the guest, whether that is given nested paging."""

    def __init__(self, kind, npt=None):
        self.kind, self.npt = kind, npt
        self.name = KINDS[kind] + PAGING[npt]
        self.file = kind + PAGING[npt].replace(", ", ".")


class Plan:
    """What a boot must reach: first a mark, which ends its start; then the parts of the work, [(mark, the head of its
    column, the value that it must have)]."""

    def __init__(self, start, start_value, parts):
        self.start, self.start_value, self.parts = start, start_value, parts


def work_of_init(vcpus):
    """What guest/init does."""
    lines = "".join(f"{line}\n" for line in sorted(map(str, range(1, 20001)), reverse=True))
    letters = lines.translate(str.maketrans("0123456789", "abcdefghij"))
    return Plan("shell", str(vcpus), [
        ("fork", "fork", "150"), ("pipeline", "pipe", hashlib.md5(letters.encode()).hexdigest()),
        ("sha256", "sha256", hashlib.sha256(bytes(8 << 20)).hexdigest()), ("mmap", "mmap", CHURNED)])


def work_of_nested(vcpus, npt):
    """What guest/init does with pc.npt: KVM's modules are in, and then guest/init works in a guest of the guest."""
    inner = work_of_init(vcpus)
    return Plan("kvm", "Y" if npt else "N", [("shell", "shell", inner.start_value), *inner.parts])


def work_of_selftests(count, npt):
    """What guest/init does where it has the KVM selftests."""
    return Plan("kvm", "Y" if npt else "N", [("selftests", "tests", f"{count} of {count}")])


def work_of_root(vcpus, expected):
    """What root/work does. expected: the lines of root/run-commands on this machine."""
    return Plan("login", "", [
        ("work", "typed", str(vcpus)), ("commands", "commands", hashlib.sha256(expected.encode()).hexdigest()),
        ("apt", "apt", str(2 ** 100)), ("systemd", "settled", "running")])


def work_of_vectors(vcpus, expected):
    """What guest/init does with pc.vectors. expected: as for work_of_root."""
    return Plan("shell", str(vcpus), [("commands", "commands", hashlib.sha256(expected.encode()).hexdigest())])


def programs_of(lines):
    """The names in vectors/programs.list, {the mark at its end: name}."""
    names = [line[2:].strip() for line in lines if line.startswith("#:")]
    return {f"c{n}": name for n, name in enumerate(names, 1)}


def judge_work(result, kind, plan):
    """What is wrong with the work of a boot.Boot; None when nothing is."""
    if result.error:
        reached = list(result.marks)[-1:] or ["nothing"]
        return f"{result.error}; the last that it reached: {reached[0]}"
    if "end" not in result.marks:
        return "the guest ended before its work did"
    for name, want in [(plan.start, plan.start_value), *((part[0], part[2]) for part in plan.parts)]:
        got = result.marks[name][2] if name in result.marks else "nothing"
        if got != want:
            return f"{name}: {got}, not {want}"
    if kind in OURS and not result.stats.get("fixed"):
        return "vmmu counted no fault: the guest ran without it"
    return None


def judge(result, kind, plan):
    """What is wrong with a boot.Boot: its work, or what a kernel in it said. None when nothing is."""
    wrong = judge_work(result, kind, plan)
    # What a peer's machine makes Linux say is not ours to judge: TCG's XSAVE draws a warning.
    complaint = kind in OURS and COMPLAINT.search(result.serial.decode(errors="replace"))
    if complaint:
        wrong = "; ".join([*([wrong] if wrong else []), f"a kernel complains: {complaint.group().strip()}"])
    return wrong


def differences(result, expected):
    """The commands of root/commands.list whose line is another than on this machine: their numbers."""
    got = set(result.serial.decode(errors="replace").splitlines())
    return [line.split()[0] for line in expected.splitlines() if line not in got]


def median(results, value):
    found = [v for v in map(value, results) if v is not None]
    return statistics.median(found) if found else None


def row(name, results, plan):
    """A line of the table: medians of the good boots."""
    def seconds(value):
        found = median(results, value)
        return f"{found:8.1f}" if found is not None else "       -"

    def count(*names):
        values = [median(results, lambda r, n=n: r.stats.get(n)) for n in names]
        return f"{int(sum(values)):8}" if None not in values else "       -"

    if not results:
        return f"{name:20} no boot was good"
    cells = [seconds(lambda r: r.marks[plan.start][0]), seconds(lambda r: r.marks[plan.start][1])]
    cells += [seconds(lambda r, n=name: r.between(n)) for name, _, _ in plan.parts]
    cells += [seconds(lambda r: r.cpu - r.marks[plan.start][1]),
              count("fixed", "fixed without a lock"), count("ever"), count("TLB flushes")]
    return f"{name:20}" + " ".join(cells)


def programs_table(results, programs):
    """The CPU seconds of each program, beside TCG's. results: as for table(). Returns: lines."""
    peer, names = KINDS["tcg"], list(results)
    ours = [name for name in names if name != peer and peer in results]
    rows = [["CPU seconds of QEMU", *names, *(f"{name} / TCG" for name in ours)]]
    ratios = {name: [] for name in ours}
    for mark, program in programs.items():
        cpu = {name: median(good, lambda r: r.between(mark, 1)) for name, good in results.items()}
        cells = [f"{cpu[name]:.2f}" if cpu[name] is not None else "-" for name in names]
        for name in ours:
            known = cpu[name] and cpu[peer]
            ratios[name] += [cpu[name] / cpu[peer]] if known else []
            cells.append(f"{ratios[name][-1]:.2f}" if known else "-")
        rows.append([program, *cells])
    means = [f"{statistics.geometric_mean(found):.2f}" if found else "-" for found in ratios.values()]
    rows.append(["geometric mean", *("" for _ in names), *means])
    wide = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, wide))).rstrip()
            for row in rows]


def table(results, plan):
    """results: {name of a case: [good boots]}. Returns: lines."""
    heads = ["s", "CPU s", *(head for _, head, _ in plan.parts), "CPU s", "faults", "tables", "flushes"]
    wide = 9 * (len(plan.parts) + 1) - 1
    return [f"{'':20}{'to the ' + plan.start:>17} {'seconds of the work':>{wide}} {'counted by vmmu':>26}",
            f"{'':20}" + " ".join(f"{h:>8}" for h in heads), *(row(name, good, plan) for name, good in results.items())]

# SPDX-License-Identifier: MIT
"""What the boots of tool/run-pc come to: is one good, and the table of all."""
import functools
import hashlib
import statistics

KINDS = {"tdp": "vmmu, tdp", "shadow": "vmmu, shadow", "tcg": "QEMU's TCG", "kvm": "the machine's KVM"}
OURS = ("tdp", "shadow")
PARTS = ["fork", "pipeline", "sha256", "mmap"]
CHURNED = "4608"                    # pages that guest/churn.c looks at in its first process: twice 96, in 24 rounds


@functools.cache
def expected():
    """What the parts of the work compute (guest/init)."""
    lines = "".join(f"{line}\n" for line in sorted(map(str, range(1, 20001)), reverse=True))
    letters = lines.translate(str.maketrans("0123456789", "abcdefghij"))
    return {"fork": "150", "pipeline": hashlib.md5(letters.encode()).hexdigest(),
            "sha256": hashlib.sha256(bytes(16 << 20)).hexdigest(), "mmap": CHURNED}


def judge(result, kind, vcpus):
    """What is wrong with a boot.Boot; None when nothing is."""
    if result.error:
        reached = list(result.marks)[-1:] or ["nothing"]
        return f"{result.error}; the last that it reached: {reached[0]}"
    if "end" not in result.marks:
        return "the guest ended before its work did"
    if result.marks["shell"][2] != str(vcpus):
        return f"the guest has {result.marks['shell'][2]} CPUs, not {vcpus}"
    for name, want in expected().items():
        got = result.marks[name][2] if name in result.marks else "nothing"
        if got != want:
            return f"{name}: {got}, not {want}"
    if kind in OURS and not result.stats.get("fixed"):
        return "vmmu counted no fault: the guest ran without it"
    return None


def median(results, value):
    found = [v for v in map(value, results) if v is not None]
    return statistics.median(found) if found else None


def row(kind, results):
    """A line of the table: medians of the good boots."""
    def seconds(value):
        found = median(results, value)
        return f"{found:7.1f}" if found is not None else "      -"

    def count(*names):
        values = [median(results, lambda r, n=n: r.stats.get(n)) for n in names]
        return f"{int(sum(values)):8}" if None not in values else "       -"

    if not results:
        return f"{KINDS[kind]:18} no boot was good"
    cells = [seconds(lambda r: r.marks["shell"][0]), seconds(lambda r: r.marks["shell"][1])]
    cells += [seconds(lambda r, p=part: r.between(p)) for part in PARTS]
    cells += [seconds(lambda r: r.cpu - r.marks["shell"][1]),
              count("fixed", "fixed without a lock"), count("ever"), count("TLB flushes")]
    return f"{KINDS[kind]:18}" + " ".join(cells)


def table(results):
    """results: {kind: [good boots]}. Returns: lines."""
    heads = [f"{h:>7}" for h in ("s", "CPU s", "fork", "pipe", "sha256", "mmap", "CPU s")]
    heads += [f"{h:>8}" for h in ("faults", "tables", "flushes")]
    return [f"{'':18}{'to the shell':>15} {'seconds of the work':>39} {'counted by vmmu':>26}",
            f"{'':18}" + " ".join(heads), *(row(kind, good) for kind, good in results.items())]

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The command line of vmmu-check, as a user meets it: test_command.py VMMU_CHECK FOLDER

Exit codes, errors that say what to do, and a failure from end to end.
"""
import re
import subprocess
import sys

CHECKER, FOLDER = sys.argv[1:3]
UNLOCK = "core/sync/mutex.c mutex_unlock __atomic_exchange_n 1"
failures = 0


def run(*arguments):
    done = subprocess.run([CHECKER, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          check=False, timeout=170)
    return done.returncode, done.stdout, done.stderr


def complaints_are_good(code, lines):
    """Results go to stdout. stderr says why a command could not be carried out; each of its lines begins with the
    program's name. A command writes to one of the two only."""
    return not lines if code < 2 else lines and all(line.startswith("vmmu-check: ") for line in lines)


def expect(what, code, pattern, *arguments):
    """Run a command and compare its exit code (or codes) and its output. Returns: the output."""
    global failures
    got, output, complaints = run(*arguments)
    good = got in (code if isinstance(code, tuple) else (code,)) and re.search(pattern, output + complaints)
    good = good and complaints_are_good(got, complaints.splitlines())
    output += complaints
    print(("ok" if good else "FAILED") + ": " + what)
    if not good:
        failures += 1
        print(f"  {' '.join(arguments)}: exit {got}, wanted {code} and /{pattern}/\n" + output[:2000])
    return output


def main():
    expect("help", 0, r"vmmu-check run SCENARIO", "--help")
    expect("an unknown command", 2, r"no command 'walk'; see --help", "walk")
    expect("an unknown option", 2, r"no option --budgets; see --help", "run", "mutex_vs_itself", "--budgets", "3s")
    expect("an option without its value", 2, r"--budget wants a value", "run", "mutex_vs_itself", "--budget")
    expect("a budget that is no time", 2, r"90s, 10m or 2h", "run", "mutex_vs_itself", "--budget", "soon")
    expect("a bound that is no number", 2, r"wants a number", "run", "mutex_vs_itself", "--preemptions", "x")
    expect("an unknown scenario", 2, r"did you mean 'mutex_vs_", "run", "mutex_vs_self")
    expect("no scenario", 2, r"run wants one scenario", "run")
    expect("a seed that is none", 2, r"replay wants a seed", "replay", "mutex_vs_itself")
    expect("a seed of nothing", 2, r"not an execution", "replay", "mutex_vs_itself:c11:%%%")
    expect("an unknown protocol", 2, r"no scenario of P99", "check", "--protocol", "P99")
    expect("a site that is none", 2, r"is no ordering site", "why", "nowhere.c:1")
    expect("a line beside a site", 2, r"the nearest is core/sync/mutex.c", "why", "core/sync/mutex.c:2")
    expect("a function without one", 2, r"is no ordering site", "why", "mutex_init")
    expect("a function with several", 2,
           r"more than one ordering site.* core/memslot/gate.c:\d+ \(gate_publish spin_lock\), core/",
           "why", "gate_publish")
    expect("a function with one", 0, r"no violation", "run", "mutex_vs_itself", "--weaken", "gate_leave=skipped",
           "--strategy", "pct", "--budget", "0.3s")
    expect("a way that is none", 2, r"it can be: relaxed", "run", "mutex_vs_itself", "--weaken", UNLOCK + "=blue")
    expect("the scenarios", 0, r"mutex_vs_itself\t", "list", "--tabs")
    # 3: clang merges two lines into one piece of code, which then has no site. In gcc's build CI requires all sites.
    expect("the sites", (0, 3), re.escape(UNLOCK) + "\t", "sites", "--tabs")

    expect("a search that is exhausted", 0, r"no violation; exhaustive", "run", "mutex_vs_itself",
           "--strategy", "dfs", "--budget", "60s")
    expect("one within bounds", 0, r"no violation; bounded, bound: 1 preempt., 1 stale", "run", "mutex_vs_itself",
           "--preemptions", "1", "--stale", "1")
    for strategy in ("pct", "random"):
        expect(strategy, 0, r"no violation; sampled", "run", "mutex_vs_itself", "--strategy", strategy, "--seed", "7",
               "--budget", "0.3s")

    weak = ("--weaken", UNLOCK + "=relaxed")
    output = expect("a lock without its release", 1, r"data race", "run", "mutex_vs_itself", *weak, "--budget", "30s",
                    "--html", FOLDER)
    again = re.search(r"again\s+vmmu-check replay .* (\S+)$", output, re.M)
    if again:
        expect("its seed", 1, r"data race", "replay", *weak, again.group(1))
        expect("its seed, and the release back", 0, r"", "replay", again.group(1))
    expect("x86 does not need it", 0, r"no violation; exhaustive", "run", "mutex_vs_itself", *weak,
           "--tso", "--budget", "60s")
    expect("why", 0, r"(?s)Needed: made relaxed.*nothing orders", "why", UNLOCK, "--html", FOLDER)
    expect("weigh", 0, re.escape(UNLOCK) + r"\tneeded\trelaxed", "weigh", UNLOCK, "--budget", "1s")
    expect("confirm", 0, r"1 passed, 0 failed", "confirm", UNLOCK)
    expect("some at once", 0, r"(?s)exhaustive .*passed.*\d+ passed, 0 failed", "check", "--protocol", "SRCU",
           "--budget", "20s", "--html", FOLDER)
    print(f"{failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

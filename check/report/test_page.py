#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A page of a failure, in a browser: test_page.py VMMU_CHECK FOLDER

Leaves out a fence of P4, so that a scenario fails, and loads the page that is written in headless Chromium. The rows
must be there. The script must draw the edge from the old store to its load. Nothing may be fetched. The page must not
be empty, in light or in dark.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

SITE = "core/shadow/write.c shadow_track_write fence_full 1"
SKIP = 77
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
         "--window-size=1300,1000"]


def chromium(*arguments):
    with tempfile.TemporaryDirectory() as profile:
        return subprocess.run(["chromium", *FLAGS, "--user-data-dir=" + profile, *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, check=True, timeout=120).stdout


def failing_page(checker, folder):
    """The first scenario of P4 that fails without the fence."""
    listed = subprocess.run([checker, "list", "--tabs"], stdout=subprocess.PIPE, text=True, check=True).stdout
    for line in listed.splitlines():
        name, protocols = line.split("\t")[:2]
        if "P4" not in protocols.split():
            continue
        done = subprocess.run([checker, "run", name, "--weaken", SITE + "=dropped", "--budget", "10s",
                               "--html", folder],
                              stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode == 1:
            return os.path.join(folder, name + ".html")
    return None


def main():
    checker, folder = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    if not shutil.which("chromium"):
        print("chromium is not there")
        return SKIP
    os.makedirs(folder, exist_ok=True)
    page = failing_page(checker, folder)
    failures = []

    def check(good, what):
        print(("ok: " if good else "FAILED: ") + what)
        if not good:
            failures.append(what)

    check(page, "a scenario of P4 fails without its fence")
    if not page:
        return 1
    with open(page, encoding="utf-8") as f:
        source = f.read()
    check(not re.search(r'(?:src|href)\s*=|@import|url\((?!#)|https?://(?!www\.w3\.org/2000/svg)', source),
          "the page needs nothing else")
    check(len(source) < 400000, "the page is not large")
    dom = chromium("--dump-dom", "file://" + page)
    check(dom.count('class="row ') >= 5, "events are there")
    check("shadow-&gt;indirect" in dom and "core/shadow/write.c" in dom, "they have names and places")
    check(re.search(r'<path d="M[^"]*" class="old"', dom) or "old: from the beginning" in dom,
          "the old value is marked")
    for name, more in (("light", []), ("dark", ["--blink-settings=preferredColorScheme=0"])):
        picture = os.path.join(folder, name + ".png")
        chromium("--screenshot=" + picture, *more, "file://" + page)
        check(os.path.getsize(picture) > 20000, f"it is drawn ({name})")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Turn page.css and page.js into C strings: page.py OUTPUT CSS JS."""
import sys


def c_string(path):
    with open(path, encoding="utf-8") as f:
        lines = f.read().splitlines()
    return "\n".join('\t"' + line.replace("\\", "\\\\").replace('"', '\\"') + '\\n"' for line in lines)


with open(sys.argv[1], "w", encoding="utf-8") as out:
    out.write('#include "check/report/page.h"\n')
    for name, path in (("page_css", sys.argv[2]), ("page_js", sys.argv[3])):
        out.write(f"const char {name}[] =\n{c_string(path)};\n")

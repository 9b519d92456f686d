"""Prints what ptxas says of each kernel, from a build log on standard input.

Fails where a kernel spills registers, or keeps an array on a stack: both are memory, not registers.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")
LONGEST_NAME = 72


def readable(names: list[str]) -> dict[str, str]:
    """Return the names as a C++ programmer writes them, without arguments and namespaces."""
    if shutil.which("c++filt") is None:
        return dict(zip(names, names, strict=True))
    done = subprocess.run(
        ["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True
    )
    short = [
        re.sub(r"^void |adalora::(cuda::)?|\(anonymous namespace\)::", "", line).partition("(")[0]
        for line in done.stdout.splitlines()
    ]
    return dict(zip(names, short, strict=True))


def kernels(log: str) -> list[tuple[str, str, int, int, int]]:
    """Return (name, architecture, registers, bytes of shared memory, bytes on a stack) of each."""
    found = []
    entry: tuple[str, str] | None = None
    on_stack = 0
    for line in log.splitlines():
        if match := ENTRY.search(line):
            entry = (match[1], match[2])
        elif entry and (match := SPILLS.search(line)):
            on_stack = sum(map(int, match.groups()))
        elif entry and (match := USED.search(line)):
            shared = SHARED.search(line)
            found.append((*entry, int(match[1]), int(shared[1]) if shared else 0, on_stack))
            entry = None
    return found


def main() -> int:
    """Print the table; 1 if a kernel has a stack or the log names no kernel."""
    found = kernels(sys.stdin.read())
    names = readable([name for name, *_ in found])
    print(f"{'kernel':<{LONGEST_NAME}} arch   registers  shared    stack")
    for name, architecture, registers, shared, on_stack in found:
        print(
            f"{names[name][:LONGEST_NAME]:<{LONGEST_NAME}} {architecture:<6} {registers:>9}  "
            f"{shared:>6}  {on_stack:>7}"
        )
    burdened = [names[name] for name, *_, on_stack in found if on_stack]
    if burdened:
        print(f"memory instead of registers: {', '.join(burdened)}")
    return 1 if burdened or not found else 0


if __name__ == "__main__":
    sys.exit(main())

"""Write constraints.txt: the releases of all packages that the tests passed with.

    python tools/constraints.py            from this environment, whose tests are green
    python tools/constraints.py --compare red   a table of what differs here from the file

Torch has an upper bound alone, since a machine may hold one of its builds already; what it brings
(CUDA's libraries, Triton) is left to it, and what installs packages is left to the environment.
"""

from __future__ import annotations

import argparse
import datetime as dt
import re
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

FILE = Path(__file__).parents[1] / "constraints.txt"
LEFT_OUT = re.compile(r"adalora-core|torch|triton|nvidia-.*|cuda-.*|pip|setuptools|wheel")


def installed() -> dict[str, str]:
    """Return the release of each package of this environment."""
    names = {re.sub(r"[-_.]+", "-", each.name).lower(): each.version for each in distributions()}
    return dict(sorted(names.items()))


def tested() -> dict[str, Requirement]:
    """Return what the file asks for, by name."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    asked = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {each.name: each for each in asked}


def text_of(packages: dict[str, str], date: dt.date) -> str:
    """Return the content of the file for an environment."""
    head = f"# What the tests passed with on {date}. Written by python tools/constraints.py.\n"
    major, minor = Version(packages["torch"]).release[:2]
    pins = [
        f"{name}=={release.partition('+')[0]}"
        for name, release in packages.items()
        if not LEFT_OUT.fullmatch(name)
    ]
    return head + "\n".join([*pins, f"torch<{major}.{minor + 1}", ""])


def table_of(packages: dict[str, str], verdict: str) -> str:
    """Return a table of the packages that the file does not allow in their installed release."""
    rows = [
        f"| {name} | {asked.specifier} | {packages[name]} | {verdict} |"
        for name, asked in tested().items()
        if name in packages and not asked.specifier.contains(packages[name], prereleases=True)
    ]
    return "\n".join(["| package | tested | newest | verdict |", "|---|---|---|---|", *rows])


def main() -> None:
    """Write the file, or print the table."""
    parser = argparse.ArgumentParser(description="Write constraints.txt, or compare with it.")
    parser.add_argument("--compare", metavar="VERDICT", help="print what differs, with a verdict")
    verdict = parser.parse_args().compare
    if verdict is not None:
        print(table_of(installed(), verdict))
        return
    new = FILE.with_suffix(".new")
    new.write_text(text_of(installed(), dt.datetime.now(dt.UTC).date()), encoding="utf-8")
    new.replace(FILE)
    print(f"wrote {FILE.name}")


if __name__ == "__main__":
    main()

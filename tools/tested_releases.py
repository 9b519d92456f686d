"""Write which releases of Python, torch, PEFT and transformers the tests were run with."""

from __future__ import annotations

import tomllib
from pathlib import Path

from adalora_core.bridge.versions import TRIED

RELEASES = Path(__file__).with_suffix(".toml")


def releases() -> dict[str, tuple[str, str]]:
    """Return the oldest and the newest release that was run, by name."""
    table = tomllib.loads(RELEASES.read_text(encoding="utf-8"))
    found = {name: (table["oldest"][name], table["newest"][name]) for name in table["oldest"]}
    for name, of_name in zip(("PEFT", "transformers"), zip(*TRIED, strict=True), strict=True):
        ordered = sorted(of_name, key=_numbers)
        found[name] = (ordered[0], ordered[-1])
    return found


def block() -> str:
    """Return the table of docs/status.md."""
    rows = [f"| {name} | {oldest} | {newest} |" for name, (oldest, newest) in releases().items()]
    return "\n".join(["| | oldest | newest |", "|---|---|---|", *rows])


def words() -> str:
    """Return the sentence of README.md."""
    named = [f"{name} {_short(old)} to {_short(new)}" for name, (old, new) in releases().items()]
    return f"{', '.join(named)} ({date()})"


def date() -> str:
    """Return when the newest releases were run."""
    return str(tomllib.loads(RELEASES.read_text(encoding="utf-8"))["date"])


def _numbers(release: str) -> list[int]:
    return [int(each) for each in release.split(".")]


def _short(release: str) -> str:
    return ".".join(release.split(".")[:2])

"""Measure processor time in seconds of an idle machine, however busy this one is.

A bound in plain seconds of processor time fails where other programs share the caches and the
cores. So a fixed piece of work is timed before and after what is measured, and gives the unit.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FINDS_SUPPORT = {
    "PYTHONPATH": os.pathsep.join(
        filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])
    )
}
"""Variables with which a program of a test imports this module."""

UNIT_SECONDS = 0.025
"""Processor time of the fixed work where the bounds were set: a core of a virtual machine."""


@dataclass
class Spent:
    """Processor time of a block, known at its end."""

    seconds: float = 0.0


def processor_time() -> float:
    """Return the processor time of this process and of the ended ones that it has started."""
    return sum(os.times()[:4])


def slowness() -> float:
    """Return how many times slower this machine is now than an idle one; at least 1."""
    begin = time.process_time()
    # Work in memory as well as in registers.
    names = json.loads(json.dumps([f"layers.{number % 97}.{number}" for number in range(40_000)]))
    sorted({name.rpartition(".")[2]: name for name in names}.items())
    return max(1.0, (time.process_time() - begin) / UNIT_SECONDS)


@contextlib.contextmanager
def measured() -> Iterator[Spent]:
    """Measure the `processor_time` of a block, in seconds of an idle machine."""
    spent, before = Spent(), slowness()
    begin = processor_time()
    yield spent
    used = processor_time() - begin
    spent.seconds = used / max(before, slowness())

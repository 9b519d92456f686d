"""Test the report of each kernel's registers and memory; spilled registers are an error."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import run_python

REPORT = Path(__file__).parents[2] / ".ci" / "ptxas_report.py"
LOG = """
ptxas info    : Compiling entry function '_ZN7adalora4cuda6kernelEv' for 'sm_90'
ptxas info    : Function properties for _ZN7adalora4cuda6kernelEv
    {frame} bytes stack frame, {spilled} bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 16384 bytes smem
"""


def test_report_lists_registers_and_shared_memory() -> None:
    done = run_python(REPORT, input=LOG.format(frame=0, spilled=0))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[-4:] == ["sm_90", "40", "16384", "0"]


@pytest.mark.parametrize(
    "log",
    [LOG.format(frame=0, spilled=8), LOG.format(frame=16, spilled=0), "nothing was compiled"],
)
def test_report_fails_on_spills_on_stacks_and_on_no_kernel(log: str) -> None:
    assert run_python(REPORT, input=log).returncode == 1

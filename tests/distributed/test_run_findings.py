"""Findings of runs on several processes: the first one warns, and right runs are quiet."""

from __future__ import annotations

from pathlib import Path

import pytest
from process_groups import run_processes
from run_cases import (
    error_of_a_merged_run,
    findings_of_a_foreign_optimizer,
    findings_of_a_forgotten_call,
    findings_of_a_right_run,
)

KINDS = ["ddp", "fsdp2"]


@pytest.mark.parametrize("kind", KINDS)
def test_right_run_is_quiet_on_every_process(kind: str, tmp_path: Path) -> None:
    found = run_processes(2, findings_of_a_right_run, tmp_path / "of", kind, tmp_path / "saved")
    assert found == [[], []]


@pytest.mark.parametrize("kind", KINDS)
def test_first_process_alone_warns(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    found = run_processes(2, findings_of_a_forgotten_call, tmp_path / "of", kind, folder)
    assert found == [["ADA811"], []]


@pytest.mark.parametrize("kind", KINDS)
def test_optimizer_of_other_parameters_is_found(kind: str, tmp_path: Path) -> None:
    found = run_processes(2, findings_of_a_foreign_optimizer, tmp_path, kind)
    assert found == [["ADA802"], []]


def test_error_is_raised_on_every_process(tmp_path: Path) -> None:
    for message in run_processes(2, error_of_a_merged_run, tmp_path, "ddp"):
        assert message.startswith("ADA816")

"""Runs of several processes in which nobody calls `update_and_allocate`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from process_groups import run_processes
from run_cases import run_beside_the_hook, run_whose_processes_differ


@pytest.mark.parametrize(
    ("kind", "library"),
    [
        ("ddp", "attached"),
        pytest.param("fsdp2", "attached", marks=pytest.mark.slow),
        pytest.param("ddp", "adalora_core", marks=pytest.mark.slow),
        pytest.param("fsdp2", "adalora_core", marks=pytest.mark.slow),
    ],
)
def test_processes_allocate_as_with_a_hook(kind: str, library: str, tmp_path: Path) -> None:
    found = run_processes(2, run_beside_the_hook, tmp_path, kind, library)
    for rank, (automatic, hooked, findings, messages) in enumerate(found):
        torch.testing.assert_close(automatic, hooked, rtol=0, atol=0)
        torch.testing.assert_close(automatic, found[0][0], rtol=0, atol=0)
        assert automatic[1] == 9
        assert not findings
        assert messages == (rank == 0)


@pytest.mark.slow
def test_process_that_counts_otherwise_is_an_error_everywhere(tmp_path: Path) -> None:
    for message in run_processes(2, run_whose_processes_differ, tmp_path):
        assert "step of the call" in message
        assert "after AdamW" in message

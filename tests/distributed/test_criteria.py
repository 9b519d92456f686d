"""Criteria other than the default score divided factors as they score whole ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from process_groups import run_processes
from run_cases import energy_and_gradient, scores_in_process, scores_of, train_by_process

CRITERIA = ["per-parameter", "magnitude", "snr", "random", energy_and_gradient]
slow = pytest.mark.slow


def assert_scores_equal(found: list[torch.Tensor], expected: torch.Tensor) -> None:
    assert expected.unique().numel() > len(expected) / 3
    for scores in found:
        assert torch.equal(scores, found[0])
        torch.testing.assert_close(scores, expected, atol=0, rtol=1e-6)


@pytest.mark.parametrize(
    ("criterion", "kind", "world"),
    [
        ("snr", "fsdp2", 2),
        (energy_and_gradient, "fsdp2", 2),
        pytest.param("magnitude", "fsdp2", 2, marks=slow),
        pytest.param("random", "fsdp2", 2, marks=slow),
        *(pytest.param(each, "hsdp", 4, marks=slow) for each in CRITERIA),
        *(pytest.param(each, "fsdp2-columns", 2, marks=pytest.mark.nightly) for each in CRITERIA),
    ],
)
def test_sharded_factors_have_the_scores_of_whole_ones(
    criterion: Any, kind: str, world: int, tmp_path: Path
) -> None:
    found = run_processes(world, scores_in_process, tmp_path, criterion, kind, 9)
    assert_scores_equal(found, scores_of(criterion, "single", 9))


def test_a_function_that_differs_between_processes_is_found_under_ddp(tmp_path: Path) -> None:
    for text in run_processes(2, train_by_process, tmp_path, "ddp"):
        assert "kept set of adapter 'default'" in text
        assert "importance_criterion must return the same scores on every rank" in text


def test_a_function_that_differs_counts_as_that_of_the_first_process(tmp_path: Path) -> None:
    first, second = run_processes(2, train_by_process, tmp_path, "fsdp2")
    assert first == second
    assert first.startswith("{")

"""Scores of divided factors are those of whole ones, not only in the same order."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from distributed_checks import scores_at
from distributed_runs import STEPS, kept_without_gradient_at
from process_groups import run_processes


@pytest.mark.parametrize(
    ("kind", "world"), [("ddp", 2), ("fsdp2", 4), ("hsdp", 4), ("fsdp2-columns", 2)]
)
def test_every_process_has_the_scores_of_the_single_one(
    kind: str, world: int, tmp_path: Path
) -> None:
    expected = scores_at(0, "single", 9)
    assert expected.count_nonzero() == len(expected)
    found = run_processes(world, scores_at, tmp_path, kind, 9)
    for scores in found:
        assert torch.equal(scores, found[0])
        torch.testing.assert_close(scores, expected, atol=0, rtol=1e-6)


@pytest.mark.parametrize(("kind", "world"), [("fsdp2", 4), ("hsdp", 4), ("fsdp2-columns", 2)])
@pytest.mark.parametrize("stop", [9, STEPS])
def test_a_matrix_without_gradient_is_found_on_every_process(
    kind: str, world: int, stop: int, tmp_path: Path
) -> None:
    kept, lacking, values = kept_without_gradient_at(0, "single", stop)
    assert lacking == [False, False, True]
    assert not any(kept[2])
    assert bool(values.all()) == (stop < STEPS)
    for found in run_processes(world, kept_without_gradient_at, tmp_path, kind, stop):
        assert found[:2] == (kept, lacking)
        torch.testing.assert_close(found[2], values)

"""Scores of divided factors are those of whole ones, not only in the same order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from distributed_checks import scores_at
from process_groups import run_processes

if TYPE_CHECKING:
    from pathlib import Path


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

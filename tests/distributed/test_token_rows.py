"""Rows of an embedding under DDP and FSDP2."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch
from distributed_checks import refusal
from process_groups import run_processes
from token_row_jobs import embedding_divided_alone, rows_after

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_division_changes_nothing(kind: str, tmp_path: Path) -> None:
    expected = rows_after(0, "single")
    for found in run_processes(2, rows_after, tmp_path, kind):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_embedding_that_is_divided_alone_is_refused(tmp_path: Path) -> None:
    for found in run_processes(2, refusal, tmp_path, partial(embedding_divided_alone, 0)):
        assert found.startswith("ParallelismError: trainable_token_indices: fully_shard has")

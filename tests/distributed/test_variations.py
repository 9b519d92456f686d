"""Accumulation, mixed precision, offloading and evaluation in between change nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_checks import (
    run_accumulating,
    run_evaluating_in_between,
    run_with_a_loss_of_its_own,
    run_with_options,
)
from distributed_runs import assert_same, run
from process_groups import run_processes
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_micro_batches_are_the_batch(kind: str, tmp_path: Path) -> None:
    expected = run(0, "single", {})
    assert_same(run_accumulating(0, "single", 2), expected)
    for found in run_processes(2, run_accumulating, tmp_path, kind, 2):
        assert_same(found, expected)


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_a_loss_outside_of_the_model_and_clipped_gradients_change_nothing(
    kind: str, adds: bool, tmp_path: Path
) -> None:
    expected = run_with_a_loss_of_its_own(0, "single")
    # Norms of gradients here; every step is clipped.
    assert min(expected.losses) > 0.01
    for found in run_processes(2, run_with_a_loss_of_its_own, tmp_path, kind, adds):
        assert_same(found, expected)
        torch.testing.assert_close(found.losses, expected.losses, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    "options",
    [{"offload_policy": CPUOffloadPolicy(pin_memory=False)}, {"reshard_after_forward": False}],
    ids=["offloaded factors", "layers that stay gathered"],
)
def test_options_of_fully_shard_change_nothing(options: Any, tmp_path: Path) -> None:
    expected = run(0, "single", {})
    for found in run_processes(2, run_with_options, tmp_path, options, torch.float64):
        assert_same(found, expected)


def test_mixed_precision_keeps_the_budgets_and_the_ranks_agree(tmp_path: Path) -> None:
    expected = run(0, "single", {})
    options = {
        "mp_policy": MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    }
    first, second = run_processes(2, run_with_options, tmp_path, options, torch.float32)
    assert first.budgets == second.budgets == expected.budgets
    assert first.masks == second.masks
    assert {each.dtype for each in first.parameters.values()} == {torch.float32}
    assert first.losses[-1] < first.losses[0]


def test_a_forward_pass_before_the_allocation_hides_no_gradient(tmp_path: Path) -> None:
    expected = run(0, "single", {})
    for found in run_processes(2, run_evaluating_in_between, tmp_path):
        assert_same(found, expected)

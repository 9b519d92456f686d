"""Allocation costs few collectives per run under DDP, and under FSDP2 what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest
from distributed_runs import STEPS, adapted
from exchanges import averages_and_penalty_flops, count_collectives, count_collectives_of_lora
from process_groups import run_processes

SCHEDULE = adapted().base_model.adapters["default"].allocator.schedule
ALLOCATIONS = [int(SCHEDULE.at(step).allocates) for step in range(STEPS)]
COMPARED = {0, 1, 3, 7, 15, ALLOCATIONS.index(1), SCHEDULE.final_start}
COMPARISONS = [int(step in COMPARED) for step in range(STEPS)]
"""The processes are compared at every power of two, at the first and at the last allocation."""


def test_the_steps_are_of_both_kinds() -> None:
    assert set(ALLOCATIONS) == {0, 1}
    assert sum(COMPARISONS) == 7


def test_ddp_makes_the_collectives_of_plain_lora_and_few_comparisons(tmp_path: Path) -> None:
    ours = run_processes(2, count_collectives, tmp_path / "ours", "ddp", {})
    lora = run_processes(2, count_collectives_of_lora, tmp_path / "lora")
    assert all(training > 0 for training in lora[0])
    for counts, plain in zip(ours, lora, strict=True):
        assert [training for training, _ in counts] == plain
        assert [allocation for _, allocation in counts] == COMPARISONS


@pytest.mark.parametrize(("kind", "world"), [("fsdp2", 2), ("hsdp", 4)])
def test_sharded_scores_are_one_all_reduce_per_allocation(
    kind: str, world: int, tmp_path: Path
) -> None:
    expected = [sum(each) for each in zip(ALLOCATIONS, COMPARISONS, strict=True)]
    for counts in run_processes(world, count_collectives, tmp_path, kind, {}):
        assert [allocation for _, allocation in counts] == expected


def test_the_penalty_is_one_exchange_per_forward(tmp_path: Path) -> None:
    with_penalty = run_processes(2, count_collectives, tmp_path / "with", "fsdp2", {})
    without = run_processes(
        2, count_collectives, tmp_path / "without", "fsdp2", {"orth_reg_weight": 0.0}
    )
    more = [a - b for (a, _), (b, _) in zip(with_penalty[0], without[0], strict=True)]
    assert without[0][5][0] > 0
    assert more == [1] * STEPS


@pytest.mark.parametrize("kind", ["fsdp2", "fsdp2-columns"])
def test_averages_and_arithmetic_of_the_penalty_are_divided(kind: str, tmp_path: Path) -> None:
    averages, flops = averages_and_penalty_flops(0, "single")
    found = run_processes(2, averages_and_penalty_flops, tmp_path, kind)
    assert sum(each for each, _ in found) == averages
    # Each process reads whole factors where these are divided along what the penalty sums over.
    assert max(each for _, each in found) < flops / 2

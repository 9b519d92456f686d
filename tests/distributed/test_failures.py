"""What goes wrong on one rank never leaves different kept sets on different ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from distributed_checks import (
    die_before_allocation,
    die_before_backward,
    disagree,
    run_with_bad_gradients,
)
from process_groups import run_processes

VALUES = {
    "kept set": "13 triplets, checksum ",
    "averages": "checksum ",
    "step": "10, elsewhere 9)",
    "factors": "checksum ",
}
"""What the check says about rank 1, by what is spoilt there."""


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_gradients_that_are_not_finite_on_one_rank_leave_all_ranks_alike(
    kind: str, tmp_path: Path
) -> None:
    (first, skipped_first), (second, skipped_second) = run_processes(
        2, run_with_bad_gradients, tmp_path, kind
    )
    assert first.masks == second.masks
    assert first.budgets == second.budgets
    assert first.budgets[-1] == 9
    assert skipped_first > 0
    assert skipped_second > 0
    assert all(parameter.isfinite().all() for parameter in first.parameters.values())


@pytest.mark.parametrize("die", [die_before_backward, die_before_allocation])
def test_a_rank_that_dies_ends_the_others_before_they_choose(die: Any, tmp_path: Path) -> None:
    found, dead = run_processes(2, die, tmp_path)
    assert dead is None
    assert found.pop("error")
    assert found == {"mask_is_the_old_one": True, "values_are_the_old_ones": True, "last_step": 3}


@pytest.mark.parametrize("spoil", VALUES)
def test_the_check_names_the_rank_that_differs_and_in_what(spoil: str, tmp_path: Path) -> None:
    for said in run_processes(3, disagree, tmp_path, spoil):
        assert f"rank 1: {spoil} of adapter 'default' ({VALUES[spoil]}" in said

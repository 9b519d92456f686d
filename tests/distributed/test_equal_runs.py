"""One process, DDP and FSDP2 with the same global batch take the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from distributed_runs import assert_same, run
from process_groups import run_processes


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="penalty"),
        pytest.param({"orth_reg_weight": 0.0}, id="no-penalty"),
        pytest.param({"init_lora_weights": "lora"}, id="like-lora", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    ("kind", "world"),
    [("ddp", 2), ("fsdp2", 2), ("fsdp2", 4), ("fsdp2", 1), ("fsdp2-columns", 2), ("hsdp", 4)],
)
def test_every_process_goes_the_way_of_the_single_one(
    kind: str, world: int, changes: dict[str, Any], tmp_path: Path
) -> None:
    expected = run(0, "single", changes)
    assert len(set(expected.budgets)) > 5
    for found in run_processes(world, run, tmp_path, kind, changes):
        assert_same(found, expected)

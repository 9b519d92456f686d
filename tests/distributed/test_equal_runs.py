"""One process, DDP and FSDP2 with the same global batch take the same way, through each door."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from distributed_runs import adapted, assert_same, attached, run
from process_groups import run_processes


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="penalty"),
        pytest.param({"orth_reg_weight": 0.0}, id="no-penalty", marks=pytest.mark.nightly),
        pytest.param({"init_lora_weights": "lora"}, id="like-lora", marks=pytest.mark.nightly),
    ],
)
@pytest.mark.parametrize(
    ("kind", "world", "make"),
    [
        *((kind, 2, adapted) for kind in ("ddp", "fsdp2", "fsdp2-columns")),
        ("fsdp2", 4, adapted),
        ("fsdp2", 1, adapted),
        ("hsdp", 4, adapted),
        *(pytest.param(kind, 2, attached, marks=pytest.mark.slow) for kind in ("ddp", "fsdp2")),
        ("hsdp", 4, attached),
    ],
)
def test_every_process_goes_the_way_of_the_single_one(
    kind: str, world: int, make: Any, changes: dict[str, Any], tmp_path: Path
) -> None:
    expected = run(0, "single", changes, make)
    assert len(set(expected.budgets)) > 5
    for found in run_processes(world, run, tmp_path, kind, changes, make):
        assert_same(found, expected)

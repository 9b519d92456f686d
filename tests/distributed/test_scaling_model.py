"""The cost model of docs/scaling.md says what 2 and 4 processes exchange."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from distributed_checks import count_exchanged_numbers
from distributed_runs import SETTINGS
from process_groups import run_processes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scaling() -> Any:
    spec = importlib.util.spec_from_file_location(
        "scaling_model", ROOT / "benchmarks" / "scaling_model.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_table_of_the_page_is_the_model_of_today(scaling: Any) -> None:
    assert scaling.table() in (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("world", [2, 4])
def test_the_exchanges_have_the_sizes_of_the_model(
    world: int, scaling: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Blocks:
        def matrices(self) -> list[tuple[int, int]]:
            return [(10, 7), (7, 5), (5, 3)]

    monkeypatch.setattr(scaling, "INIT_R", SETTINGS["init_r"])
    expected = scaling.cost(Blocks(), world, sharded=True)
    per_number = scaling.BYTES * 2 * (world - 1) / world
    for scores, penalty in run_processes(world, count_exchanged_numbers, tmp_path):
        assert scores * per_number == pytest.approx(expected.scores)
        # The head belongs to the root, whose factors are whole in its own forward pass.
        head = SETTINGS["init_r"] * (5 + SETTINGS["init_r"])
        assert (penalty + head) * per_number == pytest.approx(expected.penalty)

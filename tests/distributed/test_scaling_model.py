"""The cost model of docs/scaling.md says what 1, 2 and 4 processes keep, compute and exchange."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from distributed_runs import SETTINGS, WIDTH
from exchanges import averages_and_penalty_flops, exchanged_sizes
from module_files import module_of
from process_groups import run_processes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scaling() -> Any:
    return module_of(ROOT / "tools" / "scaling_model.py")


@pytest.fixture
def small(scaling: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the model that the processes train, for the cost model."""

    class Blocks:
        def matrices(self) -> list[tuple[int, int]]:
            return [(WIDTH, 7), (7, 5), (5, 3)]

    monkeypatch.setattr(scaling, "INIT_R", SETTINGS["init_r"])
    return Blocks()


def test_the_figures_of_the_page_are_those_of_the_model_of_today(scaling: Any) -> None:
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert scaling.table_and_products() in page, "run: python tools/regenerate.py scaling"


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize(("kind", "division"), [("fsdp2", "ROWS"), ("fsdp2-columns", "COLUMNS")])
def test_a_sharded_step_exchanges_what_the_model_says(
    kind: str, division: str, world: int, scaling: Any, small: Any, tmp_path: Path
) -> None:
    expected = scaling.cost(small, world, scaling.Division[division])
    once = scaling.BYTES * (world - 1) / world
    for sizes in run_processes(world, exchanged_sizes, tmp_path, kind):
        assert len(sizes["allreduce_"]) == expected.collectives
        penalty, scores = sizes["allreduce_"]
        assert 2 * once * scores == pytest.approx(expected.scores)
        # The head belongs to the root, whose factors are whole in its own forward pass.
        head = SETTINGS["init_r"] * (5 + SETTINGS["init_r"])
        assert 2 * once * (penalty + head) == pytest.approx(expected.penalty)
        assert once * sum(sizes["_reduce_scatter_base_"]) == pytest.approx(expected.gradients)


@pytest.mark.parametrize("world", [2, 4])
def test_a_step_of_ddp_exchanges_the_gradients_and_nothing_of_ours(
    world: int, scaling: Any, small: Any, tmp_path: Path
) -> None:
    expected = scaling.cost(small, world, scaling.Division.DDP)
    once = scaling.BYTES * (world - 1) / world
    for sizes in run_processes(world, exchanged_sizes, tmp_path, "ddp"):
        assert expected.collectives == expected.scores == expected.penalty == 0
        assert set(sizes) == {"allreduce_"}
        assert 2 * once * sum(sizes["allreduce_"]) == pytest.approx(expected.gradients)


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize(("kind", "division"), [("fsdp2", "ROWS"), ("fsdp2-columns", "COLUMNS")])
def test_memory_and_arithmetic_are_divided_as_the_model_says(
    kind: str, division: str, world: int, scaling: Any, small: Any, tmp_path: Path
) -> None:
    expected = scaling.cost(small, world, scaling.Division[division])
    found = run_processes(world, averages_and_penalty_flops, tmp_path, kind)
    averages, flops = (sum(each) / world for each in zip(*found, strict=True))
    assert scaling.BYTES * averages == pytest.approx(expected.averages)
    assert flops == pytest.approx(expected.penalty_flops)


def test_one_process_and_each_of_ddp_keep_whole_averages(
    scaling: Any, small: Any, tmp_path: Path
) -> None:
    expected = scaling.cost(small, 2, scaling.Division.DDP).averages
    for averages, _ in run_processes(2, averages_and_penalty_flops, tmp_path, "ddp"):
        assert scaling.BYTES * averages == expected
    alone, _ = averages_and_penalty_flops(0, "single")
    assert scaling.BYTES * alone == expected

"""The cost model of docs/scaling.md says what 1, 2 and 4 processes keep, compute and exchange."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from distributed_runs import SETTINGS, WIDTH
from exchanges import averages_and_penalty_flops, exchanged_sizes, gradient_exchanges
from module_files import module_of
from process_groups import run_processes

from adalora_core import RunWarning

ROOT = Path(__file__).parents[2]
SHAPES = [(WIDTH, 7), (7, 5), (5, 3)]
"""`(in, out)` of the matrices that the processes train."""


@pytest.fixture(scope="module")
def scaling() -> Any:
    return module_of(ROOT / "tools" / "scaling_model.py")


@pytest.fixture
def small(scaling: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the model that the processes train, for the cost model."""

    class Blocks:
        layers = 2

        def matrices(self) -> list[tuple[int, int]]:
            return SHAPES

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
        # One more compares the processes, at the first step.
        assert len(sizes["allreduce_"]) == expected.own + expected.own_more + 1
        penalty, compared, scores = sizes["allreduce_"]
        assert 2 * once * scores == pytest.approx(expected.scores)
        assert_compared(compared, world, expected)
        # The head belongs to the root, whose factors are whole in its own forward pass.
        head = SETTINGS["init_r"] * (5 + SETTINGS["init_r"])
        assert 2 * once * (penalty + head) == pytest.approx(expected.penalty)
        assert once * sum(sizes["_reduce_scatter_base_"]) == pytest.approx(expected.gradients)
        gathers = once * world * sum(sizes["_allgather_base_"])
        assert gathers == pytest.approx(expected.gathers + once * besides(scaling, world, division))
        # The root has factors here, and so a gather and an exchange of gradients more.
        shared = len(sizes["_allgather_base_"]) + len(sizes["_reduce_scatter_base_"])
        assert shared == expected.shared + 2


def besides(scaling: Any, world: int, division: str) -> int:
    """Return the entries that are gathered beside the factors: frozen weights and biases.

    The root, which has the head, is gathered once, since it is not freed after forward.
    """
    first, second, head = (-(-rows // world) * world * (columns + 1) for columns, rows in SHAPES)
    padded: int = scaling._padded(*SHAPES[-1], world, scaling.Division[division])
    return 2 * (first + second) + head - padded


def assert_compared(numbers: int, world: int, expected: Any) -> None:
    bytes_of_each = 8
    assert 2 * (world - 1) / world * bytes_of_each * numbers == expected.comparison


@pytest.mark.parametrize("world", [2, 4])
def test_a_step_of_ddp_exchanges_the_gradients_and_nothing_of_ours(
    world: int, scaling: Any, small: Any, tmp_path: Path
) -> None:
    expected = scaling.cost(small, world, scaling.Division.DDP)
    once = scaling.BYTES * (world - 1) / world
    for sizes in run_processes(world, exchanged_sizes, tmp_path, "ddp"):
        assert expected.own == expected.own_more == expected.scores == expected.penalty == 0
        assert set(sizes) == {"allreduce_"}
        *gradients, compared = sizes["allreduce_"]
        assert 2 * once * sum(gradients) == pytest.approx(expected.gradients)
        assert len(gradients) == expected.shared == 1
        assert_compared(compared, world, expected)


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("bucket", [300, 524, 1100])
def test_ddp_makes_an_all_reduce_for_each_bucket_that_the_model_fills(
    bucket: int,
    world: int,
    scaling: Any,
    small: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name, size in {"BYTES": 8, "FIRST_BUCKET": bucket, "BUCKET": bucket}.items():
        monkeypatch.setattr(scaling, name, size)
    expected = scaling.cost(small, world, scaling.Division.DDP).shared
    for sizes in run_processes(world, gradient_exchanges, tmp_path, bucket):
        assert len(sizes) == expected


def test_one_process_without_a_wrapper_exchanges_nothing(scaling: Any, small: Any) -> None:
    with pytest.warns(RunWarning, match="ADA808"):  # begins with the step of an allocation
        assert exchanged_sizes(0, "single") == {}
    expected = scaling.cost(small, 1, scaling.Division.DDP)
    sent = (expected.gathers, expected.gradients, expected.scores, expected.penalty)
    assert (*sent, expected.comparison) == (0, 0, 0, 0, 0)


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

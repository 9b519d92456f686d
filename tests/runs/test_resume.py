"""Stop, save, load, go on: bit for bit the run that was never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from resumed_runs import (
    LIKE_IN_A_MODEL,
    NOT_SORTED,
    ONE_DTYPE,
    SCHEDULES,
    STEPS,
    TWO_DTYPES,
    WAYS,
    Shape,
    check_resuming,
    everything,
    from_pretrained,
    optimizer_of,
    train,
)

# One process speaks with nobody, and says so.
pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled"),
    pytest.mark.usefixtures("op_backend"),
]

EVERY_STEP = list(range(1, STEPS))
SOME_STEPS = [1, 8, 9, 10, 24, 47, 48, 49, 58]
"""Around the ends of the phases of `every step`."""
ORDERS = {"sorted": LIKE_IN_A_MODEL, "not sorted": NOT_SORTED}
DTYPES = {"one dtype": ONE_DTYPE, "two dtypes": TWO_DTYPES}
KINDS = ["whole", "pruned"]


def shape_of(kind: str, order: str, dtypes: str, schedule: str, folder: Path) -> Shape:
    shape = Shape(ORDERS[order], DTYPES[dtypes], SCHEDULES[schedule])
    if kind == "pruned":
        return shape.with_pruned(folder)
    return shape


@pytest.mark.parametrize("dtypes", DTYPES)
@pytest.mark.parametrize("way", WAYS)
def test_a_run_of_unsorted_modules_goes_on_as_it_was(way: str, dtypes: str, tmp_path: Path) -> None:
    shape = shape_of("whole", "not sorted", dtypes, "every step", tmp_path)
    check_resuming(shape, WAYS[way], tmp_path, [10, 48])


@pytest.mark.parametrize(
    ("kind", "schedule"), [("pruned", "every fifth step"), ("whole", "like LoRA")]
)
def test_another_beginning_goes_on_as_it_was(kind: str, schedule: str, tmp_path: Path) -> None:
    shape = shape_of(kind, "not sorted", "two dtypes", schedule, tmp_path / "pruned")
    check_resuming(shape, WAYS["save_pretrained"], tmp_path, [7, 21, 50])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_chosen_steps_in_every_way(way: str, kind: str, tmp_path: Path) -> None:
    shape = shape_of(kind, "not sorted", "two dtypes", "every step", tmp_path / "pruned")
    check_resuming(shape, WAYS[way], tmp_path, SOME_STEPS)


@pytest.mark.nightly
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_step_of_a_run(schedule: str, tmp_path: Path) -> None:
    shape = shape_of("whole", "not sorted", "two dtypes", schedule, tmp_path)
    check_resuming(shape, WAYS["save_pretrained"], tmp_path, EVERY_STEP)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtypes", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("way", WAYS)
def test_every_step_in_every_way(
    way: str, schedule: str, order: str, dtypes: str, kind: str, tmp_path: Path
) -> None:
    shape = shape_of(kind, order, dtypes, schedule, tmp_path / "pruned")
    check_resuming(shape, WAYS[way], tmp_path, EVERY_STEP)


class TestFaultsThatWereFound:
    """Each of these gave another run, or none, while entries went by a sorted order."""

    def stopped(self, shape: Shape, stop: int, folder: Path) -> Any:
        model = shape.model()
        train(model, optimizer_of(model), range(stop))
        model.save_pretrained(folder, save_training_state=True)
        return model

    def test_the_kept_sets_of_two_dtypes(self, tmp_path: Path) -> None:
        shape = Shape(NOT_SORTED, TWO_DTYPES)
        model = self.stopped(shape, 10, tmp_path)
        resumed = from_pretrained(shape, tmp_path)
        kept = []
        for each in (model, resumed):
            torch.manual_seed(4)  # the same entries are dropped
            train(each, optimizer_of(each), range(10, 30))
            kept.append(everything(each)["progress default"])
        assert kept[0] == kept[1]

    def test_the_ranks_of_a_pruned_adapter(self, tmp_path: Path) -> None:
        shape = Shape(NOT_SORTED).with_pruned(tmp_path / "pruned")
        model = self.stopped(shape, 10, tmp_path / "stopped")
        resumed = from_pretrained(shape, tmp_path / "stopped")
        ranks = []
        for each in (model, resumed):
            train(each, optimizer_of(each), range(10, 30))
            ranks.append(each.base_model.adapters["default"].allocator.rank_history())
        assert ranks[0] == ranks[1]

    def test_a_resumed_run_through_a_distributed_checkpoint(self, tmp_path: Path) -> None:
        shape = Shape(NOT_SORTED)
        self.stopped(shape, 10, tmp_path / "stopped")
        resumed = from_pretrained(shape, tmp_path / "stopped")
        save, load = WAYS["distributed"]
        save(resumed, tmp_path / "distributed")
        found = everything(load(shape, tmp_path / "distributed"))
        for name, each in everything(resumed).items():
            assert str(found[name]) == str(each), name

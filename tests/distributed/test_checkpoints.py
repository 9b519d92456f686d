"""A run saved by some processes goes on with any number of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from adalora_runs import make
from distributed_checks import (
    adapted_with_more,
    compact_and_shard,
    load_adapter_and_train,
    load_and_train,
    load_into_another_run,
    save_after_an_evaluation,
    train_and_save,
    train_and_save_adapter,
    train_masked,
)
from distributed_runs import STEPS, adapted, assert_same, attached, run, train
from process_groups import run_processes

from adalora_core.floor.errors import CheckpointError
from adalora_core.trainers.distributed import AdapterState

# One process speaks with nobody, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param(9, id="while-budgeting"),
        pytest.param(27, id="in-the-final-phase", marks=pytest.mark.nightly),
    ],
)
@pytest.mark.parametrize(
    ("saved", "resumed", "make"),
    [
        (("fsdp2", 2), ("fsdp2", 4), adapted),
        (("fsdp2", 2), ("single", 1), adapted),
        (("single", 1), ("fsdp2", 2), adapted),
        (("ddp", 2), ("hsdp", 4), adapted),
        pytest.param(("fsdp2", 2), ("ddp", 2), attached, marks=pytest.mark.slow),
        pytest.param(("fsdp2", 2), ("fsdp2", 1), attached, marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one(
    saved: tuple[str, int], resumed: tuple[str, int], make: Any, stop: int, tmp_path: Path
) -> None:
    expected = run(0, "single", {}, make)
    rest = (stop, tmp_path / "checkpoint", make)
    run_processes(saved[1], train_and_save, tmp_path / "save", saved[0], *rest)
    for found in run_processes(resumed[1], load_and_train, tmp_path / "load", resumed[0], *rest):
        assert_same(found, expected, stop)


@pytest.mark.parametrize("resumed", [("single", 1), ("ddp", 2), ("fsdp2", 4)], ids=str)
def test_whole_modules_and_biases_are_resumed_too(resumed: tuple[str, int], tmp_path: Path) -> None:
    folder, stop = tmp_path / "checkpoint", 9
    model = adapted_with_more()
    expected = train(model, model, range(STEPS))
    assert any("modules_to_save" in name for name in expected.parameters)
    assert any(name.endswith("base_layer.bias") for name in expected.parameters)
    run_processes(2, train_and_save, tmp_path / "save", "fsdp2", stop, folder, adapted_with_more)
    kind, world = resumed
    arguments = (kind, stop, folder, adapted_with_more)
    for found in run_processes(world, load_and_train, tmp_path / "load", *arguments):
        assert_same(found, expected, stop)


@pytest.mark.parametrize(
    ("make", "world"),
    [(adapted, 2), (adapted_with_more, 2), (attached, 2), (adapted, 4)],
    ids=["ours", "ours-and-more", "attached", "ours-in-four"],
)
def test_an_adapter_is_loaded_into_a_divided_model(make: Any, world: int, tmp_path: Path) -> None:
    model = make()
    expected = train(model, model, range(STEPS))
    folder, stop = tmp_path / "saved", 9
    run_processes(2, train_and_save_adapter, tmp_path / "save", stop, folder, make)
    arguments = (stop, folder, make)
    for found in run_processes(world, load_adapter_and_train, tmp_path / "load", *arguments):
        assert_same(found, expected, stop)


def test_a_divided_model_is_compacted_as_its_refusal_tells(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    stop = 27
    masked = run_processes(2, train_masked, tmp_path / "save", "fsdp2", stop, folder)
    cut = run_processes(2, compact_and_shard, tmp_path / "load", stop, folder)
    for found, expected in zip(cut, masked, strict=True):
        assert found.budgets == expected.budgets
        torch.testing.assert_close(found.losses, expected.losses, atol=1e-10, rtol=0)
        torch.testing.assert_close(found.outputs, expected.outputs, atol=1e-10, rtol=0)


def test_a_checkpoint_of_another_run_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    run_processes(2, train_and_save, tmp_path / "save", "fsdp2", 9, folder)
    (said,) = run_processes(1, load_into_another_run, tmp_path / "load", folder)
    assert "the configuration or the adapted modules" in said
    assert said.endswith("unchanged=True")


def test_factors_that_an_outer_module_holds_whole_are_not_saved(tmp_path: Path) -> None:
    for said, loaded in run_processes(2, save_after_an_evaluation, tmp_path, tmp_path / "saved"):
        assert "9 of 9 factors are gathered, the first one is first.0.lora_A" in said
        assert "call reshard() of the outermost FSDP module" in said
        assert len(loaded) == 9
        assert all(loaded)


def test_a_state_without_the_adapter_is_refused_by_name() -> None:
    state = AdapterState(make("adalora_core"))
    with pytest.raises(CheckpointError, match=r"adapters \['default'\], got one of \['other'\]"):
        state.load_state_dict({"other": state.state_dict()["default"]})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("step", "9", "step: expected null or a whole number"),
        ("history", [[1, "budgeting", -5, True, 0]], r"history\[0\]: step"),
        ("mask", {"first": [True]}, "mask: expected the modules"),
        ("more", 1, r"the fields \['more'\] are unknown"),
    ],
)
def test_an_edited_value_is_named_and_nothing_is_changed(
    name: str, content: Any, message: str
) -> None:
    model = make("adalora_core")
    state = AdapterState(model)
    edited = state.state_dict()
    values = json.loads(edited["default"]["progress"]) | {name: content}
    edited["default"]["progress"] = json.dumps(values)
    before = [each.clone() for each in model.parameters()]
    with pytest.raises(CheckpointError, match=message):
        state.load_state_dict(edited)
    assert all(map(torch.equal, model.parameters(), before))

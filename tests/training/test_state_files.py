"""The files of a training state: small, of two versions, and never of another run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from adalora_runs import make, optimizer_of, train
from safetensors.torch import load_file, save_file
from toy_models import TwoLayer

from adalora_core import AdaLoraModel
from adalora_core.errors import CheckpointError
from adalora_core.training.training_state import tensors as state_tensors

if TYPE_CHECKING:
    from pathlib import Path

SCHEDULE = {"tinit": 8, "tfinal": 12, "total_step": 40, "deltaT": 5}
AFTER_AN_ALLOCATION = 21
STOPS = {"warmup": 5, "budgeting": 21, "final": 33}
WEIGHTS, VALUES = "adalora_state.safetensors", "adalora_state.json"


def base() -> TwoLayer:
    torch.manual_seed(7)
    return TwoLayer()


def save_at(stop: int, folder: Path) -> Any:
    model = make("adalora_core", base(), **SCHEDULE)
    train(model, range(stop))
    model.save_pretrained(folder, save_training_state=True)
    return model


def written_as_version_1(model: Any, folder: Path) -> None:
    """Put the state of `model` into `folder` as version 1 had it."""
    adapter = model.base_model.adapters["default"]
    allocator = adapter.allocator
    factors = {
        f"{path}.{factor}": getattr(layer, factor)["default"].detach().clone()
        for path, layer in adapter.layers.items()
        for factor in ("lora_A", "lora_E", "lora_B")
    }
    tensors = factors | {"rank_history": allocator.ranks_over_time.rows().clone()}
    for kind in ("smoothed", "uncertainty"):
        averages = getattr(allocator.statistics, kind)
        tensors |= {
            f"{kind}.{name}": each.clone() for name, each in zip(factors, averages, strict=False)
        }
    if allocator.mask is not None:
        tensors["mask"] = allocator.mask
    save_file(tensors, folder / WEIGHTS)
    values = json.loads((folder / VALUES).read_text())
    del values["kept"]
    (folder / VALUES).write_text(json.dumps(values | {"version": 1}))


def everything(model: Any) -> list[torch.Tensor]:
    allocator = model.base_model.adapters["default"].allocator
    mask = [] if allocator.mask is None else [allocator.mask]
    statistics = allocator.statistics
    return [
        *(each.detach() for each in model.parameters()),
        *statistics.smoothed,
        *statistics.uncertainty,
        *mask,
    ]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS.keys())
def test_both_versions_are_read_bit_for_bit(stop: int, version: int, tmp_path: Path) -> None:
    model = save_at(stop, tmp_path)
    if version == 1:
        written_as_version_1(model, tmp_path)
    assert json.loads((tmp_path / VALUES).read_text())["version"] == version
    loaded = AdaLoraModel.from_pretrained(base(), tmp_path, is_trainable=True)
    expected, found = everything(model), everything(loaded)
    assert len(found) == len(expected)
    assert all(map(torch.equal, found, expected))


def test_what_the_adapter_file_holds_is_not_stored_again(tmp_path: Path) -> None:
    model = save_at(AFTER_AN_ALLOCATION, tmp_path)
    stored = sum(
        each.numel() for name, each in load_file(tmp_path / WEIGHTS).items() if "lora" in name
    )
    adapter = load_file(tmp_path / "adapter_model.safetensors")
    factors = model.base_model.adapters["default"].allocator.parameters()
    assert 0 < stored < sum(each.numel() for each in factors)
    assert stored + sum(each.numel() for each in adapter.values()) == sum(
        each.numel() for each in factors
    )


def test_the_adapter_of_another_moment_is_refused(tmp_path: Path) -> None:
    save_at(AFTER_AN_ALLOCATION, tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values()))[0, 0] += 1e-3
    save_file(tensors, path)
    model = base()
    with pytest.raises(CheckpointError, match="other values than when both were saved"):
        AdaLoraModel.from_pretrained(model, tmp_path, is_trainable=True)
    assert type(model.first) is torch.nn.Linear
    AdaLoraModel.from_pretrained(model, tmp_path)  # for inference it is an adapter as any other


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda tensors: tensors.pop("smoothed.float32.last"), "cannot be read"),
        (lambda tensors: tensors["uncertainty.float32.last"].zero_(), "cannot be read"),
        (lambda tensors: tensors.pop("dropped.first.lora_A"), "of different runs"),
        (lambda tensors: tensors.pop("rank_history"), "rank_history is missing"),
    ],
)
def test_a_damaged_state_is_refused(spoil: Any, message: str, tmp_path: Path) -> None:
    save_at(AFTER_AN_ALLOCATION, tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    spoil(tensors)
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match=message):
        AdaLoraModel.from_pretrained(base(), tmp_path, is_trainable=True)


def test_a_state_of_fewer_averages_is_refused(tmp_path: Path) -> None:
    save_at(AFTER_AN_ALLOCATION, tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    tensors["smoothed.float32.first"] = tensors["smoothed.float32.first"][:-1].clone()
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match="do not fit together"):
        AdaLoraModel.from_pretrained(base(), tmp_path, is_trainable=True)


def test_averages_of_every_value_come_back_bit_for_bit() -> None:
    model = make("adalora_core", base().double().to(torch.float64), **SCHEDULE)
    model.base_model.model.second.float()
    optimizer_of(model)
    allocator = model.base_model.adapters["default"].allocator
    parameters = allocator.parameters()
    assert {each.dtype for each in parameters} == {torch.float32, torch.float64}
    averages = [torch.randn_like(each).detach() for each in parameters]
    special = torch.tensor([0.0, -0.0, 1e-45, float("inf"), float("nan"), 3e38])
    averages[0].view(-1)[:6] = special
    averages[-1].view(-1)[:6] = special
    allocator.statistics.restore(averages, [each * 2 for each in averages])
    names = [str(index) for index in range(len(parameters))]
    factors = dict(zip(names, parameters, strict=True))
    packed = state_tensors.pack_averages(allocator)
    found = state_tensors.unpack_averages(packed, factors, names)
    for kind, factor in (("smoothed", 1), ("uncertainty", 2)):
        for mine, theirs in zip(found[kind], averages, strict=True):
            assert mine.dtype is theirs.dtype
            assert mine.numpy().tobytes() == (theirs * factor).numpy().tobytes()

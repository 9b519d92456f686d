"""The file of a training state: what is in there, and that nothing else is taken for it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from adalora_runs import LOADERS, make, optimizer_of, train
from edited_states import AFTER_AN_ALLOCATION, SCHEDULE, average, edit, save_at, tensor, value
from safetensors.torch import load_file, save_file
from saved_folders import state_in
from toy_models import two_layer

from adalora_core import AdaLoraModel
from adalora_core.floor.errors import CheckpointError
from adalora_core.training.training_state import contents as state_tensors
from adalora_core.training.training_state.state import read_state

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
CARD = "README.md"
FLIPS = 2000


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_at(AFTER_AN_ALLOCATION, tmp_path)
    return tmp_path


def resume(folder: Path) -> Any:
    return AdaLoraModel.from_pretrained(two_layer(), folder, is_trainable=True)


def refused(folder: Path, message: str) -> None:
    model = two_layer()
    with pytest.raises(CheckpointError, match=message):
        AdaLoraModel.from_pretrained(model, folder, is_trainable=True)
    assert type(model.first) is torch.nn.Linear
    AdaLoraModel.from_pretrained(model, folder)  # for inference it is an adapter as any other


class TestContent:
    def test_what_the_adapter_file_holds_is_not_stored_again(self, tmp_path: Path) -> None:
        model = save_at(AFTER_AN_ALLOCATION, tmp_path)
        dropped = [
            each.numel()
            for name, each in load_file(state_in(tmp_path)).items()
            if name.startswith("dropped.")
        ]
        kept = [each.numel() for each in load_file(tmp_path / WEIGHTS).values()]
        factors = [each.numel() for each in model.base_model.adapters["default"].factors()[0]]
        assert 0 < sum(dropped) < sum(factors)
        allocator = model.base_model.adapters["default"].allocator
        assert sum(dropped) + sum(kept) == sum(each.numel() for each in allocator.parameters())

    def test_a_finished_run_leaves_no_state(self, saved: Path) -> None:
        model = make("adalora_core", two_layer(), **SCHEDULE)
        train(model, range(SCHEDULE["total_step"]))
        model.save_pretrained(saved)
        assert {path.name for path in saved.iterdir()} == {CONFIG, WEIGHTS}

    def test_a_later_save_leaves_one_state(self, saved: Path) -> None:
        save_at(AFTER_AN_ALLOCATION + 1, saved)
        state = state_in(saved).name
        assert {path.name for path in saved.iterdir()} == {CONFIG, WEIGHTS, state}

    def test_equal_runs_write_equal_files(self, saved: Path, tmp_path: Path) -> None:
        save_at(AFTER_AN_ALLOCATION, tmp_path / "again")
        assert state_in(tmp_path / "again").read_bytes() == state_in(saved).read_bytes()

    def test_inference_does_not_read_it(self, saved: Path) -> None:
        state_in(saved).write_text("broken")
        AdaLoraModel.from_pretrained(two_layer(), saved)

    def test_a_run_without_a_step_is_resumed_too(self, tmp_path: Path) -> None:
        model = make("adalora_core", two_layer(), **SCHEDULE)
        model.save_pretrained(tmp_path, save_training_state=True)
        assert resume(tmp_path).base_model.adapters["default"].allocator.last_step is None

    def test_averages_of_every_value_come_back_bit_for_bit(self) -> None:
        model = make("adalora_core", two_layer().double(), **SCHEDULE)
        model.base_model.model.second.float()
        optimizer_of(model)
        allocator = model.base_model.adapters["default"].allocator
        parameters = allocator.parameters()
        assert {each.dtype for each in parameters} == {torch.float32, torch.float64}
        averages = [torch.rand_like(each).detach() for each in parameters]
        for each in (averages[0], averages[-1]):
            each.view(-1)[:4] = torch.tensor([0.0, -0.0, 1e-45, 1e38])
        allocator.statistics.restore(averages, [each * 2 for each in averages])
        names = state_tensors.factor_names(["first", "second"])
        packed = state_tensors.averages_of(allocator)
        factors = dict(zip(names, parameters, strict=True))
        found = state_tensors.take_averages(packed, factors)
        assert packed == {}
        for kind, factor in (("smoothed", 1), ("uncertainty", 2)):
            for name, theirs in zip(names, averages, strict=True):
                mine = found[kind][name]
                assert mine.dtype is theirs.dtype
                assert mine.numpy().tobytes() == (theirs * factor).numpy().tobytes()


class TestDamage:
    @pytest.mark.slow
    @pytest.mark.parametrize("where", ["header", "tensors"])
    def test_every_flipped_bit_is_noticed(self, where: str, saved: Path) -> None:
        path = state_in(saved)
        whole = path.read_bytes()
        header = 8 + int.from_bytes(whole[:8], "little")
        places = range(header) if where == "header" else range(header, len(whole))
        draw = random.Random(0)  # noqa: S311 - reproducible, not secret
        for _ in range(FLIPS):
            place, bit = draw.choice(places), draw.randrange(8)
            path.write_bytes(
                whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :]
            )
            with pytest.raises(CheckpointError):
                read_state(saved)

    def test_every_bit_of_the_digest_counts(self, saved: Path) -> None:
        path = state_in(saved)
        whole = bytearray(path.read_bytes())
        start = whole.index(b"digest")
        for place in range(start, start + 80):
            for bit in range(8):
                whole[place] ^= 1 << bit
                path.write_bytes(whole)
                with pytest.raises(CheckpointError):
                    read_state(saved)
                whole[place] ^= 1 << bit

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda data: data[:-100], "another digest"),
            (lambda data: data + b"\0", "another digest"),
            (lambda data: data[: len(data) // 3], "names no digest|another digest"),
            (lambda _: b"", "names no digest"),
            (lambda _: b"broken", "names no digest"),
        ],
    )
    def test_a_damaged_state_is_refused(self, change: Any, message: str, saved: Path) -> None:
        path = state_in(saved)
        path.write_bytes(change(path.read_bytes()))
        refused(saved, message)


class TestOtherRuns:
    def test_the_adapter_of_another_moment_is_refused(self, saved: Path) -> None:
        path = saved / WEIGHTS
        tensors = load_file(path)
        next(iter(tensors.values()))[0, 0] += 1e-3
        save_file(tensors, path)
        refused(saved, "completes other weights than the ones beside it")

    def test_the_state_of_another_step_is_refused(
        self, library: str, saved: Path, tmp_path: Path
    ) -> None:
        save_at(AFTER_AN_ALLOCATION + 2, tmp_path / "later")
        other = state_in(tmp_path / "later")
        for name in (other.name, state_in(saved).name):
            folder = tmp_path / f"as {name}"
            folder.mkdir()
            for part in (CONFIG, WEIGHTS):
                (folder / part).write_bytes((saved / part).read_bytes())
            (folder / name).write_bytes(other.read_bytes())
            with pytest.raises(CheckpointError, match=r"other weights|weights: expected"):
                LOADERS[library].from_pretrained(two_layer(), folder, is_trainable=True)

    def test_a_changed_schedule_is_refused(self, saved: Path) -> None:
        path = saved / CONFIG
        path.write_text(json.dumps({**json.loads(path.read_text()), "total_step": 80}))
        refused(saved, "the configuration is not the one of the saved run")

    def test_a_changed_pattern_is_refused(self, saved: Path) -> None:
        path = saved / CONFIG
        values = json.loads(path.read_text())
        flags = next(each for each in values["rank_pattern"].values() if not all(each))
        flags.reverse()
        path.write_text(json.dumps(values))
        refused(saved, "rank_pattern of adapter_config.json")

    def test_the_state_is_enough_without_a_configuration(self, saved: Path) -> None:
        (saved / CONFIG).unlink()
        assert resume(saved).base_model.adapters["default"].allocator.last_step == 20
        with pytest.raises(CheckpointError, match=r"holds no adapter_config\.json"):
            AdaLoraModel.from_pretrained(two_layer(), saved)


def _swap(values: dict[str, Any], _: Any) -> None:
    history = values["history"]
    history[0], history[1] = history[1], history[0]


def _move(_: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors["mask.third"] = tensors.pop("mask.first")


EDITS = {
    "version of before": (value("version", to=3), "version: expected 4, got 3"),
    "version as text": (value("version", to="4"), "version: expected 4, got '4'"),
    "weights of others": (value("weights", to="0" * 64), "weights: expected the digest"),
    "config as text": (value("config", to="{}"), "config: expected a mapping"),
    "pattern of another save": (value("config", "rank_pattern", to=None), "rank_pattern of"),
    "run of others": (value("run", to="0" * 64), "configuration is not the one of the saved run"),
    "step as text": (value("step", to="20"), "step: expected null or a whole number"),
    "step below zero": (value("step", to=-1), "step: expected null or a whole number"),
    "step before the last allocation": (value("step", to=19), r"history\[2\]: step"),
    "step of the final phase": (value("step", to=28), "step: expected 27 at most"),
    "no step": (value("step", to=None), r"history\[0\]: step"),
    "target as a number": (value("target_reached", to=1), "target_reached: expected true"),
    "skipped as text": (value("skipped_entries", to="0"), "skipped_entries: expected"),
    "positions as a list": (value("positions", to=[]), "positions: expected a mapping"),
    "positions of one module": (value("positions", to={"first": [0]}), "positions: expected the"),
    "position twice": (value("positions", "first", 3, to=2), "positions of first"),
    "positions out of order": (value("positions", "first", 0, to=5), "positions of first"),
    "position of no triplet": (value("positions", "first", 11, to=12), "positions of first"),
    "positions missing": (value("positions", "second", to=[0, 1]), "mask of second.*2 positions"),
    "history as a mapping": (value("history", to={}), "history: expected a list"),
    "history without a field": (value("history", 0, to=[10]), r"history\[0\]: expected"),
    "history going back": (_swap, r"history\[1\]: step"),
    "history after the step": (value("history", 2, 0, to=30), r"history\[2\]: step"),
    "history of an unknown phase": (value("history", 0, 1, to="cooling"), r"history\[0\]: phase"),
    "history of phases going back": (value("history", 0, 1, to="final"), r"history\[1\]: phase"),
    "budget below zero": (value("history", 1, 2, to=-1), r"history\[1\]: budget"),
    "budget above all": (value("history", 1, 2, to=1000), r"history\[1\]: budget"),
    "budget below the ranks": (value("history", 1, 2, to=0), r"ranks\[1\]: expected"),
    "allocated as text": (value("history", 1, 3, to="yes"), r"history\[1\]: allocated"),
    "skipped in the history": (value("history", 1, 4, to=-1), r"history\[1\]: skipped"),
    "unknown value": (value("more", to=1), r"the fields \['more'\] are unknown"),
    "missing value": (lambda values, _: values.pop("step"), r"the fields \['step'\] are missing"),
    "average below zero": (average("smoothed.first.lora_A", -1e-9), r"smoothed\.first\.lora_A"),
    "average not a number": (average("smoothed.first.lora_E", float("nan")), "finite numbers"),
    "average cut short": (
        tensor("uncertainty.first.lora_A", lambda each: each[:-20]),
        r"uncertainty\.first\.lora_A",
    ),
    "average of another dtype": (
        tensor("smoothed.first.lora_A", torch.Tensor.double),
        r"smoothed\.first\.lora_A: expected a tensor",
    ),
    "average missing": (
        lambda _, tensors: tensors.pop("smoothed.first.lora_E"),
        r"smoothed\.first\.lora_E: there is no such tensor",
    ),
    "no averages": (
        lambda _, tensors: [
            tensors.pop(name) for name in list(tensors) if name.startswith(("smoo", "unce"))
        ],
        "averages: expected some",
    ),
    "mask of another length": (tensor("mask.first", lambda each: each[:-1]), "mask of first"),
    "mask of another set": (tensor("mask.first", torch.ones_like), "ranks of first"),
    "mask of no module": (_move, "mask: expected the modules"),
    "ranks of another length": (tensor("ranks.first", lambda each: each[:-1]), "ranks of first"),
    "ranks below zero": (tensor("ranks.first", torch.neg), "ranks of first"),
    "ranks above all": (tensor("ranks.second", lambda each: each + 50), "ranks of second"),
    "ranks missing": (lambda _, tensors: tensors.pop("ranks.first"), "ranks: expected the modules"),
    "dropped triplets missing": (
        lambda _, tensors: tensors.pop("dropped.first.lora_A"),
        r"dropped\.first\.lora_A: there is no such tensor",
    ),
    "dropped triplets of another dtype": (
        tensor("dropped.first.lora_A", torch.Tensor.double),
        r"dropped\.first\.lora_A: expected a tensor",
    ),
    "dropped triplets of another shape": (
        tensor("dropped.first.lora_B", lambda each: each.T.contiguous()),
        r"dropped\.first\.lora_B: expected a tensor",
    ),
    "another tensor": (
        lambda _, tensors: tensors.update(more=torch.zeros(1)),
        r"the tensors: expected no others, got \['more'\]",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_value_edited_by_hand_is_named(name: str, saved: Path) -> None:
    change, message = EDITS[name]
    edit(saved, change)
    refused(saved, message)


def test_what_is_not_edited_passes(saved: Path) -> None:
    edit(saved, lambda *_: None)
    assert resume(saved).base_model.adapters["default"].allocator.last_step == 20
    assert len(EDITS) >= 40

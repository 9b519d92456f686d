"""A refused adapter leaves the model as it was, with one clear sentence."""

from __future__ import annotations

import re
import shutil
from functools import partial

import malformed_adapters as bad
import pytest
import torch
from adalora_runs import make, train
from edited_states import AFTER_AN_ALLOCATION, SCHEDULE, edit, save_at, value
from header_files import write_header
from malformed_adapters import PREFIX, WEIGHTS, described, one, plus, without
from saved_folders import state_in
from toy_models import two_layer

from adalora_core import AdaLoraModel
from adalora_core.commands.cli import main
from adalora_core.floor.errors import CheckpointError
from adalora_core.training.adapter_file.folder import read_tensors

EVIL = "\x1b[2J\x07\u202e\r\n::error::##[set-output]<img src=x>"
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]|^\\s*::error", re.MULTILINE)
A, E, B = (f"first.lora_{factor}" for factor in "AEB")


def quantised(tensor):
    return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


def nested(tensor):
    return torch.nested.nested_tensor([tensor[0], tensor[0]])


NOT_DENSE = "lora_.' is not a dense tensor"
NESTED = f"{NOT_DENSE}|cannot be read as weights"  # from torch 2.15 on torch refuses it
FACTORS = {
    **{
        str(dtype): (one(A, lambda each, dtype=dtype: each.to(dtype)), f"lora_A is of {dtype}, not")
        for dtype in (torch.int8, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn)
    },
    "nan": (one(E, lambda each: each.fill_(torch.nan)), "lora_E has entries that are not finite"),
    "infinite": (one(B, lambda each: each.fill_(torch.inf)), "lora_B has entries that are not fin"),
    "no A": (without("first.lora_A"), "base_model.model.first.lora_A is missing"),
    "no E": (without("first.lora_E"), "base_model.model.first.lora_E is missing"),
    "no B": (without("first.lora_B"), "base_model.model.first.lora_B is missing"),
    "only E": (plus(**{f"{PREFIX}head.lora_E": torch.ones(2, 1)}), "head.lora_A is missing"),
    "cut A": (one(A, lambda each: each[1:].clone()), "ranks disagree"),
    "cut B": (one(B, lambda each: each[:, 1:].clone()), "ranks disagree"),
    "flat E": (one(E, lambda each: each.flatten()), "lora_E has shape .*, not 2 dimensions"),
    "scalar E": (one(E, lambda each: each.sum()), "lora_E has shape .*, not 2 dimensions"),
    "evil names": (plus(**{f"{PREFIX}{EVIL}.lora_A": torch.ones(2, 2)}), "is missing"),
    "no prefix": (
        bad.weights(lambda each: {k.removeprefix(PREFIX): v for k, v in each.items()}),
        "unexpected tensor .*start with 'base_model.model.'",
    ),
    "cut short": (
        lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100]),
        "is not a whole safetensors file",
    ),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "holds neither adapter_model"),
    "meta": (one(A, lambda each: each.to("meta"), binary=True), NOT_DENSE),
    "quantised": (one(A, quantised, binary=True), NOT_DENSE),
    "sparse": (one(A, lambda each: each.to_sparse(), binary=True), NOT_DENSE),
    "compressed": (one(A, lambda each: each.to_sparse_csr(), binary=True), NOT_DENSE),
    "nested": (one(A, nested, binary=True), NESTED),
    "a negative shape": (one(A, bad.of_a_negative_shape, binary=True), NOT_DENSE),
    "a terabyte": (bad.weights(bad.expanded, binary=True), "share their memory"),
    "an old pickle": (bad.legacy, "expected a zip archive, as torch.save writes since release 1.6"),
    "a number as name": (bad.weights(lambda each: each | {1: B}, binary=True), "no {name: tensor}"),
    "bytes as name": (
        bad.weights(lambda each: each | {b"a": torch.ones(1)}, binary=True),
        "no {name: tensor}",
    ),
    "another key": (
        bad.config(rank_pattern={"..": [True] * 12}, inference_mode=False),
        "module '': rank_pattern names it",
    ),
    "largest init_r": (
        bad.config(init_r=2_000_000_000, rank_pattern=None),
        "init_r 2000000000 in .* is above the",
    ),
    "dimensions": (bad.many_dimensions, "has 100002 dimensions, more than the limit of 8"),
    "evil header": (
        lambda folder: write_header(folder / WEIGHTS, {EVIL: {"dtype": EVIL, "shape": [1]}}),
        "is not a whole safetensors file",
    ),
    "strides beyond 64 bits": (bad.empty([0, (1 << 63) - 1, 4]), "is not a whole safetensors file"),
    "size beyond 63 bits": (bad.empty([0, (1 << 64) - 1]), "is not a whole safetensors file"),
    "no tensors": (
        lambda folder: write_header(folder / WEIGHTS, {}),
        "holds no factors of any module",
    ),
    "no factors": (
        bad.weights(lambda _: {f"{PREFIX}head.weight": torch.ones(3, 16)}),
        "holds no factors of any module",
    ),
    "views of one memory": (bad.weights(bad.views, binary=True), "share their memory"),
    "evil key": (plus(binary=True, **{EVIL: torch.ones(1)}), "unexpected tensor"),
}
"""Spoilt adapters, and what loading and `export-lora` report."""

OTHERS = {
    "head of whole numbers": (
        {"modules_to_save": ["head"]},
        one("head.weight", lambda each: each.long()),
        "weight is of torch.int64, the model has torch.float32",
    ),
    "sparse head": (
        {"modules_to_save": ["head"]},
        one("head.weight", lambda each: each.to_sparse(), binary=True),
        "is not a dense tensor",
    ),
    "complex bias": (
        {"bias": "all"},
        one("first.base_layer.bias", lambda each: each.to(torch.complex64)),
        "bias is of torch.complex64",
    ),
    "bias that would be spread": (
        {"bias": "all"},
        one("second.base_layer.bias", lambda each: each[:1].clone()),
        r"bias has shape \[1\], the model has \[16\]",
    ),
    "bias of a head": (
        {"bias": "all", "modules_to_save": ["head"]},
        one("head.original_module.bias", lambda each: each[:1].clone()),
        r"bias has shape \[1\], the model has \[3\]",
    ),
    "pattern of other ranks": (
        {},
        bad.config(rank_pattern={f"{path}.lora_E": [True] * 12 for path in ("first", "second")}),
        "rank_pattern keeps 12 triplets, the tensors hold",
    ),
    "no module": ({}, bad.config(rank_pattern=None, target_modules=["head"]), "head"),
    "another width": ({}, one(A, lambda each: torch.zeros(len(each), 99)), "99 -> 16"),
    "more than is named": (
        {},
        plus(**{f"{PREFIX}head.weight": torch.zeros(3, 16)}),
        "'head.weight' .* configuration does not name",
    ),
    "layer in an adapted layer": ({}, bad.nested_layer, "the model has no such module"),
}
"""Settings of a run, changes of its adapter, and what loading reports."""

STATES = {
    "deep": ('"x":' + "[" * 100_000, "recursion"),
    "not JSON": ('"x":', "it is not a training state"),
    "long number": ('"x":' + "9" * 5000 + "}", "it is not a training state"),
}
"""Ends of the text in the metadata of a state."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Make a function that copies an adapter of a finished run with some settings."""
    made = {}

    def copy(folder, **settings):
        key = repr(settings)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("saved")
            model = make("adalora_core", two_layer(), **SCHEDULE | settings)
            train(model, range(SCHEDULE["total_step"]))
            model.save_pretrained(made[key])
        shutil.copytree(made[key], folder)
        return folder

    return copy


def attempts(folder, **settings):
    """Yield models, and calls that load `folder` into each."""
    for learns in (False, True):
        model = two_layer().train()
        yield model, partial(AdaLoraModel.from_pretrained, model, folder, is_trainable=learns)
    adapted = make("adalora_core", two_layer(), **SCHEDULE | settings)
    train(adapted, range(2))
    yield adapted, partial(AdaLoraModel.from_pretrained, adapted, folder)


def assert_refused(folder, message, *, only_trained=False, **settings):
    """Every way of loading `folder` is refused in one clear sentence and changes nothing."""
    for place, (model, load) in enumerate(attempts(folder, **settings)):
        if only_trained and not place:  # which does not read the state
            continue
        before = described(model)
        with pytest.raises(CheckpointError, match=message) as refusal:
            load()
        assert not RAW.search(str(refusal.value)), ascii(str(refusal.value))
        assert "\n" not in str(refusal.value)
        assert described(model) == before


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, about unusual tensors
@pytest.mark.parametrize("name", FACTORS)
def test_malformed_factors_are_refused(name, saved, tmp_path, capsys):
    spoil, message = FACTORS[name]
    folder = saved(tmp_path / "adapter")
    spoil(folder)
    assert_refused(folder, message)
    assert main(["export-lora", str(folder), str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    assert re.search(message, shown)
    assert shown.count("\n") == 1
    assert not RAW.search(shown)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", OTHERS)
def test_other_malformed_tensors_are_refused(name, saved, tmp_path):
    settings, spoil, message = OTHERS[name]
    folder = saved(tmp_path / "adapter", **settings)
    spoil(folder)
    assert_refused(folder, message, **settings)


def test_pickles_and_biases_that_are_sound_still_load(saved, tmp_path):
    settings = {"bias": "all", "modules_to_save": ["head"]}
    folder = saved(tmp_path / "adapter", **settings)
    bad.weights(binary=True)(folder)
    for _, load in attempts(folder, **settings):
        load()


def test_archive_with_a_name_twice_is_read_as_torch_reads_it(saved, tmp_path):
    folder = saved(tmp_path / "adapter")
    other = saved(tmp_path / "other")
    bad.weights(binary=True)(folder)
    bad.weights(lambda tensors: {k: 0 * v for k, v in tensors.items()}, binary=True)(other)
    bad.with_parts_of(folder / bad.BINARY, other / bad.BINARY)
    wanted = torch.load(folder / bad.BINARY, weights_only=True)
    found = read_tensors(folder)
    assert list(found) == list(wanted)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("name", STATES)
def test_states_of_other_json_are_refused(name, tmp_path):
    end, message = STATES[name]
    save_at(AFTER_AN_ALLOCATION, tmp_path)
    bad.write_state(state_in(tmp_path), end)
    assert_refused(tmp_path, message, only_trained=True)


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_dropped_triplets_that_are_not_finite_are_refused(number, tmp_path):
    def spoil(_, tensors):
        next(each for name, each in tensors.items() if name.startswith("dropped."))[0] = number

    save_at(AFTER_AN_ALLOCATION, tmp_path)
    edit(tmp_path, spoil)
    assert_refused(tmp_path, "dropped.*lora_.* finite numbers", only_trained=True)


def test_states_with_a_shape_beyond_64_bits_are_refused(tmp_path):
    save_at(AFTER_AN_ALLOCATION, tmp_path)
    bad.empty_in_state(state_in(tmp_path), [0, (1 << 63) - 1, 4])
    assert_refused(tmp_path, "it is not a training state", only_trained=True)


@pytest.mark.parametrize(
    "change",
    [
        value(EVIL, to=1),
        value("history", to=[[10, EVIL, 1, True, 0]]),
        value("positions", to={EVIL: [0]}),
        value("step", to=10**30),
        value("config", to={EVIL: EVIL}),
        lambda _, tensors: tensors.update({EVIL: torch.ones(1)}),
        lambda _, tensors: tensors.update({f"mask.{EVIL}": torch.ones(1)}),
    ],
)
def test_names_in_a_state_are_escaped(change, tmp_path):
    save_at(AFTER_AN_ALLOCATION, tmp_path)
    edit(tmp_path, change)
    assert_refused(tmp_path, "training state", only_trained=True)


BRIDGED = {
    "another layer": (one(A, lambda each: each[:, 1:].clone()), "does not fit the model"),
    "another head": (one("head.weight", lambda each: each[:1].clone()), "does not fit the model"),
    "no rank pattern": (bad.config(rank_pattern=None), "does not fit the model"),
    "not finite": (one(B, lambda each: each.fill_(torch.nan)), "lora_B has entries that are not"),
    "nested": (one(B, nested, binary=True), NESTED),
    "cut": (one(B, lambda each: each[:, 1:].clone()), "ranks disagree"),
}
"""Spoilt adapters, and what a bridged model reports."""


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", BRIDGED)
def test_a_bridged_adapter_is_as_before_a_refused_load(name, saved, tmp_path):
    spoil, message = BRIDGED[name]
    folder = saved(tmp_path / "adapter", modules_to_save=["head"])
    spoil(folder)
    model = make("attached", two_layer(), **SCHEDULE | {"modules_to_save": ["head"]})
    train(model, range(12))
    config, adapter = model.peft_config["default"], model.base_model.trained_adapters()[0]
    before = [*described(model), config.to_dict(), adapter.positions]
    with pytest.raises(CheckpointError, match=message) as refusal:
        model.load_adapter(folder, "default", is_trainable=True)
    assert "\n" not in str(refusal.value)
    assert [*described(model), model.peft_config["default"].to_dict(), adapter.positions] == before
    assert model.base_model.trained_adapters() == [adapter]
    train(model, range(12, 15))

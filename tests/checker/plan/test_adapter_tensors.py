"""Adapters of PEFT are found right; each fault is found, and shown in what PEFT does with it."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import peft
import pytest
import torch
from lora_adapters import CASES, Blocks, Case, Pictures, _bert, _gpt2, _llama, base_of, save
from safetensors.torch import load_file, save_file
from torch import nn

from adalora_core.checker.plan.adapter_tensors import WEIGHTS, SavedLora, TensorFault
from adalora_core.checker.plan.modules import RefusedError
from adalora_core.commands.injection.base_model import class_of_saved, read_base
from adalora_core.commands.injection.injecting import inject
from adalora_core.config.fields.block import Block

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "base_model.model."


def _attention() -> nn.Module:
    return nn.Sequential(nn.MultiheadAttention(16, 2))


def _groups() -> nn.Module:
    return nn.Sequential(nn.Conv2d(8, 8, 3, groups=2))


MORE = {
    "DoRA": Case(_llama(), {"r": 4, "use_dora": True, "target_modules": "all-linear"}),
    "DoRA, embedding": Case(Blocks, {"r": 4, "use_dora": True, "target_modules": ["emb", "q"]}),
    "DoRA, convolutions": Case(
        Pictures, {"r": 4, "use_dora": True, "target_modules": ["stem", "line", "out"]}
    ),
    "biases of B": Case(_llama(), {"r": 4, "lora_bias": True, "target_modules": ["q_proj"]}),
    "attention of torch": Case(_attention, {"r": 4, "target_modules": ["0"]}),
    "groups": Case(_groups, {"r": 8, "target_modules": ["0"]}),
    "saved whole": Case(
        _llama(), {"r": 4, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}
    ),
    "head of a task": Case(_bert, {"r": 4, "target_modules": "all-linear", "task_type": "SEQ_CLS"}),
    "default targets": Case(_gpt2, {"r": 4, "fan_in_fan_out": True}),
    "an entry without a module": Case(_llama(), {"r": 4, "target_modules": ["q_proj", "query"]}),
    "names of the adapter": Case(_llama(), {"r": 4, "target_modules": ["q_proj"]}),
    "parameters": Case(_llama(), {"r": 4, "target_parameters": ["mlp.up_proj.weight"]}),
}
RIGHT = {n: each for n, each in CASES.items() if each.kind is peft.LoraConfig} | MORE


def faults(folder: Path, base: Path | None = None) -> list[TensorFault]:
    values = json.loads((folder / "adapter_config.json").read_text())
    expected = None
    if base is not None:
        with contextlib.suppress(RefusedError):  # the plan ends there
            model = read_base(base, class_of_saved(values))
            expected = model.sizes_of(inject(Block(values), model).file)
    return SavedLora(folder, values).faults(expected)


def saved_base(case: Case, folder: Path) -> Path:
    model = base_of(case)
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(folder)
    else:
        folder.mkdir()
        save_file(model.state_dict(), folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("name", RIGHT)
def test_what_peft_wrote_is_right(name: str, tmp_path: Path) -> None:
    save(RIGHT[name], tmp_path / "adapter")
    if name == "names of the adapter":
        change = _renamed("_B.weight", "_B.default.weight")
        spoil(tmp_path / "adapter", change, {}, torch.float32)
        assert loaded(RIGHT[name], tmp_path / "adapter") == "silent"
    assert faults(tmp_path / "adapter") == []
    assert faults(tmp_path / "adapter", saved_base(RIGHT[name], tmp_path / "base")) == []


LLAMA = Case(_llama(), {"r": 8, "target_modules": ["q_proj", "v_proj", "embed_tokens"]})
Q = f"{PREFIX}model.layers.0.self_attn.q_proj"
B, A = f"{Q}.lora_B.weight", f"{Q}.lora_A.weight"
HEAD = f"{PREFIX}lm_head.weight"
Change = Callable[[dict[str, torch.Tensor]], object]


def _renamed(old: str, new: str) -> Change:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in [each for each in tensors if old in each]:
            tensors[name.replace(old, new)] = tensors.pop(name)

    return change


def _like_kohya(tensors: dict[str, torch.Tensor]) -> None:
    for old, new in ((PREFIX, "lora_unet_"), ("lora_A", "lora_down"), ("lora_B", "lora_up")):
        _renamed(old, new)(tensors)


def _filled(value: float, *names: str) -> Change:
    return lambda tensors: [
        each.fill_(value) for name, each in tensors.items() if name.endswith(names)
    ]


def _without(part: str) -> Change:
    return lambda tensors: [tensors.pop(name) for name in [*tensors] if part in name]


def _set(name: str, shape: tuple[int, ...], value: float = 1) -> Change:
    return lambda tensors: tensors.update({name: torch.full(shape, value)})


FRESH = ("lora_B.weight", "lora_embedding_A")
FAULTS: dict[str, tuple[Change, dict[str, Any], bool, str, str, str]] = {
    # What is done to tensors and to settings, whether the base is needed, kind, message, PEFT.
    "half a pair": (_without(B), {}, False, "missing", f"the tensor {B!r} is missing", "warns"),
    "no magnitude": (_without("none"), {"use_dora": True}, False, "missing",
                     "embed_tokens.lora_magnitude_vector' is missing (and 6 more)", "warns"),
    "a layer": (_without("layers.1.self_attn.q"), {}, True, "missing",
                "the tensors of 'model.layers.1.self_attn.q_proj', a target, are missing", "warns"),
    "a kind": (_without("v_proj"), {}, True, "missing",
               "'model.layers.0.self_attn.v_proj', a target, are missing (and 2 more)", "warns"),
    "not a target": (_without("none"), {"target_modules": ["q_proj", "embed_tokens"]}, False,
                     "left-over", "'model.layers.0.self_attn.v_proj' fit no module", "silent"),
    "excluded": (_without("none"), {"exclude_modules": r".*\.0\..*q_proj"}, False,
                 "left-over", "'model.layers.0.self_attn.q_proj' fit no module", "silent"),
    "no prefix": (_renamed(PREFIX + "model.layers.0", "model.layers.0"), {}, False, "left-over",
                  "PEFT's names begin with base_model.model. (and 3 more)", "warns"),
    "a name of an adapter": (_renamed("q_proj.lora_B.weight", "q_proj.lora_B.mine.weight"), {},
                             False, "left-over", "no factor of LoRA has such a name", "warns"),
    "a magnitude": (_set(f"{Q}.lora_magnitude_vector", (48,)), {}, False, "left-over",
                    "use_dora is not set", "silent"),
    "a bias of B": (_set(f"{Q}.lora_B.bias", (48,)), {}, False, "left-over",
                    "lora_bias is not set", "silent"),
    "a layer more": (_renamed("layers.2.", "layers.3."), {}, True, "left-over",
                     "the base model has no such layer (and 1 more)", "warns"),
    "another rank": (_without("none"), {"r": 4}, False, "shape",
                     "has tensors of rank 8, and the configuration gives rank 4", "refuses"),
    "a rank of a pattern": (_without("none"), {"rank_pattern": {"layers.0.*": 4}}, False, "shape",
                            "'model.layers.0.self_attn.q_proj' has tensors of rank 8", "refuses"),
    "no rank": (_without("none"), {"r": 0}, False, "shape", "gets the rank 0 from", "refuses"),
    "unequal ranks": (_set(A, (4, 48)), {}, False, "shape", "factors of ranks 4 and 8", "refuses"),
    "a row": (_set(A, (48,)), {}, False, "shape", "of shape [48], which is no matrix", "refuses"),
    "a number": (_set(B, ()), {}, False, "shape", "of shape [], which is no matrix", "refuses"),
    "inputs": (_set(A, (8, 32)), {}, True, "shape", "and the base model needs [8, 48]", "refuses"),
    "outputs": (_set(B, (32, 8)), {}, True, "shape", "and the base model needs [48, 8]", "refuses"),
    "a head": (_without("none"), {"modules_to_save": ["lm_head"]}, False, "unsaved",
               "holds no tensor of modules_to_save ['lm_head']", "refuses"),
    "a head of a task": (_without("none"), {"modules_to_save": ["norm", "head"]}, False, "unsaved",
                         "modules_to_save ['norm', 'head']", "refuses"),
    "no tensors": (dict.clear, {}, False, "missing", "no factors of any module", "warns"),
    "a text as rank": (_without("none"), {"r": "8"}, False, "shape", "gets no r from", "refuses"),
    "a fraction as rank": (_without("none"), {"r": 8.0}, False, "shape", "the rank 8.0", "refuses"),
    "a text as alpha": (_without("none"), {"lora_alpha": "8"}, False, "shape",
                        "gets no lora_alpha from the configuration, or one that is", "refuses"),
    "a text in a pattern": (_without("none"), {"alpha_pattern": {"q_proj": "8"}}, False, "shape",
                            "'model.layers.0.self_attn.q_proj' gets no lora_alpha", "refuses"),
    "no alpha": (_without("none"), {"lora_alpha": 0}, False, "zero",
                 "changes nothing: the scale is zero, in each of its 7 modules", "silent"),
    "kohya's names": (_like_kohya, {}, False, "left-over", "these are of kohya's format", "warns"),
    "diffusers' names": (_renamed(PREFIX, "unet."), {}, False, "left-over",
                         "these are of diffusers' format (and", "warns"),
    "fresh": (_filled(0.0, *FRESH), {}, False, "zero",
              "changes nothing: a factor or the scale is zero, in each of its 7 modules", "silent"),
    "minus zero": (_filled(-0.0, *FRESH), {}, False, "zero", "the adapter changes", "silent"),
    "one fresh": (_filled(0.0, B), {}, False, "zero",
                  "'model.layers.0.self_attn.q_proj' changes nothing: lora_B.weight is", "silent"),
    "NaN": (_filled(torch.nan, A), {}, False, "not-finite", f"the tensor {A!r} holds", "silent"),
    "NaN in a head": (_set(HEAD, (64, 48), torch.nan), {"modules_to_save": ["lm_head"]}, False,
                      "not-finite", f"the tensor {HEAD!r} holds", "silent"),
    "infinite": (_filled(-torch.inf, B), {}, False, "not-finite", f"the tensor {B!r}", "silent"),
}  # fmt: skip


def spoil(folder: Path, change: Change, settings: dict[str, Any], dtype: torch.dtype) -> None:
    tensors = {name: each.to(dtype) for name, each in load_file(folder / WEIGHTS).items()}
    change(tensors)
    save_file({name: each.contiguous() for name, each in tensors.items()}, folder / WEIGHTS)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | settings))


def loaded(case: Case, folder: Path) -> str:
    """Return what PEFT does when it loads an adapter."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            peft.PeftModel.from_pretrained(base_of(case), folder)
        except (RuntimeError, ValueError, TypeError, KeyError):
            return "refuses"
    said = [str(each.message) for each in caught]
    return "warns" if any("missing adapter keys" in each for each in said) else "silent"


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_what_peft_does_is_true(name: str, tmp_path: Path) -> None:
    change, settings, needs_base, kind, message, peft_does = FAULTS[name]
    folder = tmp_path / "adapter"
    save(LLAMA, folder)
    spoil(folder, change, settings, torch.float32)
    base = saved_base(LLAMA, tmp_path / "base")
    found = faults(folder, base)
    assert kind in [each.kind for each in found]
    assert message in next(each.message for each in found if each.kind == kind)
    is_error = kind != "zero"
    assert [each.severity == "error" for each in found if each.kind == kind] == [is_error]
    assert bool(faults(folder)) is not needs_base
    assert loaded(LLAMA, folder) == peft_does


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_zeros_and_numbers_that_are_not_finite_are_seen_in_each_dtype(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    save(LLAMA, tmp_path)
    largest, smallest = torch.finfo(dtype).max, torch.finfo(dtype).smallest_normal / 2
    for values, kinds in {
        (0.0, -0.0): ["zero"],
        (largest, -largest, smallest, -smallest): [],
        (torch.nan, torch.inf, -torch.inf): ["not-finite"],
    }.items():
        for value in values:
            spoil(tmp_path, _filled(value, "lora_B.weight", "embedding_B"), {}, dtype)
            assert [each.kind for each in faults(tmp_path)] == kinds, value


def test_only_the_begin_of_trained_factors_is_read(tmp_path: Path) -> None:
    """A last number that is not zero is found too."""
    case = Case(lambda: nn.Sequential(nn.Linear(8, 40_000)), {"r": 8, "target_modules": ["0"]})
    save(case, tmp_path)
    change: Change = lambda all_: all_[f"{PREFIX}0.lora_B.weight"].zero_()[-1, -1].fill_(1)  # noqa: E731
    spoil(tmp_path, change, {}, torch.float32)
    assert faults(tmp_path) == []


def test_other_formats_are_named(tmp_path: Path) -> None:
    for name, message in {
        "adapter_model-00001-of-00002.safetensors": "in parts, which PEFT does not load",
        "adapter_model.bin": "is a pickle, which is not opened",
    }.items():
        (tmp_path / name).touch()
        with pytest.raises(ValueError, match=message):
            SavedLora(tmp_path, {})
    (tmp_path / WEIGHTS).write_bytes(b"12")
    with pytest.raises(ValueError, match="not a safetensors file, or truncated"):
        SavedLora(tmp_path, {})

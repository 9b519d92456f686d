"""A merge changes what the adapters mean, in every layer, or it is refused before any change."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adalora_runs import make
from torch import nn
from torch.nn.utils import parametrizations as new
from torch.nn.utils import prune, spectral_norm, weight_norm
from toy_models import VOCABULARY
from transformers import LlamaConfig, LlamaForCausalLM

from adalora_core.floor.errors import TargetError

X = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
MERGES = [
    lambda model: model.merge_and_unload(),
    lambda model: model.merge_and_unload(safe_merge=True),
]
"""What merges the adapter of a model."""


class Shared(nn.Module):
    """One layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = self.first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x)))


def stack() -> nn.Sequential:
    torch.manual_seed(0)
    names = {"first": nn.Linear(8, 8), "middle": nn.Tanh(), "second": nn.Linear(8, 8)}
    return nn.Sequential(OrderedDict(names))


def adapted(door: str, base: nn.Module, **changes: Any) -> Any:
    targets = [name for name, each in base.named_children() if hasattr(each, "in_features")]
    changes = {"target_modules": targets, "init_lora_weights": False, **changes}
    return make(door, base, **changes).eval()


@torch.no_grad()
def outputs(model: nn.Module) -> torch.Tensor:
    return model(X)


def assert_unmerged(model: Any, expected: torch.Tensor) -> None:
    layers = [each for each in model.modules() if hasattr(each, "lora_E")]
    assert layers
    assert not any(getattr(each, "merged_adapters", ()) for each in layers)
    torch.testing.assert_close(outputs(model), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize(
    "norm",
    [
        new.weight_norm,
        new.spectral_norm,
        new.orthogonal,
        pytest.param(weight_norm, marks=pytest.mark.filterwarnings("ignore:.*weight_norm")),
        spectral_norm,
        lambda layer: prune.l1_unstructured(layer, "weight", 0.2),
    ],
)
def test_a_weight_that_each_forward_computes_is_refused(
    door: str, norm: Callable[[nn.Module], nn.Module], merge: Callable[[Any], object]
) -> None:
    base = stack()
    norm(base.second)
    try:
        model = adapted(door, base)
    except RuntimeError:  # PEFT refuses to adapt most of them
        assert door != "adalora_core"
        return
    expected = outputs(model)
    with pytest.raises(
        TypeError, match=r"merge: second of type \w+ computes its weight from other"
    ):
        merge(model)
    assert_unmerged(model, expected)


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_a_merge_that_fails_in_one_layer_merges_none(
    door: str, error: BaseException, merge: Callable[[Any], object], monkeypatch: Any
) -> None:
    model = adapted(door, stack())
    expected = outputs(model)
    second = model.base_model.model.second

    def fail(*_: object) -> None:
        raise error

    for name in ("delta_weight", "get_delta_weight"):
        if hasattr(second, name):
            monkeypatch.setattr(second, name, fail)
    with pytest.raises(type(error)):
        merge(model)
    assert model.base_model.model.second is second
    assert_unmerged(model, expected)


def test_autocast_does_not_round_what_is_merged(door: str) -> None:
    model = adapted(door, stack())
    expected = outputs(model)
    autocast = torch.autocast("cpu", torch.bfloat16)
    if door != "adalora_core":
        with autocast:
            model.merge_adapter()
        torch.testing.assert_close(outputs(model), expected, atol=1e-4, rtol=1e-4)
        with autocast:
            model.unmerge_adapter()
        torch.testing.assert_close(outputs(model), expected, atol=1e-4, rtol=1e-4)
        model.merge_adapter()
        with model.disable_adapter(), autocast:
            model(X)
        torch.testing.assert_close(outputs(model), expected, atol=1e-4, rtol=1e-4)
    with autocast:
        base = model.merge_and_unload()
    torch.testing.assert_close(outputs(base), expected, atol=1e-4, rtol=1e-4)


def test_a_module_under_two_names_is_refused(door: str) -> None:
    base = Shared()
    if door == "adalora_core":
        for changes in ({}, {"target_modules": ["other"], "modules_to_save": ["first"]}):
            base.other = nn.Linear(8, 8)
            with pytest.raises(TargetError, match="'first' and 'second' are one module"):
                adapted(door, base, **changes)
            assert type(base.first) is nn.Linear
        return
    model = adapted(door, base)  # as in PEFT, under the first name
    expected = outputs(model)
    for merge in MERGES:
        with pytest.raises(TargetError, match=r"'first\.base_layer' and 'second' are one module"):
            merge(model)
        assert_unmerged(model, expected)


# --- a weight that another module has too ---------------------------------------------------------

HEAD = {"target_modules": ["lm_head", "q_proj"]}
COPY = {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}


@torch.no_grad()
def tied_llama(**changes: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24}
    heads = {"num_hidden_layers": 1, "num_attention_heads": 2, "pad_token_id": 0}
    base = LlamaForCausalLM(LlamaConfig(**sizes, **heads, tie_word_embeddings=True)).eval()
    model = make("adalora_core", base, **changes)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.normal_(std=0.3)
    return model.eval()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(torch.tensor([[5, 6, 7, 8]])).logits


@pytest.mark.parametrize("changes", [HEAD, COPY], ids=["target", "modules_to_save"])
def test_a_model_with_tied_weights_is_merged_and_reloaded_untied(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    model = tied_llama(**changes)
    expected = logits(model)
    with pytest.warns(UserWarning, match="tie_word_embeddings is False"):
        merged = model.merge_and_unload()
    torch.testing.assert_close(logits(merged), expected)
    merged.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(LlamaForCausalLM.from_pretrained(tmp_path)), expected)


def test_a_refused_merge_and_an_unload_separate_nothing() -> None:
    model = tied_llama(**HEAD)
    base = model.get_base_model()
    with torch.no_grad():
        base.model.layers[0].self_attn.q_proj.lora_E["default"].fill_(torch.nan)
    with pytest.raises(ValueError, match="NaNs"):
        model.merge_and_unload(safe_merge=True)
    assert base.lm_head.base_layer.weight is base.model.embed_tokens.weight
    base = model.unload()
    assert base.lm_head.weight is base.model.embed_tokens.weight
    assert base.config.tie_word_embeddings

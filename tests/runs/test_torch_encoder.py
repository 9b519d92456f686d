"""Adapters act in torch's own encoder, which in eval mode reads the weights of its layers."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from adalora_runs import make
from torch import nn

from adalora_core.bridge import attach, detach

X = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(1))
PADDED = torch.tensor([[0, 0, 0, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1]]).bool()


def encoder() -> nn.TransformerEncoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


def adapted(library: str, base: nn.Module | None = None, **changes: Any) -> Any:
    changes = {"target_modules": ["linear1", "linear2"], "init_lora_weights": False, **changes}
    return make(library, encoder() if base is None else base, **changes)


def outputs(model: nn.Module, **options: Any) -> torch.Tensor:
    return model(X, **options)[~PADDED]


def copied(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model)


def pickled(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def unchanged(model: nn.Module) -> nn.Module:
    return model


@pytest.mark.parametrize("grad", [False, True], ids=["no_grad", "grad"])
@pytest.mark.parametrize("mask", [None, PADDED], ids=["whole", "padded"])
@pytest.mark.parametrize("way", [unchanged, copied, pickled])
def test_eval_mode_computes_as_training_mode(
    door: str, way: Any, mask: torch.Tensor | None, grad: bool
) -> None:
    model = way(adapted(door))
    with torch.set_grad_enabled(grad):
        expected = outputs(model.train(), src_key_padding_mask=mask)
        found = outputs(model.eval(), src_key_padding_mask=mask)
    torch.testing.assert_close(found, expected)


def test_peft_alone_ignores_its_adapters_in_eval_mode() -> None:
    model = adapted("peft")
    with model.disable_adapter():
        expected = outputs(model.train())
    torch.testing.assert_close(outputs(model.eval()), expected, atol=1e-5, rtol=1e-4)


def test_a_layer_alone_acts_too() -> None:
    model = adapted("adalora_core", encoder().layers[0], target_modules=["linear1"])
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(X), model.train()(X))


def has_fast_path(base: nn.TransformerEncoder) -> bool:
    hooks = [each for module in base.modules() for each in module._forward_pre_hooks]
    assert base.use_nested_tensor is not bool(hooks)
    return not hooks


@pytest.mark.parametrize("end", ["unload", "merge_and_unload"])
def test_without_adapters_torch_has_its_fast_path_again(door: str, end: str) -> None:
    model = adapted(door)
    assert not has_fast_path(model.base_model.model)
    expected = outputs(model.train()) if end == "merge_and_unload" else outputs(encoder())
    base = getattr(model, end)().eval()
    assert has_fast_path(base)
    torch.testing.assert_close(outputs(base), expected, atol=1e-5, rtol=1e-4)


def test_detach_gives_the_model_back_as_peft_had_made_it() -> None:
    model = adapted("peft")
    expected = outputs(model.eval())
    detach(attach(model))
    assert has_fast_path(model.base_model.model)
    torch.testing.assert_close(outputs(model), expected)


def test_an_encoder_without_an_adapter_keeps_its_fast_path() -> None:
    base = nn.ModuleDict({"encoder": encoder(), "head": nn.Linear(16, 3)})
    adapted("adalora_core", base, target_modules=["head"])
    assert has_fast_path(base["encoder"])

"""The names of PEFT that our models have, and functions of PEFT, give what they give with PEFT."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

import adalora_core
from tests.support.toy_models import TwoLayer, two_layer_batch

peft = pytest.importorskip("peft")

SETTINGS: dict[str, Any] = {
    "init_r": 6,
    "target_r": 3,
    "tinit": 2,
    "tfinal": 5,
    "deltaT": 2,
    "total_step": 20,
    "lora_alpha": 16,
    "orth_reg_weight": 0.0,  # PEFT adds no penalty without a task type
    "target_modules": ["first", "second"],
}


def made(library: Any, base: nn.Module | None = None, **changes: Any) -> Any:
    torch.manual_seed(0)
    return library.get_peft_model(
        base or TwoLayer(), library.AdaLoraConfig(**SETTINGS | changes), "default"
    )


class Failing(TwoLayer):
    @property
    def broken(self) -> int:
        raise AttributeError("a reason of its own")


def test_an_error_inside_a_property_of_the_base_model_stays() -> None:
    with pytest.raises(AttributeError, match=r"broken|a reason of its own"):
        made(adalora_core, Failing()).broken  # noqa: B018


# --- the same values ------------------------------------------------------------------------------


def numbers_of(library: Any) -> dict[str, Any]:
    """Train as scripts for PEFT do, and return what PEFT's names show on the way."""
    config = library.AdaLoraConfig(**SETTINGS)
    torch.manual_seed(0)
    base = TwoLayer()
    model = library.get_peft_model(base, config)
    found: dict[str, Any] = {"identity": model.peft_config["default"] is config}
    found["drawn"] = {n: p.detach().clone() for n, p in model.named_parameters() if "ora_" in n}
    found["generator"] = torch.rand(3)
    model.peft_config["default"].total_step = 22
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for step in range(22):
        model(**two_layer_batch(step)).loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        pattern = model.peft_config["default"].rank_pattern
        found[f"pattern {step}"] = json.dumps(pattern, sort_keys=True)
        optimizer.zero_grad()
    layer = model.base_model.model.second
    for name in ("r", "scaling", "lora_alpha", "disable_adapters", "active_adapter"):
        found[name] = getattr(layer, name)
    found["delta"] = {"": layer.get_delta_weight("default").detach()}
    found["in file"] = library.get_peft_model_state_dict(model)
    return found


def test_the_names_show_the_values_of_peft() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        theirs, ours = numbers_of(peft), numbers_of(adalora_core)
    finally:
        torch.set_default_dtype(torch.float32)
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        if isinstance(expected, dict) and any(map(torch.is_tensor, expected.values())):
            assert ours[name].keys() == {k for k in expected if "ranknum" not in k}, name
            for key, value in ours[name].items():
                atol, rtol = (0.0, 0.0) if name == "drawn" else (1e-9, 1e-6)
                torch.testing.assert_close(value, expected[key], atol=atol, rtol=rtol)
        elif torch.is_tensor(expected):
            assert torch.equal(ours[name], expected), name
        else:
            assert ours[name] == expected, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("changes", [{}, {"init_lora_weights": False}])
def test_the_same_seed_gives_the_adapter_of_peft(dtype: torch.dtype, changes: Any) -> None:
    drawn = []
    for library in (peft, adalora_core):
        base = nn.Sequential(nn.Linear(7, 5), nn.Conv2d(1, 2, 3)).to(dtype)
        model = made(library, base, target_modules=["0", "1"], **changes)
        values = {n: p.detach() for n, p in model.named_parameters() if ".lora_" in n}
        drawn.append((values, torch.rand(2)))
    (theirs, their_rest), (ours, our_rest) = drawn
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert torch.equal(our_rest, their_rest)


def test_functions_of_peft_report_the_method() -> None:
    theirs, ours = made(peft), made(adalora_core)
    for model in (theirs, ours):
        assert peft.get_model_status(model).peft_types == {"default": "ADALORA"}
        assert model.peft_config["default"].peft_type == peft.PeftType.ADALORA
    config = ours.peft_config["default"]
    assert config.peft_type.value == "ADALORA"
    assert type(config.to_dict()["peft_type"]) is type(config.model_dump()["peft_type"]) is str
    config.peft_type = "ADALORA"
    assert "peft_type='ADALORA'" in repr(config)


def pruned() -> Any:
    """Return a model that has dropped triplets and is at the end of its schedule."""
    model = made(adalora_core)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for step in range(20):
        model(**two_layer_batch(step)).loss.backward()
        optimizer.step()
        model.update_and_allocate(global_step=step)
        optimizer.zero_grad()
    return model.eval()


def test_functions_of_peft_pass_a_pruned_adapter_on() -> None:
    model = pruned()
    pattern = dict(model.peft_config["default"].rank_pattern)
    state = peft.get_peft_model_state_dict(model)
    assert model.peft_config["default"].rank_pattern == pattern
    assert {n: tuple(t.shape) for n, t in state.items()} == {
        n: tuple(t.shape) for n, t in adalora_core.get_peft_model_state_dict(model).items()
    }
    other = made(adalora_core).eval()
    assert other(**two_layer_batch(1)).loss != model(**two_layer_batch(1)).loss
    held = dict(other.named_parameters())
    other.peft_config["default"].rank_pattern = pattern
    assert not peft.set_peft_model_state_dict(other, state).unexpected_keys
    assert other.peft_config["default"].rank_pattern == pattern
    assert {name: id(each) for name, each in other.named_parameters()} == {
        name: id(each) for name, each in held.items()
    }
    torch.testing.assert_close(other(**two_layer_batch(1)).loss, model(**two_layer_batch(1)).loss)


def test_resizing_keeps_what_the_model_computes() -> None:
    model = pruned()
    before = model(**two_layer_batch(1)).loss
    pattern = model.peft_config["default"].rank_pattern
    model.resize_modules_by_rank_pattern(pattern, "default")
    assert [each.rank("default") for each in model.base_model.layers()] == [
        sum(kept) for kept in pattern.values()
    ]
    torch.testing.assert_close(model(**two_layer_batch(1)).loss, before)
    model.resize_modules_by_rank_pattern({key: [True] * 6 for key in pattern}, "default")
    torch.testing.assert_close(model(**two_layer_batch(1)).loss, before)

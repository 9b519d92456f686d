"""A run of our own API shows the numbers that the run of PEFT shows."""

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
    return library.get_peft_model(base or TwoLayer(), library.AdaLoraConfig(**SETTINGS | changes))


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
    is_ours = library is adalora_core
    delta = layer.delta_weight() if is_ours else layer.get_delta_weight("default")
    found["delta"] = {"": delta.detach()}
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

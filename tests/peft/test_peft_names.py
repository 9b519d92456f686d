"""A run of our own API shows the numbers that the run of PEFT shows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import adalora_core
from tests.support.toy_models import TwoLayer

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

"""Probe layers and the allocation; see feature_probes.py."""

from __future__ import annotations

import importlib
import tempfile
import warnings
from typing import TYPE_CHECKING, Any

import torch
from probe_setting import (
    SETTINGS,
    Small,
    batch,
    load,
    make,
    need,
    need_budget,
    need_equal,
    train,
)
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable


# --- layers ---------------------------------------------------------------------------------------


class Hidden(nn.Module):
    """A linear layer whose weight is packed, as in quantised layers."""

    def __init__(self) -> None:
        super().__init__()
        self.in_features = self.out_features = 8
        self.register_buffer("packed", torch.randint(-9, 9, (8, 8), dtype=torch.int8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply with the unpacked weight."""
        return x @ (self.packed / 20.0)


def conv1d(library: str) -> None:
    """Adapt transformers' Conv1D."""
    from transformers.pytorch_utils import Conv1D

    need_budget(train(make(library, Small(second=Conv1D(8, 8)), fan_in_fan_out=True)))


def quantised_looking(library: str) -> None:
    """Adapt a module without a weight."""
    need_budget(train(make(library, Small(second=Hidden()))))


def convolution(**options: Any) -> Callable[[str], None]:
    """Adapt and merge a convolution."""

    def run(library: str) -> None:
        base = nn.Sequential(nn.Conv2d(4, 4, 3, **options))
        model = make(library, base, target_modules=["0"], init_lora_weights=False).eval()
        x = torch.randn(2, 4, 6, 6)
        before = model(x).detach()
        model.merge_adapter()
        need_equal(model(x).detach(), before, 1e-3)

    return run


def low_precision(library: str) -> None:
    """Train float32 adapters on a bfloat16 base and reload them."""
    model = train(make(library, Small().bfloat16()), dtype=torch.bfloat16)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        torch.manual_seed(1)
        loaded = load(library, folder, Small().bfloat16())
    kept = {n: p for n, p in loaded.named_parameters() if ".lora_A." in n}
    live = {n: p for n, p in model.named_parameters() if ".lora_A." in n}
    pattern = model.peft_config["default"].rank_pattern
    for name, values in kept.items():
        key = next(k for k in pattern if name.split("model.")[-1].split(".lora_A")[0] in k)
        rows = live[name][torch.tensor(pattern[key])]
        need(torch.equal(rows, values), "weights come back rounded")


# --- allocation -----------------------------------------------------------------------------------


def overflow(library: str) -> None:
    """Survive one step with infinite gradients."""
    model = make(library)
    train(model, range(10))
    for p in model.parameters():
        if p.requires_grad:
            p.grad = torch.full_like(p, torch.inf)
    model.base_model.update_and_allocate(10)
    need_budget(train(model, range(11, 30)))


def no_signal(library: str) -> None:
    """Meet the budget if all scores are equal."""
    model = make(library, init_lora_weights=False)
    for step in range(30):
        model(batch(step)).loss.backward()
        for p in model.parameters():
            if p.grad is not None:
                p.grad.zero_()
        model.base_model.update_and_allocate(step)
        model.zero_grad()
    need_budget(model)


def no_final_phase(library: str) -> None:
    """Meet the budget with tfinal = 0."""
    model = train(make(library, tfinal=0, tinit=0, deltaT=11))
    if hasattr(model, "finalize"):
        model.finalize()
    need_budget(model)


def jumping_steps(library: str) -> None:
    """Meet the budget if a step jumps over the first final one."""
    model = train(make(library), range(20))
    need_budget(train(model, range(27, 30)))


def resume(library: str) -> None:
    """Stop in the middle, load, go on."""
    model = train(make(library), range(15))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        need_budget(train(load(library, folder, is_trainable=True), range(15, 30)))


def forgotten_call(library: str) -> None:
    """Warn if update_and_allocate is never called."""
    model = make(library).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(60):
            model(batch(step)).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    need(any("update_and_allocate" in str(w.message) for w in caught), "no warning")


def two_trainable(library: str) -> None:
    """Train two adapters at once."""
    module = importlib.import_module(library)
    model = make(library)
    model.add_adapter("other", module.AdaLoraConfig(**SETTINGS))
    active = model if library == "adalora_core" else model.base_model
    active.set_adapter(["default", "other"])
    train(model)


def compaction(library: str) -> None:
    """Free the dropped triplets in training."""
    del library
    model = make("adalora_core")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    train(model)
    report = model.compact(optimizer)
    need(report.parameters_after * 2 == report.parameters_before, "did not shrink")

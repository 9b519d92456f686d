"""Probe layers and the allocation; see feature_probes.py."""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

import torch
from probe_setting import (
    SETTINGS,
    Small,
    batch,
    make,
    need,
    need_bridge,
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


# --- allocation -----------------------------------------------------------------------------------


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
    model.base_model.set_adapter(["default", "other"])
    train(model)


def compaction(library: str) -> None:
    """Free the dropped triplets in training."""
    need_bridge()
    model = make(library)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    train(model)
    report = model.compact(optimizer)
    need(report.parameters_after * 2 == report.parameters_before, "did not shrink")

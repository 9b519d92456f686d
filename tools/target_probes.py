"""Probe what can be adapted, and where a configuration comes from; see feature_probes.py."""

from __future__ import annotations

import copy
import importlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from probe_setting import SETTINGS, Small, make, need, train
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

IDS = torch.arange(8).reshape(1, 8)
LANGUAGE = {"target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}


# --- targets --------------------------------------------------------------------------------------


def learns(base: nn.Module, x: torch.Tensor, target: str, **changes: Any) -> Callable[[str], None]:
    """Return a probe that adapts the module `target` of `base` and finds a gradient there."""

    def run(library: str) -> None:
        model = make(library, copy.deepcopy(base), target_modules=[target], **changes)
        result = model(x)
        (result[0] if isinstance(result, tuple) else result).square().sum().backward()
        found = [p.grad for name, p in model.named_parameters() if ".lora_B." in name]
        need(bool(found) and all(grad is not None for grad in found), "no gradient")

    return run


class Attention(nn.Module):
    """Self-attention of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend from `x` to itself."""
        return self.attention(x, x, x)[0]


# --- configuration --------------------------------------------------------------------------------


def config_of(library: str, **changes: Any) -> Any:
    """Return a configuration."""
    return importlib.import_module(library).AdaLoraConfig(**{**SETTINGS, **changes})


def numbers_of_numpy(library: str) -> None:
    """Take NumPy's numbers, and save them."""
    config = config_of(library, init_r=np.int64(4), total_step=np.int64(30))
    model = train(importlib.import_module(library).get_peft_model(Small(), config))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        need(json.loads(Path(folder, "adapter_config.json").read_text())["init_r"] == 4, "lost")

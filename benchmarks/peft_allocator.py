"""Run PEFT's own allocator code on tensors without a model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from peft.tuners.adalora.layer import RankAllocator

if TYPE_CHECKING:
    from collections.abc import Sequence


class PeftAllocator:
    """PEFT's `update_ipt` and `mask_to_budget` for A, E, B of every matrix."""

    def __init__(self, parameters: Sequence[torch.Tensor]) -> None:
        names = [f"layer{i // 3}.lora_{'AEB'[i % 3]}.default" for i in range(len(parameters))]
        named = [(n, torch.nn.Parameter(p.clone())) for n, p in zip(names, parameters, strict=True)]
        for _, parameter in named:
            parameter.grad = torch.randn_like(parameter)
        self.parameters = [parameter for _, parameter in named]
        self.model = SimpleNamespace(named_parameters=lambda: named)
        self.triplets = sum(len(p) for p in self.parameters[1::3])
        self.state = SimpleNamespace(
            adapter_name="default", beta1=0.85, beta2=0.85, ipt={}, exp_avg_ipt={}, exp_avg_unc={},
            init_bgt=self.triplets,
            _element_score=lambda name: RankAllocator._element_score(self.state, name),
            _combine_ipt=lambda e, ab: RankAllocator._combine_ipt(self.state, e, ab),
        )  # fmt: skip

    def update(self) -> None:
        """Update the averages."""
        RankAllocator.update_ipt(self.state, self.model)

    def update_and_mask(self) -> None:
        """Update the averages, score, and mask down to two thirds."""
        self.update()
        RankAllocator.mask_to_budget(self.state, self.model, self.triplets * 2 // 3)

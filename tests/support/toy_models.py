"""Small models that several tests share; all are built from a configuration, none is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

VOCABULARY = 64


@dataclass
class Output:
    """What a model returns when it was given labels."""

    logits: torch.Tensor
    loss: torch.Tensor | None = None


class TwoLayer(nn.Module):
    """Two linear layers, one of which can be left out of the forward pass."""

    def __init__(self, width: int = 16, *, use_second: bool = True) -> None:
        super().__init__()
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        self.head = nn.Linear(width, 3)
        self.use_second = use_second

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> Output:
        hidden = torch.relu(self.first(x))
        if self.use_second:
            hidden = torch.relu(self.second(hidden))
        logits = self.head(hidden)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return Output(logits, loss)


def two_layer_batch(step: int, width: int = 16) -> dict[str, torch.Tensor]:
    """A batch that depends on the step alone, in the default dtype."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(8, width, generator=generator, dtype=torch.get_default_dtype())
    return {"x": x, "labels": (x[:, 0] > 0).long() + (x[:, 1] > 0).long()}


def two_layer() -> TwoLayer:
    """Return a base model that is always the same."""
    torch.manual_seed(7)
    return TwoLayer()


@torch.no_grad()
def outputs(model: Any) -> torch.Tensor:
    """Return the logits of a model over `TwoLayer`, in evaluation mode."""
    return model.eval()(two_layer_batch(99)["x"]).logits  # type: ignore[no-any-return]


def tiny_llama(dtype: torch.dtype = torch.float32, layers: int = 2) -> nn.Module:
    """A causal language model with q_proj, k_proj, v_proj."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).to(dtype)


def token_batch(step: int, batch: int = 4, length: int = 12) -> dict[str, torch.Tensor]:
    """Sequences with a rule to learn (each token follows from the one before), as their own labels.

    They depend on the step alone.
    """
    generator = torch.Generator().manual_seed(1000 + step)
    ids = torch.randint(1, VOCABULARY, (batch, 1), generator=generator)
    for _ in range(length - 1):
        ids = torch.cat([ids, (ids[:, -1:] * 5 + 3) % (VOCABULARY - 1) + 1], dim=1)
    return {"input_ids": ids, "labels": ids}

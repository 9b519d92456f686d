"""Train rows of an embedding, one process or two, wrapped in one way or another."""

from __future__ import annotations

from typing import Any

import torch
from adalora_runs import make, optimizer_of
from distributed_runs import whole_parameters
from script_parts import base_model, token_rows
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

TOKENS = [30, 31]


def batch(seed: int) -> torch.Tensor:
    """Return token identifiers that hold `TOKENS`."""
    rows = token_rows(4, seed=seed)
    rows[:, 1], rows[:, 3] = torch.tensor(TOKENS)
    return rows


def with_rows(library: str, base: Any, tokens: Any, **changes: Any) -> Any:
    """Return `base` with an adapter that trains rows too."""
    torch.manual_seed(7)
    settings = {"target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"} | changes
    return make(library, base, trainable_token_indices=tokens, **settings)


def train_rows(model: Any, wrapped: Any = None, steps: int = 30) -> torch.Tensor:
    """Train `model` and return its losses."""
    optimizer, losses = optimizer_of(model), []
    for step in range(steps):
        loss = (wrapped or model).train()(input_ids=batch(step), labels=batch(step)).loss
        loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
        losses.append(loss.detach())
    return torch.stack(losses)


def rows_after(_rank: int, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return losses and rows of a training of a base with tied embeddings."""
    base = base_model("LlamaForCausalLM", tie_word_embeddings=True)
    model = with_rows("adalora_core", base, TOKENS)
    for part in [*base.model.layers, model] if kind == "fsdp2" else ():
        fully_shard(part)
    losses = train_rows(model, DistributedDataParallel(model) if kind == "ddp" else model)
    (rows,) = [each for name, each in whole_parameters(model).items() if "token_adapter" in name]
    return losses, rows


def embedding_divided_alone(_rank: int) -> None:
    """Divide the embedding apart from the model, which hides its rows."""
    base = base_model("LlamaForCausalLM", tie_word_embeddings=False)
    model = with_rows("adalora_core", base, TOKENS)
    fully_shard(model.get_base_model().model.embed_tokens.original_module)
    train_rows(model, steps=1)

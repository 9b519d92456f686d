"""A byte-level causal language model, and its pretraining on one text."""

from __future__ import annotations

import hashlib
import io
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from tasks import BASE_RATE, SIZES
from texts import CACHE, windows
from torch import nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention

from adalora_core.floor.files import write_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks import Size
    from torch import Tensor

BYTES = 256
CONTEXT = 64
"""Bytes that the model sees at once; a window has one more, the last to predict."""
BASE_BATCH, BASE_WARMUP = 32, 100
MEASURED_WINDOWS, MEASURED_BATCH = 1536, 64


class Block(nn.Module):
    """Attention and a feed-forward part, each behind a layer norm and beside a residual path."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        width = size.width
        self.heads = size.heads
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.output = nn.Linear(width, width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the hidden states after the block."""
        normed = self.attention_norm(hidden)
        queries, keys, values = (
            layer(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        seen = scaled_dot_product_attention(queries, keys, values, is_causal=True)
        hidden = hidden + self.output(seen.transpose(1, 2).flatten(-2))
        return hidden + self.down(gelu(self.up(self.feed_forward_norm(hidden))))


class CausalModel(nn.Module):
    """Predicts the next byte from at most 64 bytes before it."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.bytes, self.places = nn.Embedding(BYTES, size.width), nn.Embedding(CONTEXT, size.width)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.blocks))
        self.norm, self.head = nn.LayerNorm(size.width), nn.Linear(size.width, BYTES, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the logits `[batch, bytes, 256]`."""
        hidden = self.bytes(ids) + self.places.weight[: ids.shape[1]]
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(self.norm(hidden))


def loss_of(model: nn.Module, drawn: Tensor) -> Tensor:
    """Return the mean loss of windows `[count, 65]`, in nats per byte."""
    return cross_entropy(model(drawn[:, :-1]).flatten(0, 1), drawn[:, 1:].flatten())


@torch.no_grad()
def measured_loss(model: nn.Module, part: Tensor, seed: int) -> float:
    """Return the loss on windows of a part that the seed draws, the same for all arms."""
    model.eval()
    drawn = windows(part, MEASURED_WINDOWS, CONTEXT + 1, torch.Generator().manual_seed(seed))
    batches = drawn.split(MEASURED_BATCH)
    return sum(loss_of(model, each).item() for each in batches) / len(batches)


def batches(part: Tensor, size: int, seed: int) -> Iterator[Tensor]:
    """Yield batches of windows for ever, in the order of the seed."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield windows(part, size, CONTEXT + 1, generator)


@dataclass(frozen=True, slots=True)
class Base:
    """A pretrained model: its weights, their digest, and the seconds that pretraining took now."""

    weights: dict[str, Tensor]
    digest: str
    seconds: float

    def model(self, size: Size) -> CausalModel:
        """Return a new model with these weights."""
        model = CausalModel(size)
        model.load_state_dict(self.weights)
        return model


def pretrained(text: str, train: Tensor, size_name: str, seed: int, cache: Path = CACHE) -> Base:
    """Return the model of a seed, from the cache if it was trained there before.

    Args:
        text: name of the text, for the name of the file.
        train: its bytes to train on.
        size_name: a key of SIZES.
        seed: decides initial values and order of the windows.
        cache: the folder of the models.
    """
    path = cache / f"{text.replace(' ', '-')}-{size_name}-{seed}.pt"
    seconds = 0.0
    if not path.exists():
        started = time.process_time()
        trained = _pretrain(train, SIZES[size_name], seed)
        seconds = time.process_time() - started
        content = io.BytesIO()
        torch.save(trained.state_dict(), content)
        cache.mkdir(parents=True, exist_ok=True)
        write_file(path, content.getvalue())
    weights = torch.load(path, weights_only=True)
    digest = hashlib.sha256(b"".join(each.numpy().tobytes() for each in weights.values()))
    return Base(weights, digest.hexdigest()[:12], seconds)


def _pretrain(train: Tensor, size: Size, seed: int) -> CausalModel:
    torch.manual_seed(seed)
    model = CausalModel(size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=BASE_RATE, fused=True)
    order = batches(train, BASE_BATCH, seed)
    for step in range(size.base_steps):
        factor = min(1.0, (step + 1) / BASE_WARMUP) * (1 - step / size.base_steps)
        for group in optimizer.param_groups:
            group["lr"] = BASE_RATE * factor
        loss_of(model, next(order)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model

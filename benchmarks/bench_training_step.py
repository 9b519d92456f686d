"""Compare a training step of MiniLM: AdaLoRA of this package and PEFT's plain LoRA."""

from __future__ import annotations

from typing import TYPE_CHECKING

import peft
import torch
from measure import Case
from shapes import RANK
from transformers import BertConfig, BertModel

from adalora_core import AdaLoraConfig, get_peft_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BATCHES = ((8, 16), (24, 48), (32, 64))
TARGETS = [
    "query",
    "key",
    "value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
]
ADAPTER = {"lora_alpha": 32, "target_modules": TARGETS}
SCHEDULE = {"init_r": RANK, "target_r": 4, "total_step": 10**6, "tfinal": 10, "deltaT": 1}


def minilm() -> BertModel:
    """Return a model of MiniLM's shape; the weights do not matter for the time."""
    torch.manual_seed(0)
    return BertModel(
        BertConfig(
            hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
        )
    )


def training_step(
    model: torch.nn.Module, batch: tuple[int, int], allocate: Callable[[int], object] | None
) -> Callable[[], None]:
    """Return a function that takes one optimizer step."""
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-4)
    tokens = torch.randint(0, 30000, batch)
    step = 0

    def take() -> None:
        nonlocal step
        step += 1
        loss = model(input_ids=tokens).last_hidden_state.square().mean()
        if hasattr(model, "orthogonality_penalty"):
            loss = loss + model.orthogonality_penalty()
        loss.backward()
        optimizer.step()
        if allocate is not None:
            allocate(step)
        optimizer.zero_grad()

    return take


def contenders(batch: tuple[int, int]) -> dict[str, Callable[[], None]]:
    """Return our AdaLoRA, PEFT's AdaLoRA (without its penalty) and PEFT's plain LoRA."""
    ours = get_peft_model(minilm(), AdaLoraConfig(**SCHEDULE, **ADAPTER))
    lora = peft.get_peft_model(minilm(), peft.LoraConfig(r=RANK, **ADAPTER))
    adalora = peft.get_peft_model(minilm(), peft.AdaLoraConfig(**SCHEDULE, **ADAPTER))
    return {
        "ours": training_step(ours, batch, ours.update_and_allocate),
        "plain LoRA": training_step(lora, batch, None),
        "peft": training_step(adalora, batch, adalora.base_model.update_and_allocate),
    }


def cases() -> Iterator[Case]:
    """Yield every comparison."""
    for batch in BATCHES:
        yield Case(
            "training step",
            f"MiniLM, {batch[0]} x {batch[1]} tokens",
            contenders(batch),
            against="plain LoRA",
            goal=1.0,
            at_most=True,
            rounds=25,
        )

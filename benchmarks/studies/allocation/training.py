"""Train one arm of the study once, and measure it on sentences that it has not seen."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jobs import PLAIN_LORA
from torch import nn
from torch.nn.functional import mse_loss

from adalora_core.demo.experiment import mean_pooled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jobs import Job, Setting
    from sentences import Sentence
    from torch import Tensor

TARGET_MODULES = ["query", "key", "value", "intermediate.dense", "output.dense"]
"""Suffixes of the six linear layers of a BERT block; `output.dense` matches two."""
RATING_UNIT = 2.0
"""The target is the rating in this unit, of about one standard deviation."""
WARMUP, FLOOR = 0.06, 0.02
"""Share of the steps in which the learning rate rises, and share of its peak at the end."""


class Tokenised:
    """Sentences as token numbers, with their ratings."""

    def __init__(self, folder: Path, sentences: Sequence[Sentence], tokens: int) -> None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        encoded = tokenizer(
            [each.text for each in sentences],
            padding=True,
            truncation=True,
            max_length=tokens,
            return_tensors="pt",
        )
        self.ids: Tensor = encoded["input_ids"]
        self.mask: Tensor = encoded["attention_mask"]
        self.lengths = self.mask.sum(dim=1)
        self.ratings = torch.tensor([each.rating for each in sentences])

    def inputs(self, indices: Tensor) -> dict[str, Tensor]:
        """Return the inputs of the model, no wider than the longest of these sentences."""
        width = int(self.lengths[indices].max())
        return {
            "input_ids": self.ids[indices, :width],
            "attention_mask": self.mask[indices, :width],
        }

    def batches(self, size: int, seed: int) -> Iterator[Tensor]:
        """Yield batches for ever; sentences of about the same length share one."""
        order = torch.Generator().manual_seed(seed)
        while True:
            shuffled = torch.randperm(len(self.ratings), generator=order)
            for chunk in shuffled.split(size * 16):
                batches = chunk[self.lengths[chunk].argsort()].split(size)
                for index in torch.randperm(len(batches), generator=order).tolist():
                    yield batches[index]


def learning_rate_factor(step: int, steps: int) -> float:
    """Return the factor on the peak at the 0-based `step`: a short rise, then a line down."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 1.0 - (1.0 - FLOOR) * (step - warmup) / max(1, steps - 1 - warmup)


def matrices(encoder: nn.Module) -> dict[str, int]:
    """Return `{module path: parameters of one triplet}` of the layers that are adapted."""
    ends = tuple(f".{each}" for each in TARGET_MODULES)
    return {
        path: module.in_features + module.out_features
        for path, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and path.endswith(ends)
    }


def plain_lora(encoder: nn.Module, scale: float, ranks: Mapping[str, int]) -> nn.Module:
    """Return PEFT's LoRA with these ranks; a matrix of rank 0 gets no adapter.

    PEFT's own, since this is what a user would take instead of AdaLoRA. Its scale is alpha / rank,
    so that each module has an alpha of its own.
    """
    from peft import LoraConfig, get_peft_model

    kept = {path: rank for path, rank in ranks.items() if rank}
    config = LoraConfig(
        target_modules=list(kept),
        rank_pattern={f"^{path}": rank for path, rank in kept.items()},
        alpha_pattern={f"^{path}": scale * rank for path, rank in kept.items()},
    )
    return get_peft_model(encoder, config)  # type: ignore[no-any-return]


def train_model(
    model: nn.Module, head: nn.Module, data: Tokenised, job: Job, setting: Setting
) -> None:
    """Train adapters and head on the squared error of the rating."""
    parameters = [p for p in (*model.parameters(), *head.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=job.learning_rate, weight_decay=0.0, fused=True)
    batches = data.batches(setting.batch, job.seed)
    is_adalora = job.arm not in PLAIN_LORA
    model.train()
    for step in range(setting.steps):
        indices = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = job.learning_rate * learning_rate_factor(step, setting.steps)
        predicted = head(mean_pooled(model, data.inputs(indices))).squeeze(-1)
        loss = mse_loss(predicted, data.ratings[indices] / RATING_UNIT)
        if is_adalora:
            loss = loss + model.orthogonality_penalty()
        loss.backward()
        optimizer.step()
        if is_adalora and job.arm != "never":
            model.update_and_allocate(step)
        optimizer.zero_grad()
    model.eval()


@torch.no_grad()
def predict(model: nn.Module, head: nn.Module, data: Tokenised) -> Tensor:
    """Return one prediction for each sentence."""
    predictions = torch.empty_like(data.ratings)
    for indices in data.lengths.argsort().split(64):
        predictions[indices] = head(mean_pooled(model, data.inputs(indices))).squeeze(-1)
    return predictions


def spearman(predictions: Tensor, ratings: Tensor) -> float:
    """Return the rank correlation; 0 if all predictions are the same."""
    if not predictions.isfinite().all() or bool((predictions == predictions[0]).all()):
        return 0.0
    return torch.corrcoef(torch.stack([ranked(predictions), ranked(ratings)]))[0, 1].item()


def ranked(values: Tensor) -> Tensor:
    """Return the rank of each value; equal values share the mean of theirs."""
    _, places, counts = values.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts - 1) / 2.0)[places].double()


def machine() -> str:
    """Return the processor and the versions that a result depends on."""
    import peft
    import transformers

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return (
        f"{names[0] if names else platform.machine()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, PEFT {peft.__version__}"
    )

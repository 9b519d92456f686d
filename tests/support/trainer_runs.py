"""Runs of transformers' Trainer over the small language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from adalora_runs import make
from toy_models import tiny_llama, token_batch
from transformers import Trainer, TrainingArguments

from adalora_core.trainers.transformers import AdaLoraCallback

STEPS = 24
LLAMA = {
    "task_type": "CAUSAL_LM",
    "target_modules": ["q_proj", "v_proj"],
    "init_r": 6,
    "target_r": 3,
    "tinit": 4,
    "tfinal": 6,
    "total_step": STEPS,
}
TARGET_BUDGET = 12


class Sequences(torch.utils.data.Dataset):
    """As many sequences as asked for, each with its number."""

    def __init__(self, length: int = 128) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: each[0] for name, each in token_batch(index, batch=1).items()}


def llama(library: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """Return the small language model with an adapter of `library`, always the same."""
    base = tiny_llama(dtype)
    return make(library, base, **{**LLAMA, **changes})


def arguments_for(folder: Path, **changes: Any) -> TrainingArguments:
    """Return the arguments of a run on a CPU that writes nothing."""
    settings: dict[str, Any] = {
        "output_dir": str(folder), "max_steps": STEPS, "per_device_train_batch_size": 4,
        "learning_rate": 1e-2, "logging_steps": 4, "save_strategy": "no", "report_to": [],
        "disable_tqdm": True, "use_cpu": True,
    }  # fmt: skip
    return TrainingArguments(**settings | changes)


def trainer_for(model: Any, folder: Path, *, callback: bool = True, **arguments: Any) -> Trainer:
    """Return a Trainer over `model` with the callback, or without."""
    settings = arguments_for(folder, **arguments)
    trainer = Trainer(model, settings, train_dataset=Sequences(), eval_dataset=Sequences(8))
    if callback:
        AdaLoraCallback().add_to(trainer)
    return trainer

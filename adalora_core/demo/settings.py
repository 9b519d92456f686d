"""Define the settings of the demo: sizes, schedule and learning rate, full and quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TARGET_MODULES = ["query", "key", "value", "intermediate.dense", "output.dense"]
"""Suffixes of the six linear layers of a BERT block; `output.dense` matches two."""


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """The settings that decide the outcome of one run.

    The learning rate, of adapters and head, rises over `warmup_fraction` of the steps and falls to
    `floor_fraction` of its peak. `split_seed` decides which words are held out, and `seed` initial
    values, batch order and dropout.
    """

    train_words: int = 5000
    held_out_words: int = 1500
    epochs: int = 2
    batch_size: int = 32
    learning_rate: float = 2e-3
    warmup_fraction: float = 0.06
    floor_fraction: float = 0.02
    split_seed: int = 0
    seed: int = 0
    init_r: int = 6
    target_r: int = 4
    tinit: int = 47
    tfinal: int = 109
    deltaT: int = 5  # noqa: N815 - the wire name

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch; the last batch may be smaller."""
        return -(-self.train_words // self.batch_size)

    @property
    def total_step(self) -> int:
        """Optimizer steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    def configuration(self) -> dict[str, Any]:
        """Return the AdaLoRA configuration as a user would write it into a JSON file."""
        return {
            "peft_type": "ADALORA",
            "task_type": "FEATURE_EXTRACTION",
            "target_modules": TARGET_MODULES,
            "init_r": self.init_r,
            "target_r": self.target_r,
            "lora_alpha": 12,
            "lora_dropout": 0.0,
            "tinit": self.tinit,
            "tfinal": self.tfinal,
            "deltaT": self.deltaT,
            "orth_reg_weight": 0.1,
            "total_step": self.total_step,
        }

    def learning_rate_factor(self, step: int) -> float:
        """Return the factor on the peak learning rate at the 0-based `step`.

        Example:
            >>> settings = DemoSettings()
            >>> [round(settings.learning_rate_factor(step), 2) for step in (0, 18, 166, 313)]
            [0.05, 1.0, 0.51, 0.02]
        """
        warmup = max(1, round(self.warmup_fraction * self.total_step))
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(1, self.total_step - 1 - warmup)
        return 1.0 - (1.0 - self.floor_fraction) * progress


FULL = DemoSettings()
QUICK = DemoSettings(train_words=384, held_out_words=200, tinit=3, tfinal=8, deltaT=1)
"""The smoke test: the same path with fewer words; its accuracy has no meaning."""

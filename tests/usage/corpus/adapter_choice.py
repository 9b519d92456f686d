"""Adapters by name, for the Seq2SeqTrainer recipes in ``recipes/``."""
from dataclasses import dataclass
from typing import Literal

from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftConfig, TaskType


@dataclass(frozen=True, slots=True)
class Schedule:
    total: int
    warm: int
    tail: int
    every: int = 10


Method = Literal["lora", "dora", "adalora", "ia3"]


def adapter(method: Method, rank: int, schedule: Schedule, targets: list[str] | None = None) -> PeftConfig:
    common = {"task_type": TaskType.SEQ_2_SEQ_LM, "target_modules": targets}
    match method:
        case "lora" | "dora":
            return LoraConfig(r=rank, lora_alpha=2 * rank, use_dora=method == "dora", **common)
        case "adalora":
            return AdaLoraConfig(
                target_r=rank,
                init_r=rank + rank // 2,
                lora_alpha=2 * rank,
                tinit=schedule.warm,
                tfinal=schedule.tail,
                deltaT=schedule.every,
                total_step=schedule.total,
                **common,
            )
        case "ia3":
            return IA3Config(feedforward_modules=[], **common)
        case _:
            raise ValueError(f"no adapter called {method!r}")


def needs_rank_callback(config: PeftConfig) -> bool:
    return isinstance(config, AdaLoraConfig)

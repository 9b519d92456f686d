from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, get_linear_schedule_with_warmup


@dataclass(frozen=True)
class Plan:
    method: str = "adalora"
    epochs: int = 3
    lr: float = 2e-4
    warmup: float = 0.06


def adapt(base: PreTrainedModel, steps: int) -> PeftModel:
    return get_peft_model(base, AdaLoraConfig(
        task_type="SEQ_CLS",
        init_r=10,
        target_r=5,
        lora_alpha=20,
        tinit=steps // 12,
        tfinal=steps // 3,
        deltaT=8,
        total_step=steps,
        target_modules=["q_lin", "v_lin"],
    ))


def losses(base: PreTrainedModel, batches: Iterable[dict], per_epoch: int, plan: Plan) -> Iterator[float]:
    steps = per_epoch * plan.epochs
    model = adapt(base, steps).train()
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=plan.lr)
    schedule = get_linear_schedule_with_warmup(optimizer, int(plan.warmup * steps), steps)
    global_step = 0
    for _ in range(plan.epochs):
        for batch in batches:
            global_step += 1
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            if plan.method == "adalora":
                tuner = getattr(model, "base_model", None)
                if tuner is not None and hasattr(tuner, "update_and_allocate"):
                    tuner.update_and_allocate(global_step)
            schedule.step()
            optimizer.zero_grad()
            yield loss.item()


def mean_loss(*args, **kwargs) -> float:
    seen = list(losses(*args, **kwargs))
    return sum(seen) / len(seen)

"""Throughput of the multi-task defect model on one machine."""
from __future__ import annotations

import time
from typing import Any, Iterable

import torch
from transformers import get_linear_schedule_with_warmup

from defects.model import build_adalora_model, task_losses

ACCUMULATION = 4
UPDATES = 939


def _update(model: Any, optimizer: Any, scheduler: Any, number: int, limit: float) -> int:
    torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
    optimizer.step()
    scheduler.step()
    number += 1
    model.base_model.update_and_allocate(number)
    optimizer.zero_grad(set_to_none=True)
    return number


def exposure(batches: Iterable[dict], *, limit: float = 1.0, lr: float = 3e-4) -> dict[str, float]:
    model = build_adalora_model(total_step=UPDATES).to("mps")
    optimizer = torch.optim.AdamW((w for w in model.parameters() if w.requires_grad), lr=lr)
    scheduler = get_linear_schedule_with_warmup(optimizer, 56, UPDATES)
    optimizer.zero_grad(set_to_none=True)
    number = examples = 0
    begin = time.monotonic()
    model.train()
    for index, batch in enumerate(batches, 1):
        labels = batch.pop("labels")
        losses = task_losses(model(**batch).logits, labels)
        if not all(torch.isfinite(value) for value in losses.values()):
            raise RuntimeError("a loss is not finite")
        (losses["total"] / ACCUMULATION).backward()
        examples += len(labels)
        if index % ACCUMULATION == 0:
            number = _update(model, optimizer, scheduler, number, limit)
    seconds = time.monotonic() - begin
    return {"updates": number, "examples_per_second": examples / seconds}

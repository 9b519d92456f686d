"""What the processes do in tests of PEFT's models under DDP and FSDP2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import peft
import torch
from distributed_runs import SETTINGS, STEPS, Blocks, Trace, train, wrap

from adalora_core.integrations.distributed import check_agreement
from adalora_core.integrations.peft import attach

if TYPE_CHECKING:
    from pathlib import Path


def attached(**changes: Any) -> Any:
    """Return PEFT's model of `Blocks`, attached."""
    base = Blocks()
    torch.manual_seed(2)
    return attach(peft.get_peft_model(base, peft.AdaLoraConfig(**{**SETTINGS, **changes})))


def run(_rank: int, kind: str, changes: dict[str, Any]) -> Trace:
    """Make, wrap and train; the factors end under the names that ours have."""
    model = attached(**changes)
    wrapped = wrap(model, kind)
    trace = train(wrapped, model, range(STEPS))
    check_agreement(wrapped)
    return trace


def save_at(rank: int, kind: str, stop: int, folder: Path) -> None:
    """Train until before `stop` and save with PEFT's method, as scripts do."""
    model = attached()
    train(wrap(model, kind), model, range(stop))
    model.save_pretrained(
        folder / f"by-{kind}", is_main_process=rank == 0, save_training_state=stop < STEPS or None
    )

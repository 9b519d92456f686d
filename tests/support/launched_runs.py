"""A script for launchers: train the small language model, and let rank 0 write what came out.

    torchrun --nproc-per-node 2 launched_runs.py JOB LIBRARY RESULT

JOB is a function of this file. Every run takes 8 sequences per optimizer step, however many
processes there are.
"""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import sharded_jobs
import torch
from accelerate import Accelerator
from adalora_runs import optimizer_of
from distributed_runs import whole_parameters
from process_groups import leave
from torch import distributed
from toy_models import token_batch
from trainer_runs import STEPS, llama, trainer_for

from adalora_core import allocate_on_step
from adalora_core.trainers.distributed import check_agreement

GLOBAL_BATCH = 8
ACCUMULATED = 2
STOP = 11


def world_size() -> int:
    """Return how many processes there are, before they have found each other."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def arguments(**changes: Any) -> dict[str, Any]:
    """Return Trainer's arguments for this process's part of the batch."""
    part = GLOBAL_BATCH // ACCUMULATED // world_size()
    return {
        "per_device_train_batch_size": part,
        "gradient_accumulation_steps": ACCUMULATED,
        "ddp_backend": "gloo" if world_size() > 1 else None,
        **changes,
    }


def with_trainer(library: str, folder: Path) -> Any:
    """Train, then resume in new models from the checkpoint of the middle."""
    whole = llama(library, torch.float64)
    saving = {"save_strategy": "steps", "save_steps": STOP}
    trainer_for(whole, folder, **arguments(**saving)).train()
    resumed = trainer_resumed(library, folder)
    for (name, expected), found in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(found, expected), f"resumed: {name}"
    return whole


def trainer_resumed(library: str, folder: Path) -> Any:
    """Resume in a new model from a checkpoint that any number of processes has written."""
    resumed = llama(library, torch.float64)
    again = trainer_for(resumed, folder / "again", **arguments())
    again.train(resume_from_checkpoint=str(folder / f"checkpoint-{STOP}"))
    return resumed


def with_label_smoothing(library: str, folder: Path) -> Any:
    """Train with a loss that Trainer computes."""
    model = llama(library, torch.float64)
    trainer_for(model, folder, **arguments(label_smoothing_factor=0.1)).train()
    return model


def with_accelerate(library: str, folder: Path) -> Any:
    """Train in a loop of one's own, with a hook on the optimizer."""
    del folder
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=ACCUMULATED)
    model = llama(library, torch.float64).train()
    wrapped, optimizer = accelerator.prepare(model, optimizer_of(model))
    allocate_on_step(optimizer, wrapped)
    rank, world = accelerator.process_index, accelerator.num_processes
    for micro_batch in range(STEPS * ACCUMULATED):
        part = token_batch(micro_batch, batch=GLOBAL_BATCH // ACCUMULATED)
        with accelerator.accumulate(wrapped):
            mine = {name: each[rank::world] for name, each in part.items()}
            accelerator.backward(wrapped(**mine).loss)
            optimizer.step()
            optimizer.zero_grad()
    model.base_model.finalize()
    return model


def divided(name: str, library: str, folder: Path) -> Any:
    """Do a job under FSDP2, in a single process without it."""
    return sharded_jobs.JOBS[name](library, folder, world_size())


IN_PLACE = (with_trainer, trainer_resumed, with_label_smoothing, with_accelerate)
JOBS = {
    **{each.__name__: each for each in IN_PLACE},
    **{name: partial(divided, name) for name in sharded_jobs.JOBS},
}


def outcome(model: Any) -> dict[str, Any]:
    """Return what two runs are compared by."""
    allocator = model.base_model.trained_adapters()[0].allocator
    return {
        "parameters": whole_parameters(model),
        "ranks": allocator.rank_history(),
        "budgets": [each.budget for each in allocator.history],
        "last_step": allocator.last_step,
    }


def main() -> None:
    """Do the job of the command line."""
    job, library, result = sys.argv[1:]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as own:
        # One folder for all processes: the first writes checkpoints, all read them.
        folder = Path(result).parent / "checkpoints" if world_size() > 1 else Path(own)
        model = JOBS[job](library, folder)
    assert distributed.is_initialized() == (world_size() > 1)
    check_agreement(model)
    found = outcome(model)  # every process gathers
    if int(os.environ.get("RANK", "0")) == 0:
        torch.save(found | {"world": world_size()}, result)
    if distributed.is_initialized():
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
    leave()

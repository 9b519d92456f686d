"""Jobs of `launched_runs` under FSDP2; a single process does the same without it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import FullyShardedDataParallelPlugin
from adalora_runs import load_again, optimizer_of
from distributed_runs import whole_parameters
from fsdp_on_cpu import force_fsdp
from toy_models import token_batch
from trainer_runs import STEPS, llama, trainer_for

from adalora_core import allocate_on_step

GLOBAL_BATCH = 8
ACCUMULATED = 2
STOP = 11
MAX_NORM = 0.01
"""Smaller than the norm of every step, so that all of them are clipped."""
BLOCKS = ["LlamaDecoderLayer"]


def assert_equal(found: Any, expected: Any) -> None:
    """Compare what two models train, bit for bit."""
    wanted = whole_parameters(expected)
    for name, parameter in whole_parameters(found).items():
        assert torch.equal(parameter, wanted[name]), name


def _arguments(world: int, files: str, **more: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "per_device_train_batch_size": GLOBAL_BATCH // ACCUMULATED // world,
        "per_device_eval_batch_size": GLOBAL_BATCH // world,
        "gradient_accumulation_steps": ACCUMULATED,
        "max_grad_norm": MAX_NORM,
        "eval_strategy": "steps",
        "eval_steps": 5,
    }
    if world > 1:
        force_fsdp()
        config = {
            "version": 2,
            "transformer_layer_cls_to_wrap": BLOCKS,
            "state_dict_type": f"{files}_STATE_DICT",
        }
        arguments |= {"ddp_backend": "gloo", "fsdp": True, "fsdp_config": config}
    return arguments | more


def _make(library: str) -> Any:
    total_step = "auto" if library == "adalora_core" else STEPS
    return llama(library, torch.float64, total_step=total_step)


def with_trainer(library: str, folder: Path, world: int, *, files: str) -> Any:
    """Train, resume in a new model from the checkpoint of the middle, save the adapter."""
    saving = {"save_strategy": "steps", "save_steps": STOP}
    whole = _make(library)
    trainer = trainer_for(whole, folder, **_arguments(world, files, **saving))
    trainer.train()
    if files == "FULL":
        trainer.save_model(str(folder / "final"))
    else:
        # With these files Trainer's method writes nothing.
        whole.save_pretrained(folder / "final")
    resumed = resume_trainer(library, folder, world, files=files)
    assert_equal(resumed, whole)
    return resumed


def resume_trainer(library: str, folder: Path, world: int, *, files: str) -> Any:
    """Resume in a new model from a checkpoint that any number of processes has written."""
    resumed = _make(library)
    again = trainer_for(resumed, folder / "again", **_arguments(world, files))
    again.train(resume_from_checkpoint=str(folder / f"checkpoint-{STOP}"))
    return resumed


def with_best_model(library: str, folder: Path, world: int, *, best: int, files: str) -> Any:
    """Train, let Trainer load the checkpoint `best`, and save the adapter.

    The loss becomes smaller, so the first checkpoint, 10, or the last one, 24, is the best.
    """
    saving = {
        "save_strategy": "steps",
        "save_steps": 10,
        "eval_steps": 10,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": best == 10,
    }
    model = _make(library)
    trainer = trainer_for(model, folder, **_arguments(world, files, **saving))
    trainer.train()
    assert trainer.state.best_model_checkpoint == str(folder / f"checkpoint-{best}")
    model.save_pretrained(folder / "final")
    return model


def with_accelerate(library: str, folder: Path, world: int) -> Any:
    """Train in a loop of one's own, resume in a new model in the middle, save the adapter."""
    plugin = None
    if world > 1:
        force_fsdp()
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            auto_wrap_policy="transformer_based_wrap",
            transformer_cls_names_to_wrap=BLOCKS,
        )
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=ACCUMULATED, fsdp_plugin=plugin)
    make = partial(llama, library, torch.float64)
    whole, first = _prepared(accelerator, make)
    _train(accelerator, whole, first, range(STOP))
    accelerator.save_state(str(folder / "state"))
    whole.save_pretrained(folder / "state", save_training_state=True)
    _train(accelerator, whole, first, range(STOP, STEPS))
    accelerator.free_memory()
    resumed, second = _prepared(accelerator, make)
    accelerator.load_state(str(folder / "state"))
    load_again(resumed, folder / "state")
    _train(accelerator, resumed, second, range(STOP, STEPS))
    assert_equal(resumed, whole)
    resumed.finalize()
    resumed.save_pretrained(folder / "final")
    return resumed


def _prepared(accelerator: Any, make: Callable[[], Any]) -> tuple[Any, Any]:
    model = make().train()
    model, optimizer = accelerator.prepare(model, optimizer_of(model))
    allocate_on_step(optimizer, model)
    return model, optimizer


def _train(accelerator: Any, model: Any, optimizer: Any, steps: range) -> None:
    rank, world = accelerator.process_index, accelerator.num_processes
    for step in steps:
        for part in range(ACCUMULATED):
            batch = token_batch(step * ACCUMULATED + part, batch=GLOBAL_BATCH // ACCUMULATED)
            with accelerator.accumulate(model):
                mine = {name: each[rank::world] for name, each in batch.items()}
                accelerator.backward(model(**mine).loss)
                if accelerator.sync_gradients:
                    norm = accelerator.clip_grad_norm_(model.parameters(), MAX_NORM)
                    assert norm > MAX_NORM
                optimizer.step()
                optimizer.zero_grad()


JOBS = {
    "fsdp2_trainer": partial(with_trainer, files="FULL"),
    "fsdp2_trainer_sharded_files": partial(with_trainer, files="SHARDED"),
    "fsdp2_trainer_resumed": partial(resume_trainer, files="FULL"),
    "fsdp2_trainer_sharded_files_resumed": partial(resume_trainer, files="SHARDED"),
    **{
        f"fsdp2_best_model_{best}_{files}": partial(with_best_model, best=best, files=files)
        for best in (10, 24)
        for files in ("FULL", "SHARDED")
    },
    "fsdp2_accelerate": with_accelerate,
}

"""A script for torchrun: train the small language model under DeepSpeed, as users do.

    torchrun --nproc-per-node 2 zero_runs.py JOB LIBRARY RESULT

Without a launcher the same job runs in one process, without DeepSpeed. DeepSpeed keeps its own
copy of the factors in float32, so the runs are in float32.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from launched_runs import ACCUMULATED, GLOBAL_BATCH, STOP, outcome, world_size
from process_groups import leave
from torch import distributed
from toy_models import token_batch
from trainer_runs import STEPS, llama, trainer_for

from adalora_core import allocate_on_step
from adalora_core.trainers.distributed import check_agreement

CLIPPED = 0.05


def settings(stage: int, **more: Any) -> dict[str, Any]:
    """Return DeepSpeed's configuration."""
    return {
        "train_micro_batch_size_per_gpu": GLOBAL_BATCH // ACCUMULATED // world_size(),
        "gradient_accumulation_steps": ACCUMULATED,
        "gradient_clipping": CLIPPED,
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        **more,
    }


def with_loop(
    library: str, folder: Path, stage: int = 2, *, start: bool | str = True, **more: Any
) -> Any:
    """Train in a loop of one's own, with a hook on the engine."""
    del folder
    model = llama(library, init_lora_weights=start).train()
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    engine = None
    if world_size() > 1:
        import deepspeed

        engine, *_ = deepspeed.initialize(
            model=model,
            model_parameters=trained,
            optimizer=optimizer,
            config=settings(stage, **more),
        )
    allocate_on_step(engine or optimizer, model)
    rank = distributed.get_rank() if engine else 0
    for micro_batch in range(STEPS * ACCUMULATED):
        part = token_batch(micro_batch, batch=GLOBAL_BATCH // ACCUMULATED)
        mine = {name: each[rank :: world_size()] for name, each in part.items()}
        if engine:
            engine.backward(engine(**mine).loss)
            engine.step()
            continue
        (model(**mine).loss / ACCUMULATED).backward()
        if (micro_batch + 1) % ACCUMULATED == 0:
            torch.nn.utils.clip_grad_norm_(trained, CLIPPED)
            optimizer.step()
            optimizer.zero_grad()
    model.base_model.finalize()
    return model


def with_zero1(library: str, folder: Path) -> Any:
    """Train in a loop under ZeRO-1."""
    return with_loop(library, folder, 1)


def like_lora(library: str, folder: Path) -> Any:
    """Train an adapter that starts like LoRA in a loop."""
    return with_loop(library, folder, start="lora")


def with_bfloat16(library: str, folder: Path) -> Any:
    """Train a copy of the factors in bfloat16."""
    return with_loop(library, folder, 1, bf16={"enabled": True})


def arguments() -> dict[str, Any]:
    """Return Trainer's arguments for this process's part of the batch."""
    return {
        "per_device_train_batch_size": GLOBAL_BATCH // ACCUMULATED // world_size(),
        "per_device_eval_batch_size": GLOBAL_BATCH // world_size(),
        "gradient_accumulation_steps": ACCUMULATED,
        "max_grad_norm": CLIPPED,
        "optim": "adamw_torch",
        "deepspeed": settings(2) if world_size() > 1 else None,
    }


def with_best_model(library: str, folder: Path) -> Any:
    """Train, and let Trainer load the first checkpoint, whose loss is the largest."""
    model = llama(library)
    selection = {
        "save_strategy": "steps",
        "save_steps": STOP,
        "eval_strategy": "steps",
        "eval_steps": STOP,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": True,
    }
    trainer = trainer_for(model, folder, **arguments(), **selection)
    trainer.train()
    assert trainer.state.best_model_checkpoint == str(folder / f"checkpoint-{STOP}")
    return model


def with_trainer(library: str, folder: Path) -> Any:
    """Train, then resume in a new model from the checkpoint of the middle."""
    division = arguments()
    whole = llama(library)
    saving = {"save_strategy": "steps", "save_steps": STOP}
    trainer_for(whole, folder, **division, **saving).train()
    resumed = llama(library)
    again = trainer_for(resumed, folder / "again", **division)
    again.args.resume_from_checkpoint = str(folder / f"checkpoint-{STOP}")
    again.train(resume_from_checkpoint=again.args.resume_from_checkpoint)
    for (name, expected), found in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(found, expected), f"resumed: {name}"
    return whole


def without_hook(library: str, folder: Path) -> Any:
    """Train as if DeepSpeed were not there: refused."""
    del folder
    import deepspeed

    model = llama(library).train()
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings(2))
    engine(**token_batch(0, batch=2))
    return model


JOBS = {
    each.__name__: each
    for each in (
        *(with_loop, with_zero1, like_lora, with_bfloat16),
        *(with_trainer, with_best_model, without_hook),
    )
}


def without_building() -> None:
    """Do without DeepSpeed's own exchange through shared memory, which takes minutes to build."""
    import deepspeed  # noqa: F401 - loads the module

    # `deepspeed.comm.torch` as an attribute is torch itself.
    sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]


def main() -> None:
    """Do the job of the command line."""
    without_building()
    job, library, result = sys.argv[1:]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as own:
        folder = Path(result).parent / "checkpoints" if world_size() > 1 else Path(own)
        model = JOBS[job](library, folder)
    check_agreement(model)
    if distributed.get_rank() == 0:
        torch.save(outcome(model), result)
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
    leave()
